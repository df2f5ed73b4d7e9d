"""Pseudo-Mamba: the simplest recurrence that can hold something, ``h_t = tanh(W x_t + h_{t-1})``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memsuite.controllers.base import VectorMemory
from memsuite.controllers.blocks import EPSILON, RMSNorm, Stack
from memsuite.ops import gated_out, narrow_linear, pscan
from memsuite.ops.fused.gated_out import SILU
from memsuite.types import State


class PseudoMambaLayer(VectorMemory):
    r"""An integrator with a soft wall: :math:`h_t = \tanh(W x_t + h_{t-1})`, features :math:`h_t`.

    The input map has no bias, so a blank input is no drive. Left alone, :math:`h` falls as
    :math:`(2t/3 + h_0^{-2})^{-1/2}`, a power law and not an exponential, and keeps its sign; a feature norm after it
    makes up for the scale. There are no recurrent weights: it adds up what it saw and cannot bind one thing to another.

    State: ``hidden_dim`` floats. Cost per step: ``input_dim * hidden_dim`` multiply-adds and ``hidden_dim`` tanh.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.input_map = nn.Linear(input_dim, hidden_dim, bias=False)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the feature is the state."""
        assert isinstance(state, Tensor)
        h = torch.tanh(self.input_map(x_BD) + state)
        return h, h

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan over the whole sequence."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        h_TBD = pscan(narrow_linear(x_TBD, self.input_map.weight), is_first_TB, state)
        return h_TBD, h_TBD[-1]


class GatedPseudoMambaLayer(PseudoMambaLayer):
    r"""The same integrator, normalised and gated by the input, so that it stacks:

    .. math::
        y_t = W_o (\mathrm{norm}(h_t) \odot \mathrm{silu}(W_z x_t + b_z))

    State: ``hidden_dim`` floats. Cost per step: ``hidden_dim (2 input_dim + hidden_dim)`` multiply-adds.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__(input_dim, hidden_dim)
        self.gate = nn.Linear(input_dim, hidden_dim)
        nn.init.ones_(self.gate.bias)  # so that a blank input is answered too
        self.norm = RMSNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def _read(self, h: Tensor, x: Tensor) -> Tensor:
        weight = self.out.weight * self.norm.weight
        return gated_out(h.unsqueeze(-2), self.gate(x), weight, EPSILON, SILU)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        h, state = super().forward_step(x_BD, state)
        return self._read(h, x_BD), state

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan, then read all its states."""
        h_TBD, state = super().forward_sequence(x_TBD, state, is_first_TB)
        return self._read(h_TBD, x_TBD), state


class PseudoMamba(Stack):
    r"""Integrators with a soft wall: :math:`h_t = \tanh(W x_t + h_{t-1})`.

    State: ``depth hidden_dim`` floats.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features and of every layer.
        depth: number of layers; beyond the first they are residual blocks.
        memory_horizon: accepted and not used; nothing in the recurrence has a time scale to set.
        mlp_ratio: of the blocks, if there are any (:class:`~memsuite.controllers.blocks.Stack`).
        gated: whether every layer, the first too, is a :class:`GatedPseudoMambaLayer` in a residual block.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        depth: int = 1,
        memory_horizon: int | None = None,
        mlp_ratio: float = 2.0,
        gated: bool = False,
    ) -> None:
        layer = GatedPseudoMambaLayer if gated else PseudoMambaLayer
        super().__init__(input_dim, hidden_dim, depth, lambda width: layer(width, hidden_dim), mlp_ratio, embed=gated)
