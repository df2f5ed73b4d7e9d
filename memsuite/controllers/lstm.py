"""The long short-term memory (Hochreiter & Schmidhuber 1997), with an initialisation that retains information."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from memsuite.controllers.about.abilities import RECURRENT
from memsuite.controllers.base import ZeroBegin
from memsuite.controllers.blocks import unrounded
from memsuite.controllers.init import default_uniform_, lstm_chrono_
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import lstm_scan, narrow_linear, states_before
from memsuite.types import State


class LSTMLayer(ZeroBegin):
    r"""Long short-term memory, with the parameters, the gate order and the numerics of ``torch.nn.LSTM``.

    .. math::
        i, f, o = \sigma(W_{i,f,o} x + U_{i,f,o} h + b_{i,f,o}), \quad g = \tanh(W_g x + U_g h + b_g) \\
        c' = f \odot c + i \odot g, \quad h' = o \odot \tanh(c')

    State: ``2 hidden_dim`` floats, the tuple ``(h, c)``. Cost per step: ``4 hidden_dim (input_dim + hidden_dim)``
    multiply-adds and ``5 hidden_dim`` sigmoids and tanhs.

    Args:
        input_dim: width of the input.
        hidden_dim: width of ``h``, of ``c`` and of the features.
        memory_horizon: steps over which the initial weights should retain information
            (:func:`memsuite.controllers.init.lstm_chrono_`); None for PyTorch's default initialisation.
        gain: factor by which a unit's cell input copies the unit's output; it needs a ``memory_horizon``. At 0, a state
            fades at the rate of its forget gate. At 1, every unit goes to one of two stable points and stays there:
            it is a latch that keeps the sign of its input, but not the size.
    """

    abilities = RECURRENT

    def __init__(
        self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None, gain: float = 0.0
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_dim, input_dim))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_dim, hidden_dim))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_dim))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_dim))
        default_uniform_(self.parameters(), hidden_dim)
        if memory_horizon is None and gain != 0.0:
            raise UsageError(f"controller lstm: gain {gain} needs a memory_horizon")
        if memory_horizon is not None:
            lstm_chrono_(self.weight_hh, self.bias_ih, self.bias_hh, memory_horizon, gain)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return ``(h, c)``, zeros ``[B, hidden_dim]`` each."""
        weight = self.weight_hh
        h = torch.zeros(batch_size, self.feature_dim, device=device or weight.device, dtype=weight.dtype)
        return h, torch.zeros_like(h)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step; the feature is ``h``."""
        assert isinstance(state, tuple)
        before = [leaf for leaf in state if isinstance(leaf, Tensor)]
        h, c = unrounded(torch.lstm_cell, x_BD, before, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return h, (h, c)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute the input products at once, then run the recurrence."""
        h, c = self.reset_mask(state, is_first_TB[0])
        assert isinstance(h, Tensor)
        assert isinstance(c, Tensor)
        gates = narrow_linear(x_TBD, self.weight_ih, self.bias_ih)
        h_TBD, c_TBD = lstm_scan(gates, is_first_TB, h, c, self.weight_hh, self.bias_hh)
        return h_TBD, (h_TBD[-1], c_TBD[-1])

    def gates(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> dict[str, Tensor]:
        """Return the gates ``input``, ``forget`` and ``output`` at every step, ``[T, B, hidden_dim]`` each."""
        h_TBD, _ = self.forward_sequence(x_TBD, state, is_first_TB)
        assert isinstance(state, tuple)
        assert isinstance(state[0], Tensor)
        before = states_before(state[0], h_TBD, slice(0, len(h_TBD)), is_first_TB.unsqueeze(-1))
        all_four = linear(x_TBD, self.weight_ih, self.bias_ih) + linear(before, self.weight_hh, self.bias_hh)
        written, kept, _, shown = all_four.chunk(4, dim=-1)
        return {"input": written.sigmoid(), "forget": kept.sigmoid(), "output": shown.sigmoid()}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all: recurrent weights and biases decide how the state is kept, input weights decide the writing."""
        yield from (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


LSTM = stacked(LSTMLayer)
