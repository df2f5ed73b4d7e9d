"""Exponential traces of the observations (Sutton & Barto 2018): a memory that learns nothing about what to keep."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import ZeroBegin
from memsuite.controllers.blocks import EPSILON
from memsuite.controllers.stack import stacked
from memsuite.ops import diagonal_scan, narrow_linear
from memsuite.types import State

USUAL = 50  # the horizon, in steps, where none is given


class TraceLayer(ZeroBegin):
    r"""Traces of the observation at fixed rates, and a network that reads them: the baseline without a learnt memory.

    .. math::
        z_k' = \lambda_k z_k + x, \quad
        y = W_2\, \mathrm{silu}(W_1 [x, \mathrm{norm}(z_1'), .., \mathrm{norm}(z_K')] + b_1) + b_2

    The rates :math:`\lambda_k = \exp(-1 / \tau_k)` are not learnt, and the times :math:`\tau_k` are spaced evenly by
    their logarithms between 2 steps and two horizons. The norm of each trace has no weights; without it, a slow trace
    would be many times as large as the observation. Traces as the memory of a policy are analysed by Eberhard,
    Muehlebach & Vernade 2025 (arXiv 2503.15200).

    State: ``num_traces input_dim`` floats. Cost per step: ``hidden_dim ((num_traces + 1) input_dim + hidden_dim)``
    multiply-adds.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features and of the network's inner layer.
        memory_horizon: steps to remember; None for 50.
        num_traces: number of traces.
    """

    abilities = Abilities("vector")

    rates: Tensor

    def __init__(
        self, input_dim: int, hidden_dim: int = 128, memory_horizon: int | None = None, num_traces: int = 4
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim, self.num_traces = input_dim, hidden_dim, num_traces
        steps = max(2, USUAL if memory_horizon is None else memory_horizon)
        times = 2 * steps ** torch.linspace(0, 1, num_traces, dtype=torch.float64)
        self.register_buffer("rates", torch.exp(-1 / times).to(torch.get_default_dtype()))
        self.first = nn.Linear((num_traces + 1) * input_dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, hidden_dim)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, num_traces, input_dim]``."""
        weight = self.first.weight
        shape = batch_size, self.num_traces, self.input_dim
        return torch.zeros(shape, device=device or weight.device, dtype=weight.dtype)

    def _read(self, z: Tensor, x: Tensor) -> Tensor:
        """Map the traces ``[.., num_traces, input_dim]`` and the observation to the features."""
        seen = torch.cat([x, rms_norm(z, z.shape[-1:], eps=EPSILON).flatten(-2)], dim=-1)
        return self.second(silu(narrow_linear(seen, self.first.weight, self.first.bias)))  # type: ignore[no-any-return]

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        z = torch.addcmul(x_BD.to(state.dtype).unsqueeze(1), self.rates.unsqueeze(1), state)
        return self._read(z, x_BD), z

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan over all traces at once, then read all steps."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        decay = self.rates.repeat_interleave(self.input_dim)
        drive = x_TBD.to(state.dtype).repeat(1, 1, self.num_traces)
        z = diagonal_scan(decay, drive, is_first_TB, state.flatten(1)).view(*x_TBD.shape[:2], *state.shape[1:])
        return self._read(z, x_TBD), z[-1]

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield nothing: no parameter decides what is kept."""
        yield from ()


Trace = stacked(TraceLayer)
