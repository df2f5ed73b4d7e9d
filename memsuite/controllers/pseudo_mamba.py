"""Pseudo-Mamba: the simplest recurrence that can hold something, ``h_t = tanh(W x_t + h_{t-1})``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memsuite.controllers.base import VectorMemory
from memsuite.ops import pscan
from memsuite.types import State


class PseudoMamba(VectorMemory):
    r"""An integrator with a soft wall: :math:`h_t = \tanh(W x_t + h_{t-1})`, features :math:`h_t`.

    The input map has no bias, so a blank input is no drive. Left alone, :math:`h` falls as
    :math:`(2t/3 + h_0^{-2})^{-1/2}`, a power law and not an exponential, and keeps its sign; a feature norm after it
    makes up for the scale. There are no recurrent weights: it adds up what it saw and cannot bind one thing to another.

    State: ``hidden_dim`` floats. Cost per step: ``input_dim * hidden_dim`` multiply-adds and ``hidden_dim`` tanh.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
        memory_horizon: accepted and not used; nothing in the recurrence has a time scale to set.
    """

    def __init__(self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None) -> None:
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
        h_TBD = pscan(self.input_map(x_TBD), is_first_TB, state)
        return h_TBD, h_TBD[-1]
