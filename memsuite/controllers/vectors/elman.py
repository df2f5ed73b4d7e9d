"""Elman's network (Elman 1990): a vector state with recurrent weights and no gates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import VectorMemory
from memsuite.controllers.blocks import unrounded
from memsuite.controllers.init import default_uniform_
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import elman_scan, narrow_linear
from memsuite.types import State


class ElmanLayer(VectorMemory):
    r"""Elman's recurrence, with the parameters and the numerics of ``torch.nn.RNN``.

    .. math::
        h' = \tanh(W x + b_{ih} + U h + b_{hh})

    State: ``hidden_dim`` floats. Cost per step: ``hidden_dim (input_dim + hidden_dim)`` multiply-adds and
    ``hidden_dim`` tanhs.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features.
        memory_horizon: steps over which the initial weights should retain information. The recurrent weights are then
            a random orthogonal matrix (Henaff, Szlam & LeCun 2016, arXiv 1602.06662) and the biases zero, so that the
            state turns over blank inputs and decays only by the tanh, as one over the square root of time. The number
            of steps itself changes nothing. None for PyTorch's default initialisation.
        identity: whether the recurrent weights begin as the identity (Le, Jaitly & Hinton 2015, arXiv 1504.00941) in
            place of an orthogonal matrix; it needs a ``memory_horizon``.
    """

    abilities = Abilities("vector", sign_changing=True, recurrent_weights=True)

    def __init__(
        self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None, identity: bool = False
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.weight_ih = nn.Parameter(torch.empty(hidden_dim, input_dim))
        self.weight_hh = nn.Parameter(torch.empty(hidden_dim, hidden_dim))
        self.bias_ih = nn.Parameter(torch.empty(hidden_dim))
        self.bias_hh = nn.Parameter(torch.empty(hidden_dim))
        default_uniform_(self.parameters(), hidden_dim)
        if memory_horizon is None and identity:
            raise UsageError("controller elman: identity needs a memory_horizon")
        if memory_horizon is not None:
            (nn.init.eye_ if identity else nn.init.orthogonal_)(self.weight_hh)
            nn.init.zeros_(self.bias_ih)
            nn.init.zeros_(self.bias_hh)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the feature is the state."""
        assert isinstance(state, Tensor)
        h = unrounded(torch.rnn_tanh_cell, x_BD, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return h, h

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute the input products at once, then run the recurrence."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        drive = narrow_linear(x_TBD, self.weight_ih, self.bias_ih)
        h_TBD = elman_scan(drive, is_first_TB, state, self.weight_hh, self.bias_hh)
        return h_TBD, h_TBD[-1]

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all: recurrent weights and biases decide how the state is kept, input weights decide the writing."""
        yield from (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


Elman = stacked(ElmanLayer)
