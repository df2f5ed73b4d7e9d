"""The state of a memory as a vector: its values through an episode, its length, speed and direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.analysis.probes.episodes import as_its_own, first_steps
from memsuite.controllers import Controller
from memsuite.errors import UsageError, unknown
from memsuite.types import State

Read = Literal["state", "features"]


@torch.no_grad()
def states_over_time(
    controller: Controller, observations: Tensor, every: int = 1, read: Read = "state", layer: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield the state of a memory after every ``every``-th step, always including the first and the last.

    States are yielded one at a time, so that long episodes of a large state need the memory of one state.

    Args:
        controller: the memory, trained or not.
        observations: episodes ``[T, B, D]`` from their first step.
        every: number of steps between two states.
        read: ``state``, the whole state as one vector, including integers, or ``features``, which the policy reads.
        layer: the layer of a stack whose state is read; None for all of them.

    Yields:
        The step, from 0, and the state or features ``[B, S]``.
    """
    if every < 1:
        raise UsageError(f"every is {every}; the least is 1")
    if read not in get_args(Read):
        raise unknown("part to read", read, get_args(Read))
    x = as_its_own(controller, observations)
    is_first, state, begin = first_steps(x), controller.init_state(x.shape[1]), 0
    ends = sorted({1, *range(1, len(x) + 1, every), len(x)})
    for end in ends:
        features, state = controller.forward_sequence(x[begin:end], state, is_first[begin:end])
        yield end - 1, features[-1] if read == "features" else flatten(state, layer)
        begin = end


def flatten(state: State, layer: int | None = None) -> Tensor:
    """Flatten a state to one vector per episode, ``[B, S]``; only the state of ``layer`` if it is given."""
    if layer is not None:
        if not isinstance(state, tuple) or not -len(state) <= layer < len(state):
            raise UsageError(f"layer {layer} has no state of its own in this controller")
        state = state[layer]
    leaves = [torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in pytree.tree_leaves(state)]
    kind = next((leaf.dtype for leaf in leaves if leaf.is_floating_point()), torch.get_default_dtype())
    return torch.cat([leaf.flatten(1) if leaf.dim() > 1 else leaf.unsqueeze(1) for leaf in leaves], 1).to(kind)


@dataclass(frozen=True)
class Drift:
    """The movement of a state, at ``K`` steps of ``B`` episodes.

    Attributes:
        steps: ``[K]``, from 0.
        norm: ``[K, B]`` Euclidean length of the state.
        speed: ``[K, B]`` distance from the state before, per step; NaN at the first.
        cosine: ``[K, B]`` cosine with the state right after the cue; NaN where a state is zero.
    """

    steps: Tensor
    norm: Tensor
    speed: Tensor
    cosine: Tensor


def drift(
    controller: Controller,
    observations: Tensor,
    every: int = 1,
    read: Read = "state",
    layer: int | None = None,
    since: int = 0,
) -> Drift:
    """Follow the state through episodes, for example those of :func:`cue_then_blanks`.

    An ideal memory has a cosine of 1 and no speed while nothing is shown. A policy can still read a state that rotates
    or shrinks, at the episode length that it was trained on.

    Args:
        controller: the memory.
        observations: episodes ``[T, B, D]``.
        every: number of steps between two measurements.
        read: ``state`` or ``features``.
        layer: the layer of a stack; None for all.
        since: step of the reference state for the cosine.
    """
    before = following = None
    rows: list[tuple[int, Tensor, Tensor, Tensor]] = []
    for step, state in states_over_time(controller, observations, every, read, layer):
        if following is None and step >= since:
            following = state
        passed = step - rows[-1][0] if rows else 1
        speed = state.new_full((len(state),), torch.nan) if before is None else (state - before).norm(dim=1) / passed
        cosine = torch.full_like(speed, torch.nan) if following is None else _cosine(state, following)
        rows.append((step, state.norm(dim=1), speed, cosine))
        before = state
    steps, *columns = zip(*rows, strict=True)
    return Drift(torch.tensor(steps), *(torch.stack(column) for column in columns))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    lengths: Tensor = a.norm(dim=1) * b.norm(dim=1)
    return (a * b).sum(1) / lengths  # 0 / 0: a state of zero has no direction
