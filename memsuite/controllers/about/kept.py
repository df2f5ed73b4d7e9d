"""What a backward pass through time keeps: the bytes of one step, found by reading short sequences."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers.base import Controller
from memsuite.controllers.copies import copied

STEPS = (64, 128)  # lengths of the sequences: whole chunks of every model's
ROWS = 4  # environments of the sequences


def kept_per_step(controller: Controller, input_dim: int) -> float:
    """Return the bytes that the backward pass keeps of one step of one environment, at the least.

    They are the difference between two short sequences, so what does not grow with the steps does not count.

    Args:
        controller: a copy of it reads the sequences.
        input_dim: width of its input.

    Returns:
        The bytes; 0 where it cannot read a sequence, because a model of the user's own is tried out later, and told of
        in words of its own.
    """
    try:
        probe = copied(controller)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            few, many = (_kept(probe, steps, input_dim) for steps in STEPS)
    except Exception:
        return 0.0
    return max(0.0, many - few) / ((STEPS[1] - STEPS[0]) * ROWS)


def _kept(controller: Controller, steps: int, input_dim: int) -> float:
    """Return the bytes that a sequence keeps for its backward pass, besides parameters and inputs."""
    like = next(controller.parameters())
    x = like.new_zeros(steps, ROWS, input_dim)
    is_first = torch.zeros(steps, ROWS, dtype=torch.bool, device=like.device)
    known = {leaf.untyped_storage().data_ptr() for leaf in (x, *controller.parameters())}
    kept: dict[int, Tensor] = {}

    def pack(saved: Tensor) -> Tensor:
        if (place := saved.untyped_storage().data_ptr()) not in known:
            kept[place] = saved
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        features, _ = controller.forward_sequence(x, controller.init_state(ROWS, like.device), is_first)
    del features
    return float(sum(saved.untyped_storage().nbytes() for saved in kept.values()))
