"""Lightning callbacks around the training loop: progress, checkpoints, curriculum, stopping at the target, record."""

from memsuite.callbacks.checkpoints import Checkpoints
from memsuite.callbacks.curriculum import Curriculum
from memsuite.callbacks.progress import ProgressBar
from memsuite.callbacks.record import RunRecord
from memsuite.callbacks.stopping import StopAtTarget

__all__ = ["Checkpoints", "Curriculum", "ProgressBar", "RunRecord", "StopAtTarget"]
