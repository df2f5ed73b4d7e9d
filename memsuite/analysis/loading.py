"""Open a run: its checkpoint alone is enough, no YAML needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from memsuite.errors import UsageError

if TYPE_CHECKING:
    from memsuite.module import MemoryPPO


def load(path: str | Path) -> MemoryPPO:
    """Build the trained module from a run folder or a checkpoint file, on the CPU, in evaluation mode.

    The module carries its ``task``, its ``model`` (an :class:`~memsuite.rl.ActorCritic`) with the ``controller``, and
    ``evaluate(episodes, name)``.
    """
    from memsuite.module import MemoryPPO
    from memsuite.rl import PPOConfig

    checkpoint = read_checkpoint(find_checkpoint(path))
    config = dict(checkpoint["memsuite"]["config"])
    module = MemoryPPO(**{**config, "ppo": PPOConfig(**config["ppo"])})
    module.load_state_dict(checkpoint["state_dict"])
    module.iteration = checkpoint["memsuite"]["iteration"]
    return module.eval()


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint a path means: itself, or the last one of a run folder."""
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UsageError(f"no checkpoint at {path}")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a memsuite checkpoint, plain values and tensors only; anything else is a usage error."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["memsuite"]["config"]
    except Exception as error:
        raise UsageError(f"{path} is not a whole memsuite checkpoint ({type(error).__name__})") from error
    return checkpoint  # type: ignore[no-any-return]
