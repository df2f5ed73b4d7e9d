"""Pseudo-Mamba: the simplest recurrence that retains information, ``h_t = tanh(W x_t + h_{t-1})``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement, VectorMemory
from memsuite.controllers.blocks import EPSILON, RMSNorm
from memsuite.controllers.stack import stacked
from memsuite.ops import gated_out, narrow_linear, pscan
from memsuite.ops.fused.gated_out import SILU
from memsuite.types import State


class PseudoMambaLayer(VectorMemory):
    r"""An integrator with soft saturation: :math:`h_t = \tanh(W x_t + h_{t-1})`, features :math:`h_t`.

    The input projection has no bias, so a blank input adds nothing to the state. Over blank inputs :math:`h` decays as
    :math:`(2t/3 + h_0^{-2})^{-1/2}`, by a power law and not exponentially, and keeps its sign; a norm on the features
    compensates for their size. There are no recurrent weights, so the layer adds up its inputs and cannot bind one
    item to another.

    The gated layer is the same integrator, normalised and gated by its input, so that it can be stacked:

    .. math::
        y_t = W_o (\mathrm{norm}(h_t) \odot \mathrm{silu}(W_z x_t + b_z))

    State: ``hidden_dim`` floats. Cost per step: ``input_dim hidden_dim`` multiply-adds and ``hidden_dim`` tanh; gated,
    ``hidden_dim (2 input_dim + hidden_dim)`` multiply-adds.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
        gated: whether the features are normalised and gated; every layer, including the first, is then in a residual
            block.
    """

    abilities = Abilities("vector")

    def __init__(self, input_dim: int, hidden_dim: int = 128, gated: bool = False) -> None:
        super().__init__()
        self.input_dim, self.feature_dim, self.gated = input_dim, hidden_dim, gated
        self.input_map = nn.Linear(input_dim, hidden_dim, bias=False)
        if gated:
            self.gate = nn.Linear(input_dim, hidden_dim)
            nn.init.ones_(self.gate.bias)  # so that the output is not zero on a blank input
            self.norm = RMSNorm(hidden_dim)
            self.out = nn.Linear(hidden_dim, hidden_dim, bias=False)

    @classmethod
    def placement(cls, gated: bool = False, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first, if gated."""
        return Placement(embed=gated)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        h = torch.tanh(self.input_map(x_BD) + state)
        return self._read(h, x_BD), h

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan over the whole sequence, then read all its states."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        h_TBD = pscan(narrow_linear(x_TBD, self.input_map.weight), is_first_TB, state)
        return self._read(h_TBD, x_TBD), h_TBD[-1]

    def _read(self, h: Tensor, x: Tensor) -> Tensor:
        """Return the features: the state itself, or the state normalised and gated."""
        if not self.gated:
            return h
        weight = self.out.weight * self.norm.weight
        return gated_out(h.unsqueeze(-2), self.gate(x), weight, EPSILON, SILU)


PseudoMamba = stacked(PseudoMambaLayer)
