"""How far training has moved the parameters of the memory and of the heads that read it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from memsuite.rl.actor_critic import ActorCritic


@torch.no_grad()
def memory_moved(model: ActorCritic, start: ActorCritic) -> dict[str, float]:
    """Return how far each part of the network moved, relative to its size at the start.

    Args:
        model: the network after training.
        start: the same network before training.

    Returns:
        ``|after - before| / |before|`` (Euclidean norms over all numbers of a part) of ``recurrent``, the parameters
        that determine what the memory keeps (:meth:`~memsuite.controllers.Controller.recurrent_parameters`);
        ``controller``, its other parameters; ``encoder``, those of the encoder of images; and ``heads``, the heads and
        the feature norm. A part without parameters is left out.
    """
    ends, begins = model.parameters_by_part(), start.parameters_by_part()
    parts = {
        name: [(after, before.to(after)) for after, before in zip(own, begins[name], strict=True)]
        for name, own in ends.items()
    }
    moved = {name: (_norm(a - b for a, b in pairs), _norm(b for _, b in pairs)) for name, pairs in parts.items()}
    return {name: float(distance / size) for name, (distance, size) in moved.items() if size > 0}


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm over all numbers of some tensors, real or complex."""
    return torch.stack([tensor.abs().double().square().sum() for tensor in tensors]).sum().sqrt()
