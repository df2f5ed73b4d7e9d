"""The laws of controllers, checked: two modes that agree, resets, cuts, bounded state, and what else a run relies on.

``check`` runs all of them on a controller, built in or a user's own; ``memsuite check`` prints what it found.
"""

from memsuite.laws.check import LAWS, Report, check
from memsuite.laws.compare import Finding

__all__ = ["LAWS", "Finding", "Report", "check"]
