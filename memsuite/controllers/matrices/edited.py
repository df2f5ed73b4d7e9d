"""The common part of models whose matrix state decays by channels and is edited: heads, the state, the two modes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import at_least
from memsuite.controllers.matrix_memory import Aside
from memsuite.errors import UsageError
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


class EditedMatrix(ZeroBegin):
    """A layer of heads, each with a matrix state; the whole state is zero at the beginning of an episode.

    State: a dict with ``matrix``, ``[B, num_heads, width / num_heads, width / num_heads]``, and any other parts that a
    subclass adds ("aside"). A subclass defines how the input edits the state, once or several times a step, and how
    the output of the recurrence becomes features.

    Args:
        width: width of the input and of the features.
        num_heads: number of heads; ``width`` is a multiple of it.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        at_least("num_heads", num_heads, 1)
        if width % num_heads:
            raise UsageError(f"hidden_dim {width} is no multiple of num_heads {num_heads}")
        self.input_dim = self.feature_dim = width
        self.num_heads, self.head_dim = num_heads, width // num_heads

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

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
        """Map the recurrence's output ``[.., B, num_heads, head_dim]`` to features ``[.., B, width]``."""

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the initial parts of the state other than ``matrix``: zeros, with the device and type of ``like``."""
        return {}

    def heads(self, x: Tensor) -> Tensor:
        """Split ``[.., width]`` into ``[.., num_heads, head_dim]``."""
        return x.view(*x.shape[:-1], self.num_heads, -1)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros."""
        like = next(self.parameters())
        shape = batch_size, self.num_heads, self.head_dim, self.head_dim
        matrix = torch.zeros(shape, device=device or like.device, dtype=like.dtype)
        return {"matrix": matrix, **self.init_aside(batch_size, matrix)}

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        matrix, aside = _parts(state)
        plan = self.plan(x_BD, aside, None)
        for one in plan.edits:
            y, matrix = delta_step(plan.q, one.k, one.v, one.log_decay, matrix, one.erase, one.address)
        return self.read(y, x_BD, plan.more), {"matrix": matrix, **plan.aside}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Project all steps, run the scan over all edits, and read all outputs."""
        matrix, aside = _parts(self.reset_mask(state, is_first_TB[0]))
        plan = self.plan(x_TBD, aside, is_first_TB)
        edits, reset, count = plan.edits, is_first_TB, len(plan.edits)
        if count > 1:
            reset = torch.stack([reset, *[torch.zeros_like(reset)] * (count - 1)], dim=1).flatten(0, 1)
        q = _interleaved([plan.q] * count)
        k, v, log_decay = (_interleaved([one[at] for one in edits]) for at in range(3))
        erase, address = (
            _interleaved([one[at] for one in edits]) if edits[0][at] is not None else None for at in (3, 4)
        )
        y, matrix = delta_scan(q, k, v, log_decay, reset, matrix, erase, address)
        if count > 1:  # the output after the last edit of each step
            y = y.view(len(x_TBD), count, *y.shape[1:]).unbind(1)[-1]
        return self.read(y, x_TBD, plan.more), {"matrix": matrix, **plan.aside}


def _interleaved(parts: list[Any]) -> Tensor:
    """Join the edits of each step, ``[T, ..]`` each, to ``[T edits, ..]``."""
    joined: Tensor = parts[0] if len(parts) == 1 else torch.stack(parts, dim=1).flatten(0, 1)
    return joined


def _parts(state: State) -> tuple[Tensor, Aside]:
    aside = dict(cast(dict[str, Tensor], state))
    return aside.pop("matrix"), aside
