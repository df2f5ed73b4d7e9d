"""The fork server of a suite imports this module first, and so ends with the suite, even while it still imports."""

from memsuite.system import die_with_parent

die_with_parent()
