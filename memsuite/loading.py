"""Open a run: its checkpoint alone is enough, no YAML needed."""

from __future__ import annotations

from pathlib import Path

from memsuite.module import MemoryPPO
from memsuite.runs import RunConfig
from memsuite.runs.checkpoints import check_weights, completed_checkpoint, find_checkpoint, read_checkpoint


def load(path: str | Path) -> MemoryPPO:
    """Build the trained module from a run folder or a checkpoint file, on the CPU, in evaluation mode.

    The module carries its ``task``, its ``model`` (an :class:`~memsuite.rl.ActorCritic`) with the ``controller``, and
    ``evaluate(episodes, name)``.
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    module = MemoryPPO(RunConfig.from_plain(completed_checkpoint(checkpoint["memsuite"])))
    check_weights(path, checkpoint["state_dict"], module, module.config.controller)
    module.load_state_dict(checkpoint["state_dict"])
    module.course.load_state_dict(checkpoint["memsuite"])
    return module.eval()
