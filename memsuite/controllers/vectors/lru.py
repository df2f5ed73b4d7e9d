"""The linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349): a diagonal complex state with decay."""

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


class LRULayer(ZeroBegin):
    r"""Linear recurrent units: a diagonal complex state that rotates and decays.

    .. math::
        \lambda = \exp(-e^{\nu} + i e^{\theta}), \quad h' = \lambda \odot h + e^{\gamma} \odot B x, \quad
        y = \mathrm{Re}(C h') + D x

    The layer is linear and has no bias, so a blank input writes nothing. :math:`\nu` (``nu_log``), :math:`\theta`
    (``theta_log``) and :math:`\gamma` (``gamma_log``) are learnt. At initialisation :math:`|\lambda|` lies on the ring
    ``[r_min, r_max]`` (uniform by area), the phase is uniform between 0 and ``max_phase``, and :math:`e^{\gamma} = (1 -
    |\lambda|^2)^{1/2}`, which gives a state of unit size on white input.

    State: ``2 state_dim`` floats, ``[B, state_dim, 2]``: real and imaginary parts, so that code for states need not
    handle complex numbers. Cost per step: ``2 state_dim (input_dim + hidden_dim) + input_dim hidden_dim``
    multiply-adds, and ``state_dim`` complex ones.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features.
        memory_horizon: steps H over which the initial weights should retain a state. The ring is then
            ``[exp(-1/H), exp(-1/(4 H))]``, so that 0.37 to 0.78 of a state is left after H steps, and ``D`` is 0. Half
            of the phases are at most ``pi / H``, so that an input can be read at any time; the others are spread up to
            ``pi``, so that the state also encodes the input's age. Together they are a Fourier code: a linear map can
            read the input of a given number of steps ago from it. None for the ring and phases below.
        state_dim: complex numbers in the state; None for ``hidden_dim / 2``, as many floats as features.
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
        state_dim: int | None = None,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = math.pi / 10,
    ) -> None:
        super().__init__()
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.state_dim = state_dim or max(1, hidden_dim // 2)
        if not 0 <= r_min < r_max <= 1:
            raise UsageError(f"controller lru: r_min is {r_min} and r_max {r_max}; 0 <= r_min < r_max <= 1 is needed")
        if memory_horizon is not None:
            steps = max(memory_horizon, 2)
            r_min, r_max, max_phase = math.exp(-1 / steps), math.exp(-0.25 / steps), math.pi
        self.nu_log = nn.Parameter(log_rate_on_ring(self.state_dim, r_min, r_max))
        phases = max_phase * (1 - torch.rand(self.state_dim))
        if memory_horizon is not None:
            phases[::2] /= max(memory_horizon, 2)
        self.theta_log = nn.Parameter(phases.log())
        self.gamma_log = nn.Parameter(0.5 * (-torch.expm1(-2 * self.nu_log.detach().exp())).log())
        # B as [real, imaginary] rows of each state, C as the columns that read them (the imaginary ones negated).
        self.b = nn.Parameter(torch.randn(self.state_dim, 2, input_dim) * (2 * input_dim) ** -0.5)
        self.c = nn.Parameter(torch.randn(hidden_dim, self.state_dim, 2) * (2 * self.state_dim) ** -0.5)
        self.d = nn.Parameter(torch.randn(hidden_dim, input_dim) * input_dim**-0.5 * (memory_horizon is None))

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, state_dim, 2]``."""
        like = self.nu_log
        return torch.zeros(batch_size, self.state_dim, 2, device=device or like.device, dtype=like.dtype)

    def _decay(self) -> Tensor:
        return torch.polar(torch.exp(-self.nu_log.exp()), self.theta_log.exp())

    def _drive(self, x: Tensor) -> Tensor:
        """Return ``exp(gamma) * B x``, complex ``[.., state_dim]``."""
        scaled = self.gamma_log.exp().view(-1, 1, 1) * self.b
        # Autocast returns half precision, which has no complex numbers and is too coarse for a recurrence.
        drive = narrow_linear(x, scaled.flatten(0, 1)).to(scaled.dtype)
        return torch.view_as_complex(drive.view(*drive.shape[:-1], self.state_dim, 2))

    def _read(self, h: Tensor, x: Tensor) -> Tensor:
        seen = nn.functional.linear(torch.view_as_real(h).flatten(-2), self.c.flatten(1))
        return seen + narrow_linear(x, self.d)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        h = torch.addcmul(self._drive(x_BD), self._decay(), torch.view_as_complex(state))
        return self._read(h, x_BD), torch.view_as_real(h)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan between two matrix products over all steps."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        h_TBN = diagonal_scan(self._decay(), self._drive(x_TBD), is_first_TB, torch.view_as_complex(state))
        return self._read(h_TBN, x_TBD), torch.view_as_real(h_TBN[-1])

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decay, and of the normalisation that depends on it."""
        yield from (self.nu_log, self.theta_log, self.gamma_log)


LRU = stacked(LRULayer)
