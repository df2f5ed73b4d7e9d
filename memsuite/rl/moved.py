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
    recurrent = {id(parameter) for parameter in model.controller.recurrent_parameters()}
    inside = {id(parameter) for parameter in model.controller.parameters()}
    images = set() if model.encoder is None else {id(parameter) for parameter in model.encoder.parameters()}
    owners = {"recurrent": recurrent, "controller": inside, "encoder": images}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in (*owners, "heads")}
    for (_, after), (_, before) in zip(model.named_parameters(), start.named_parameters(), strict=True):
        name = next((name for name, ids in owners.items() if id(after) in ids), "heads")
        parts[name].append((after, before.to(after)))
    moved = {name: (_norm(a - b for a, b in pairs), _norm(b for _, b in pairs)) for name, pairs in parts.items()}
    return {name: float(distance / size) for name, (distance, size) in moved.items() if size > 0}


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm over all numbers of some tensors, real or complex."""
    squares = [tensor.abs().double().square().sum() for tensor in tensors]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
