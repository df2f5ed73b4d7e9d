"""The common part of models whose matrix state decays by channels and is edited: heads, the state, the two modes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memsuite.controllers.matrix_memory import Aside, MatrixState
from memsuite.ops import delta_scan
from memsuite.ops.scans.delta_scan import delta_step
from memsuite.types import State


class Edit(NamedTuple):
    """The inputs of one edit of the state (:func:`memsuite.ops.delta_scan`), ``[.., B, H, features]`` each."""

    k: Tensor
    v: Tensor
    log_decay: Tensor
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
    """A layer of heads whose matrix decays by channels and is edited, once or several times a step.

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
            y, matrix = delta_step(plan.q, one.k, one.v, one.log_decay, matrix, one.erase, one.address)
        return self.read(y, x_BD, plan.more), {"matrix": matrix, **plan.aside}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Project all steps, run the scan over all edits, and read all outputs."""
        matrix, aside = self.parts(self.reset_mask(state, is_first_TB[0]))
        plan = self.plan(x_TBD, aside, is_first_TB)
        edits, count = plan.edits, len(plan.edits)
        reset = at_first_edit(is_first_TB, count)
        q = interleaved([plan.q] * count)
        k, v, log_decay = (interleaved([one[at] for one in edits]) for at in range(3))
        if all(one.erase is one.k for one in edits):  # the delta rule: what is written and erased is joined once
            erase: Tensor | None = k
        else:
            erase = interleaved([one.erase for one in edits]) if edits[0].erase is not None else None
        address = interleaved([one.address for one in edits]) if edits[0].address is not None else None
        y, matrix = delta_scan(q, k, v, log_decay, reset, matrix, erase, address)
        return self.read(after_last_edit(y, count), x_TBD, plan.more), {"matrix": matrix, **plan.aside}


def at_first_edit(x: Tensor, count: int) -> Tensor:
    """Return ``[T count, ..]``: what holds at the first edit of each step, and zeros at its other edits."""
    return interleaved([x, *[torch.zeros_like(x)] * (count - 1)])


def after_last_edit(y: Tensor, count: int) -> Tensor:
    """Return the outputs of each step, ``[T, ..]``, from those after each edit, ``[T count, ..]``."""
    return y if count == 1 else y.view(-1, count, *y.shape[1:]).unbind(1)[-1]


def interleaved(parts: list[Any]) -> Tensor:
    """Join the edits of each step, ``[T, ..]`` each, to ``[T edits, ..]``."""
    joined: Tensor = parts[0] if len(parts) == 1 else torch.stack(parts, dim=1).flatten(0, 1)
    return joined
