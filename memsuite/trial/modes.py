"""The two modes of a controller of the user's own, held to each other: step by step, and a sequence at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memsuite.controllers.base import Controller
from memsuite.errors import UsageError
from memsuite.rl.randomness import own_randomness
from memsuite.types import State

FINE = 0.02  # how far modes may be apart, relative to the size of the features: rounding, on any device
COARSE = 0.5  # the same of modes that draw random numbers, each its own, or keep something outside the state


def check_modes(who: str, controller: Controller, x: Tensor, is_first: Tensor, acted: Tensor) -> None:
    """Refuse modes that do not give the same, or that do not begin with the state that they are given.

    Args:
        who: names the controller.
        controller: is tried.
        x: observations ``[T, B, D]``.
        is_first: bool ``[T, B]``.
        acted: what it gave step by step, ``[T, B, F]``.
    """
    with torch.no_grad():
        fixed = is_function(controller, x, is_first)
        drawn = "" if fixed else f"; every call gives others, which is allowed up to {COARSE:g} of their size"
        for how, features in _ways(controller, x, is_first):
            if apart(features, acted[-len(features) :]) > (FINE if fixed else COARSE):
                raise UsageError(
                    f"{who}: forward_sequence does not give the features that forward_step gives, step by step{how}"
                    f"{drawn}"
                )


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two features, relative to their size."""
    scale = other.double().square().mean().sqrt().clamp(min=1e-12)
    return float((one.double() - other.double()).abs().max() / scale)


def is_function(controller: Controller, x: Tensor, is_first: Tensor) -> bool:
    """Tell whether a controller gives the same a second time: it draws nothing, and keeps nothing outside its state."""
    pairs = []
    for seed in (0, 1):
        with own_randomness(seed):
            begun = [controller.init_state(x.shape[1], x.device) for _ in range(2)]
            read = controller.forward_sequence(x, begun[0], is_first)[0]
            pairs.append((read, _stepped(controller, x, begun[1], is_first)[0]))
    return all(apart(one, other) <= FINE for one, other in zip(*pairs, strict=True))


def _stepped(controller: Controller, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
    features = []
    for now, first in zip(x, is_first, strict=True):
        feature, state = controller.forward_step(now, controller.reset_mask(state, first))
        features.append(feature.clone())
    return torch.stack(features), state


def _ways(controller: Controller, x: Tensor, is_first: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield what is read at once: all steps, or the last half of them after a first half in the other mode."""
    half, begun = len(x) // 2, controller.init_state(x.shape[1], x.device)
    yield "", controller.forward_sequence(x, begun, is_first)[0]
    begun = controller.init_state(x.shape[1], x.device)
    state = _stepped(controller, x[:half], begun, is_first[:half])[1]
    late = x[half:], is_first[half:]
    yield ", from the state that it is given", controller.forward_sequence(late[0], state, late[1])[0]
    begun = controller.init_state(x.shape[1], x.device)
    state = controller.forward_sequence(x[:half], begun, is_first[:half])[1]
    yield ", with the state that it returns", _stepped(controller, late[0], state, late[1])[0]
