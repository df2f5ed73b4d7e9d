"""The fork server of a suite imports this module first, and so ends with the suite, even while it still imports."""

import os

from memsuite.system import die_with_parent

OWNER = "MEMSUITE_FORK_SERVER_OF"  # the process that has started it, named in the environment by launch.py

if str(os.getppid()) == os.environ.get(OWNER):
    die_with_parent()
elif OWNER in os.environ:
    os._exit(0)  # it has ended in the meantime
