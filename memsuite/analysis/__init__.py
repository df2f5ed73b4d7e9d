"""Looking at finished runs; never imports what trains them at import time."""

from memsuite.analysis.loading import load

__all__ = ["load"]
