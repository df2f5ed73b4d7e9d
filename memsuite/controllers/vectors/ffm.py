"""Fast and Forgetful Memory (Morad et al. 2023, arXiv 2310.04128): traces that decay and turn at fixed rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from memsuite.controllers.about.abilities import TURNING
from memsuite.controllers.base import ZeroBegin
from memsuite.controllers.init import log_uniform_times
from memsuite.controllers.stack import stacked
from memsuite.ops import diagonal_scan, narrow_linear
from memsuite.types import State

LEAST, MOST, LONGEST = 1e-6, 0.5, 1024.0  # decay rates and the longest period without a horizon


class FFMLayer(ZeroBegin):
    r"""Fast and Forgetful Memory: every trace decays at its own rate, and turns at each of several frequencies.

    .. math::
        \tilde x = \ell_1(x) \odot \sigma(\ell_2(x)), \quad
        S'_{jk} = e^{-|\alpha_j| - i \omega_k} S_{jk} + \tilde x_j, \quad
        z = \ell_3([\mathrm{Re}\, S', \mathrm{Im}\, S']) \\
        y = \mathrm{norm}(z) \odot \sigma(\ell_4(x)) + \ell_5(x) \odot (1 - \sigma(\ell_4(x)))

    with linear maps :math:`\ell` and a layer norm without weights. The rates :math:`\alpha` and the frequencies
    :math:`\omega` are learnt; they do not depend on the input.

    State: ``2 memory_size context_size`` floats, ``[B, memory_size, context_size, 2]``. Cost per step:
    ``2 memory_size (input_dim + context_size hidden_dim) + 2 hidden_dim input_dim`` multiply-adds.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features.
        memory_horizon: steps H over which the initial weights should retain a state. The decays are then between one
            and four H, the periods are spaced up to four H, and the write has no bias, so that a blank input
            writes nothing. None for rates spaced between 1e-6 and 0.5 and periods up to 1,024.
        memory_size: number of traces, with a rate each.
        context_size: number of frequencies.
    """

    abilities = TURNING

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        memory_horizon: int | None = None,
        memory_size: int = 32,
        context_size: int = 4,
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.write, self.write_gate = nn.Linear(input_dim, memory_size), nn.Linear(input_dim, memory_size)
        self.mix = nn.Linear(2 * memory_size * context_size, hidden_dim)
        self.gate, self.skip = nn.Linear(input_dim, hidden_dim), nn.Linear(input_dim, hidden_dim)
        longest = LONGEST
        if memory_horizon is None:
            rates = torch.linspace(LEAST, MOST, memory_size)
        else:
            rates = (-log_uniform_times(memory_size, memory_horizon)).exp()
            longest = 4.0 * max(memory_horizon, 2)
            nn.init.zeros_(self.write.bias)
        self.rate = nn.Parameter(rates)
        self.frequency = nn.Parameter(2 * math.pi / torch.linspace(1, longest, context_size))

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, memory_size, context_size, 2]``."""
        like = self.rate
        shape = batch_size, len(self.rate), len(self.frequency), 2
        return torch.zeros(shape, device=device or like.device, dtype=like.dtype)

    def _decay(self) -> Tensor:
        """Return the decays, complex ``[memory_size, context_size]``."""
        size = (-self.rate.abs()).exp().unsqueeze(1)
        return torch.complex(size * self.frequency.cos(), -size * self.frequency.sin())

    def _drive(self, x: Tensor) -> Tensor:
        """Return the gated input, complex ``[.., memory_size, context_size]``."""
        gate = torch.sigmoid(narrow_linear(x, self.write_gate.weight, self.write_gate.bias))
        written = (narrow_linear(x, self.write.weight, self.write.bias) * gate).to(self.rate.dtype)
        return torch.complex(written, torch.zeros_like(written)).unsqueeze(-1).expand(-1, -1, len(self.frequency))

    def _read(self, s: Tensor, x: Tensor) -> Tensor:
        """Map the state, complex ``[.., memory_size, context_size]``, to features."""
        z = self.mix(torch.cat([s.real, s.imag], dim=-2).flatten(-2))
        gate = torch.sigmoid(narrow_linear(x, self.gate.weight, self.gate.bias))
        kept = narrow_linear(x, self.skip.weight, self.skip.bias)
        return layer_norm(z, z.shape[-1:]) * gate + kept * (1 - gate)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        s = torch.addcmul(self._drive(x_BD), self._decay(), torch.view_as_complex(state))
        return self._read(s, x_BD), torch.view_as_real(s)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan over the whole sequence, then read all its states."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        steps, batch, _ = x_TBD.shape
        drive = self._drive(x_TBD.flatten(0, 1)).reshape(steps, batch, -1)
        begin = torch.view_as_complex(state).flatten(1)
        s = diagonal_scan(self._decay().flatten(), drive, is_first_TB, begin).view(steps, *state.shape[:-1])
        return self._read(s, x_TBD), torch.view_as_real(s[-1])

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the rates and the frequencies."""
        yield from (self.rate, self.frequency)


FFM = stacked(FFMLayer)
