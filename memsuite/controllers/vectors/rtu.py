"""The recurrent trace unit (Elelimy et al. 2024, arXiv 2409.01449): turning pairs of numbers, read by a tanh."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import TURNING
from memsuite.controllers.base import ZeroBegin
from memsuite.controllers.init import log_rate_on_ring
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import diagonal_scan, narrow_linear
from memsuite.types import State


class RTULayer(ZeroBegin):
    r"""Recurrent trace units: pairs of numbers that turn and decay, with a nonlinearity on what is read of them.

    .. math::
        c_1' = r (\cos\theta\, c_1 - \sin\theta\, c_2) + \gamma W_1 x, \quad
        c_2' = r (\sin\theta\, c_1 + \cos\theta\, c_2) + \gamma W_2 x, \quad
        y = [\tanh(c_1'), \tanh(c_2')]

    with :math:`r = \exp(-e^{\nu})`, :math:`\theta = e^{\vartheta}` and :math:`\gamma = (1 - r^2)^{1/2}`, all of them
    vectors. This is the paper's linear unit, whose nonlinearity is outside of the recurrence. A pair is one complex
    number, and its recurrence that of the LRU; other than there, no matrix mixes the pairs that are read, and
    :math:`\gamma` has no parameter of its own. The input maps have no bias, so a blank input writes nothing.

    State: ``hidden_dim`` floats, ``[B, hidden_dim / 2, 2]``. Cost per step: ``hidden_dim input_dim`` multiply-adds,
    ``hidden_dim / 2`` complex ones and ``hidden_dim`` tanhs.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the state and of the features, an even number.
        memory_horizon: steps H over which the initial weights should retain a state: r is then between
            ``exp(-1/H)`` and ``exp(-1/(4 H))``, and the phases are a Fourier code
            (:func:`fourier_phases`). None for the ring and the phases below.
        r_min: inner radius of the ring without a horizon.
        r_max: outer radius of the ring without a horizon, at most 1.
        max_phase: largest phase without a horizon, in radians.
    """

    abilities = TURNING

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        memory_horizon: int | None = None,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 2 * math.pi,
    ) -> None:
        super().__init__()
        if hidden_dim % 2:
            raise UsageError(f"controller rtu: hidden_dim is {hidden_dim}; it must be even")
        self.input_dim, self.feature_dim, pairs = input_dim, hidden_dim, hidden_dim // 2
        if memory_horizon is None:
            phases = max_phase * (1 - torch.rand(pairs))
        else:
            (r_min, r_max), phases = ring_of(memory_horizon), fourier_phases(pairs, memory_horizon)
        self.nu_log = nn.Parameter(log_rate_on_ring(pairs, r_min, r_max))
        self.theta_log = nn.Parameter(phases.log())
        self.input_map = nn.Parameter(torch.randn(pairs, 2, input_dim) * input_dim**-0.5)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, hidden_dim / 2, 2]``."""
        like = self.nu_log
        return torch.zeros(batch_size, len(like), 2, device=device or like.device, dtype=like.dtype)

    def _decay(self) -> Tensor:
        return torch.polar(torch.exp(-self.nu_log.exp()), self.theta_log.exp())

    def _drive(self, x: Tensor) -> Tensor:
        """Return ``gamma W x`` as complex numbers ``[.., hidden_dim / 2]``."""
        gamma = (-torch.expm1(-2 * self.nu_log.exp())).sqrt()
        scaled = gamma.view(-1, 1, 1) * self.input_map
        # Autocast returns half precision, which has no complex numbers and is too coarse for a recurrence.
        drive = narrow_linear(x, scaled.flatten(0, 1)).to(scaled.dtype)
        return torch.view_as_complex(drive.view(*drive.shape[:-1], -1, 2))

    def _read(self, h: Tensor) -> Tensor:
        return torch.view_as_real(h).transpose(-1, -2).flatten(-2).tanh()

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        h = torch.addcmul(self._drive(x_BD), self._decay(), torch.view_as_complex(state))
        return self._read(h), torch.view_as_real(h)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan over the whole sequence, then read all its states."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        h = diagonal_scan(self._decay(), self._drive(x_TBD), is_first_TB, torch.view_as_complex(state))
        return self._read(h), torch.view_as_real(h[-1])

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of decay and rotation."""
        yield from (self.nu_log, self.theta_log)


RTU = stacked(RTULayer)


def ring_of(horizon: int) -> tuple[float, float]:
    """Return the radii between which 0.37 to 0.78 of a state is left after a horizon."""
    steps = max(horizon, 2)
    return math.exp(-1 / steps), math.exp(-0.25 / steps)


def fourier_phases(size: int, horizon: int) -> Tensor:
    """Draw phases: half of them are at most ``pi / horizon``, the others are spread up to ``pi``.

    An input can be read at any time from the first half; the others also encode the age of the input. Together they
    are a Fourier code: a linear map can read the input of a given number of steps ago from it.
    """
    phases = math.pi * (1 - torch.rand(size))
    phases[::2] /= max(horizon, 2)
    return phases
