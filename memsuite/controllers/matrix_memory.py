"""The common part of models with a matrix state: heads, the state, the two modes, and the normalised output."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import EPSILON, at_least
from memsuite.errors import UsageError
from memsuite.ops import gated_out, matrix_scan, matrix_step
from memsuite.types import State

Aside = dict[str, Tensor]


class Drive(NamedTuple):
    """The inputs of the recurrence, ``[.., B, H, features]`` each; ``beta`` is given only with the delta rule."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor
    beta: Tensor | None = None


class MatrixState(ZeroBegin):
    """A layer of heads, each with a matrix state; the whole state is zero at the beginning of an episode.

    State: a dict with ``matrix``, ``[B, num_heads, key_dim, value_dim]``, and any other parts that a subclass adds
    ("aside").

    Args:
        width: width of the input and of the features.
        num_heads: number of heads; ``width`` is a multiple of it.
        extra: columns of the state beyond ``width / num_heads``.
    """

    def __init__(self, width: int, num_heads: int, extra: int = 0) -> None:
        super().__init__()
        at_least("num_heads", num_heads, 1)
        if width % num_heads:
            raise UsageError(f"hidden_dim {width} is no multiple of num_heads {num_heads}")
        self.input_dim = self.feature_dim = width
        self.num_heads, self.key_dim, self.value_dim = num_heads, width // num_heads, width // num_heads + extra

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def heads(self, x: Tensor) -> Tensor:
        """Split ``[.., width]`` into ``[.., num_heads, key_dim]``."""
        return x.view(*x.shape[:-1], self.num_heads, -1)

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the initial parts of the state other than ``matrix``: zeros, with the device and type of ``like``."""
        return {}

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros."""
        like = next(self.parameters())
        shape = batch_size, self.num_heads, self.key_dim, self.value_dim
        matrix = torch.zeros(shape, device=device or like.device, dtype=like.dtype)
        return {"matrix": matrix, **self.init_aside(batch_size, matrix)}

    @staticmethod
    def parts(state: State) -> tuple[Tensor, Aside]:
        """Return the matrix, and the other parts of a state."""
        aside = dict(cast(dict[str, Tensor], state))
        return aside.pop("matrix"), aside


class MatrixMemory(MatrixState):
    """A layer of heads whose matrix decays by one number for each head, with or without the delta rule.

    A subclass defines how the input drives the recurrence (:func:`memsuite.ops.matrix_scan`), and how the output of the
    recurrence becomes features.
    """

    @abstractmethod
    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Compute the inputs of the recurrence, and the other parts of the state after it.

        Args:
            x: ``[B, width]``, or ``[T, B, width]`` for a whole sequence.
            aside: the parts of the state other than ``matrix``.
            is_first_TB: bool ``[T, B]``; None for a single step, whose state has already been reset.
        """

    @abstractmethod
    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Map the recurrence's output ``[.., B, num_heads, value_dim]`` to features ``[.., B, width]``."""

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        matrix, aside = self.parts(state)
        drive, aside = self.drive(x_BD, aside, None)
        y, matrix = matrix_step(drive.q, drive.k, drive.v, drive.log_decay, matrix, drive.beta)
        return self.read(y, x_BD), {"matrix": matrix, **aside}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Project all steps, run the chunked scan, and read all outputs."""
        matrix, aside = self.parts(self.reset_mask(state, is_first_TB[0]))
        drive, aside = self.drive(x_TBD, aside, is_first_TB)
        y, matrix = matrix_scan(drive.q, drive.k, drive.v, drive.log_decay, is_first_TB, matrix, drive.beta)
        return self.read(y, x_TBD), {"matrix": matrix, **aside}


class HeadNorm(nn.Module):
    """A separate RMSNorm for each head; its weights are applied when the heads are mixed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def mixed(self, y: Tensor, gate: Tensor | None, out: nn.Linear, kind: int) -> Tensor:
        """Normalise ``[.., num_heads, features]``, gate, and map the joined heads to ``[.., width]``."""
        return gated_out(y, gate, out.weight * self.weight, EPSILON, kind)
