"""What happens around the training loop: progress, checkpoints, stopping at the target, the record of the run."""

from memsuite.callbacks.checkpoints import Checkpoints
from memsuite.callbacks.progress import ProgressBar
from memsuite.callbacks.record import RunRecord
from memsuite.callbacks.stopping import StopAtTarget

__all__ = ["Checkpoints", "ProgressBar", "RunRecord", "StopAtTarget"]
