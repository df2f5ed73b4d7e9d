"""Open a run: its checkpoint alone is enough, no YAML needed."""

from __future__ import annotations

from pathlib import Path

from memsuite.module import MemoryPPO


def load(path: str | Path) -> MemoryPPO:
    """Build the trained module from a run folder or a checkpoint file, on the CPU, in evaluation mode.

    The module carries its ``task``, its ``model`` (an :class:`~memsuite.rl.ActorCritic`) with the ``controller``, and
    ``evaluate(episodes, name)``.
    """
    return MemoryPPO.load_from_checkpoint(path).eval()
