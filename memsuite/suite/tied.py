"""The fork server of a suite imports this module first, and so ends with the suite, even while it still imports."""

import os

from memsuite.system import OWNER, die_with_parent

if str(os.getppid()) == os.environ.get(OWNER):
    die_with_parent()
elif OWNER in os.environ:
    os._exit(0)  # it has ended in the meantime
