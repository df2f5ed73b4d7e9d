"""Open a run: its checkpoint alone is enough, no YAML needed."""

from __future__ import annotations

from pathlib import Path

from memsuite.errors import UsageError
from memsuite.module import MemoryPPO


def load(path: str | Path, trust: bool = False) -> MemoryPPO:
    """Build the trained module from a run folder or a checkpoint file, on the CPU, in evaluation mode.

    The module carries its ``task``, its ``model`` (an :class:`~memsuite.rl.ActorCritic`) with the ``controller``, and
    ``evaluate(episodes, name)``.

    Args:
        path: of the run folder or the file.
        trust: import the modules that the file names, for a task, a controller or an environment of somebody's own.

    Raises:
        UsageError: there is no whole checkpoint, or it names a module and is not trusted.
    """
    try:
        return MemoryPPO.load_from_checkpoint(path, trust=trust).eval()
    except UsageError as error:
        raise error.with_traceback(None) from None  # the line says it; how memsuite came to it helps nobody
