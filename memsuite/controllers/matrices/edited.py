"""The common part of models whose matrix state is edited, once or several times a step: the state, the two modes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memsuite.controllers.matrix_memory import Aside, MatrixState
from memsuite.ops import matrix_scan, matrix_step
from memsuite.types import State


class Edit(NamedTuple):
    """The inputs of one edit of the state (:func:`memsuite.ops.matrix_scan`), ``[.., B, H, features]`` each.

    ``beta`` is ``[.., B, H]``, and so is ``log_decay`` where a head has one decay.
    """

    k: Tensor
    v: Tensor
    log_decay: Tensor
    beta: Tensor | None = None
    erase: Tensor | None = None
    address: Tensor | None = None


class Plan(NamedTuple):
    """What the inputs ask for: ``[.., B, H, features]`` for heads, ``[.., B, width]`` for the rest.

    Attributes:
        q: the queries.
        edits: the edits of a step, in their order.
        aside: the parts of the state other than ``matrix``, after the steps.
        more: what else the features are made of.
    """

    q: Tensor
    edits: list[Edit]
    aside: Aside
    more: tuple[Tensor, ...] = ()


class EditedMatrix(MatrixState):
    """A layer of heads whose matrix decays, as one or channel by channel, and is edited once or several times a step.

    A subclass defines how the input edits the state, and how the output of the recurrence becomes features.
    """

    @abstractmethod
    def plan(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> Plan:
        """Compute what the inputs ask for.

        Args:
            x: ``[B, width]``, or ``[T, B, width]`` for a whole sequence.
            aside: the parts of the state other than ``matrix``.
            is_first_TB: bool ``[T, B]``; None for a single step, whose state has already been reset.
        """

    @abstractmethod
    def read(self, y: Tensor, x: Tensor, more: tuple[Tensor, ...]) -> Tensor:
        """Map the recurrence's output ``[.., B, num_heads, key_dim]`` to features ``[.., B, width]``."""

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        matrix, aside = self.parts(state)
        plan = self.plan(x_BD, aside, None)
        for one in plan.edits:
            y, matrix = matrix_step(plan.q, one.k, one.v, one.log_decay, matrix, *one[3:])
        return self.read(y, x_BD, plan.more), {"matrix": matrix, **plan.aside}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Project all steps, run the scan over all edits, and read all outputs."""
        matrix, aside = self.parts(self.reset_mask(state, is_first_TB[0]))
        plan = self.plan(x_TBD, aside, is_first_TB)
        edits, count = plan.edits, len(plan.edits)
        reset = at_first_edit(is_first_TB, count)
        q = interleaved([plan.q] * count)
        k, v, log_decay, *rule = (interleaved(list(parts)) for parts in zip(*edits, strict=True))
        y, matrix = matrix_scan(q, k, v, log_decay, reset, matrix, *rule)
        return self.read(after_last_edit(y, count), x_TBD, plan.more), {"matrix": matrix, **plan.aside}


def at_first_edit(x: Tensor, count: int) -> Tensor:
    """Return ``[T count, ..]``: what holds at the first edit of each step, and zeros at its other edits."""
    joined: Tensor = interleaved([x, *[torch.zeros_like(x)] * (count - 1)])
    return joined


def after_last_edit(y: Tensor, count: int) -> Tensor:
    """Return the outputs of each step, ``[T, ..]``, from those after each edit, ``[T count, ..]``."""
    return y if count == 1 else y.view(-1, count, *y.shape[1:]).unbind(1)[-1]


def interleaved(parts: list[Any]) -> Any:
    """Join the edits of each step, ``[T, ..]`` each, to ``[T edits, ..]``; None where the edits lack a part."""
    return parts[0] if len(parts) == 1 or parts[0] is None else torch.stack(parts, dim=1).flatten(0, 1)
