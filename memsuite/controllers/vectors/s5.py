"""S5 (Smith, Warrington & Linderman 2022, arXiv 2208.04933): a diagonal state space with all inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from memsuite.controllers.about.abilities import TURNING
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.init import log_uniform_times
from memsuite.controllers.stack import stacked
from memsuite.ops import diagonal_scan, wide_linear
from memsuite.types import State

FASTEST, SLOWEST = 0.1, 0.001  # step sizes without a horizon, as published


class S5Layer(ZeroBegin):
    r"""S5: one diagonal state space that reads and writes all channels.

    .. math::
        \bar\Lambda = e^{\Lambda \Delta}, \quad \bar B = \Lambda^{-1} (\bar\Lambda - I) B, \quad
        s' = \bar\Lambda s + \bar B x, \quad v = \mathrm{gelu}(2\, \mathrm{Re}(C s') + D \odot x), \quad
        y = v \odot \sigma(W v)

    The state is complex, and only one of each pair of conjugate numbers is kept, hence the factor 2. :math:`\Lambda`
    begins as the eigenvalues of the normal part of HiPPO-LegS, :math:`B` and :math:`C` as random matrices in the basis
    of its eigenvectors, and each number of the state has its own learnt step size :math:`\Delta`. Resets within a
    sequence are those of Lu et al. 2023 (arXiv 2303.03982).

    State, with ``D = input_dim``: ``2 state_dim`` floats, ``[B, state_dim, 2]``. Cost per step:
    ``4 D state_dim + D^2`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain a state. The step sizes are then such that
            the state decays over one to four H, and ``B`` is scaled so that a single input is written at unit size:
            with the paper's ``B`` it would be written at a size of one over H, which the residual stream would hide.
            None for step sizes log-uniform between 0.001 and 0.1.
        state_dim: complex numbers in the state; None for ``input_dim / 2``, as many floats as features.
    """

    abilities = TURNING

    def __init__(self, input_dim: int, memory_horizon: int | None = None, state_dim: int | None = None) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = input_dim
        self.state_dim = size = state_dim or max(1, input_dim // 2)
        values, vectors = hippo_normal(size)
        self.log_rate = nn.Parameter((-values.real).log())
        self.frequency = nn.Parameter(values.imag.clone())
        if memory_horizon is None:
            steps = torch.empty(size).uniform_(math.log(SLOWEST), math.log(FASTEST))
        else:  # the state decays as exp(-step / 2)
            steps = math.log(2) - log_uniform_times(size, memory_horizon)
        self.log_step = nn.Parameter(steps)
        b = torch.randn(2 * size, input_dim) * input_dim**-0.5
        c = torch.randn(input_dim, 2 * size) * (2 * size) ** -0.5
        self.b = nn.Parameter(_parts(vectors.conj().T @ b.to(vectors.dtype)).transpose(1, 2).contiguous())
        self.c = nn.Parameter(_parts(c.to(vectors.dtype) @ vectors))
        self.d = nn.Parameter(torch.randn(input_dim) * (memory_horizon is None))
        self.gate = nn.Linear(input_dim, input_dim, bias=False)
        if memory_horizon is not None:
            with torch.no_grad():
                self.b.mul_(self._unit_gain().view(-1, 1, 1))

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, state_dim, 2]``."""
        like = self.log_step
        return torch.zeros(batch_size, self.state_dim, 2, device=device or like.device, dtype=like.dtype)

    def _discrete(self) -> tuple[Tensor, Tensor]:
        """Return the decay, and the factor of ``B``: the zero-order hold of a step."""
        values = torch.complex(-self.log_rate.exp(), self.frequency)
        decay = (values * self.log_step.exp()).exp()
        return decay, (decay - 1) / values

    def _unit_gain(self) -> Tensor:
        """Return the factors of ``B`` with which a single input is written at unit size."""
        _, hold = self._discrete()
        # A frequency that turns by about a whole circle in a step hardly writes; its factor is bounded.
        return 1 / torch.maximum(hold.abs(), 0.1 * self.log_step.exp())

    def _drive(self, x: Tensor, b: Tensor) -> Tensor:
        """Return the input of the state, complex ``[.., state_dim]``, by ``b`` ``[state_dim, 2, input_dim]``."""
        # Autocast returns half precision, which has no complex numbers and is too coarse for a recurrence.
        drive = wide_linear(x, b.flatten(0, 1)).to(b.dtype)
        return torch.view_as_complex(drive.view(*drive.shape[:-1], -1, 2))

    def _read(self, s: Tensor, x: Tensor) -> Tensor:
        # The real part of a product: the imaginary parts enter with the opposite sign.
        real, imaginary = self.c.unbind(-1)
        signed = torch.stack([2 * real, -2 * imaginary], dim=-1)
        v = gelu(wide_linear(torch.view_as_real(s).flatten(-2), signed.flatten(1)) + self.d * x)
        return v * torch.sigmoid(wide_linear(v, self.gate.weight))

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        assert isinstance(state, Tensor)
        decay, hold = self._discrete()
        s = torch.addcmul(self._drive(x_BD, self.b) * hold, decay, torch.view_as_complex(state))
        return self._read(s, x_BD), torch.view_as_real(s)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan between two matrix products over all steps."""
        state = self.reset_mask(state, is_first_TB[0])
        assert isinstance(state, Tensor)
        decay, hold = self._discrete()
        # Once a sequence, the hold is folded into B; at a step that costs more than it saves.
        held = torch.view_as_real(torch.view_as_complex(self.b.mT.contiguous()) * hold.unsqueeze(1)).mT
        s = diagonal_scan(decay, self._drive(x_TBD, held), is_first_TB, torch.view_as_complex(state))
        return self._read(s, x_TBD), torch.view_as_real(s[-1])

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide how long the state is kept."""
        yield from (self.log_rate, self.frequency, self.log_step)


S5 = stacked(S5Layer)


def hippo_normal(size: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of the normal part of HiPPO-LegS, one of each conjugate pair.

    Args:
        size: number of pairs.

    Returns:
        The eigenvalues ``[size]``, with real part -1/2 and positive imaginary parts, and the eigenvectors
        ``[2 size, size]`` as columns, both complex.
    """
    root = (2 * torch.arange(2 * size, dtype=torch.float64) + 1).sqrt()
    half = -0.5 * torch.outer(root, root)
    skew = half.tril(-1) - half.triu(1)  # the normal part is this minus half of the identity
    turning, vectors = torch.linalg.eigh(-1j * skew)
    values = torch.complex(torch.full_like(turning, -0.5), turning)
    kind = torch.get_default_dtype().to_complex()
    return values[size:].to(kind), vectors[:, size:].to(kind)


def _parts(x: Tensor) -> Tensor:
    """Return real and imaginary parts in a last dimension, as numbers that can be trained and saved."""
    return torch.view_as_real(x.resolve_conj()).clone()
