"""The gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), with an initialisation that retains information."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from memsuite.controllers.about.abilities import RECURRENT
from memsuite.controllers.base import VectorMemory
from memsuite.controllers.blocks import unrounded
from memsuite.controllers.init import default_uniform_, gru_integrator_
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import gru_scan, narrow_linear, states_before
from memsuite.types import State


class GRULayer(VectorMemory):
    r"""Gated recurrent units, with the parameters, the gate order and the numerics of ``torch.nn.GRU``.

    .. math::
        r = \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}), \quad z = \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}) \\
        n = \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})), \quad h' = (1 - z) \odot n + z \odot h

    State: ``hidden_dim`` floats. Cost per step: ``3 hidden_dim (input_dim + hidden_dim)`` multiply-adds and
    ``3 hidden_dim`` sigmoids and tanhs.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
        memory_horizon: steps over which the initial weights should retain information
            (:func:`memsuite.controllers.init.gru_integrator_`); None for PyTorch's default initialisation.
        gain: factor by which a unit's candidate copies the unit's state; it needs a ``memory_horizon``. Up to 1, a
            state fades slowly. Above 1 (1.1 works well), every unit goes to one of two stable points and stays there:
            it is a latch that keeps the sign of its input, but not the size.
    """

    abilities = RECURRENT

    def __init__(
        self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_dim, input_dim))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_dim, hidden_dim))
        self.bias_ih = nn.Parameter(torch.empty(3 * hidden_dim))
        self.bias_hh = nn.Parameter(torch.empty(3 * hidden_dim))
        default_uniform_(self.parameters(), hidden_dim)
        if memory_horizon is None and gain != 1.0:
            raise UsageError(f"controller gru: gain {gain} needs a memory_horizon")
        if memory_horizon is not None:
            gru_integrator_(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, memory_horizon, gain)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the feature is the state."""
        assert isinstance(state, Tensor)
        h = unrounded(torch.gru_cell, x_BD, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return h, h

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute the input products at once, then run the recurrence."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        gates = narrow_linear(x_TBD, self.weight_ih, self.bias_ih)
        h_TBD = gru_scan(gates, is_first_TB, state, self.weight_hh, self.bias_hh)
        return h_TBD, h_TBD[-1]

    def gates(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> dict[str, Tensor]:
        """Return the gates ``reset`` r and ``update`` z at every step, ``[T, B, hidden_dim]`` each, for the probes."""
        h_TBD, _ = self.forward_sequence(x_TBD, state, is_first_TB)
        assert isinstance(state, Tensor)
        before = states_before(state, h_TBD, slice(0, len(h_TBD)), is_first_TB.unsqueeze(-1))
        both = linear(x_TBD, self.weight_ih, self.bias_ih) + linear(before, self.weight_hh, self.bias_hh)
        reset, update, _ = both.chunk(3, dim=-1)
        return {"reset": reset.sigmoid(), "update": update.sigmoid()}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all: recurrent weights and biases decide how the state is kept, input weights decide the writing."""
        yield from (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


GRU = stacked(GRULayer)
