"""Mamba-3 (Lahoti et al. 2026, arXiv 2603.15569): a trapezoidal rule, and a state that turns by angles of the input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import RMSNorm, at_least
from memsuite.controllers.conv import step_before
from memsuite.controllers.init import bind_
from memsuite.controllers.mamba import time_step_bias
from memsuite.controllers.mamba2 import checked_headdim
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import diagonal_scan, matrix_scan, matrix_step, skip_out, wide_linear
from memsuite.ops.fused.rotary import rotary
from memsuite.types import State

SLOWEST = 1e-4  # smallest rate of decay, as published
WRITE_GAIN = 0.03  # found by experiment: an item written once is then read at about the size of the stream


class Drive(NamedTuple):
    """What the input asks for, ``[.., H, features]`` or ``[.., H]``; ``now`` and ``before`` weigh two inputs.

    The gate ``z`` has its bias already, and its heads joined, ``[.., H features]``.
    """

    z: Tensor
    u: Tensor
    k: Tensor
    q: Tensor
    log_decay: Tensor
    now: Tensor
    before: Tensor
    turn: Tensor


class Mamba3Layer(ZeroBegin):
    r"""Mamba-3 with one input and one output (SISO).

    .. math::
        (z, u, B, C, \delta, a, \ell, \phi) = W_{in} x, \quad \Delta = \mathrm{softplus}(\delta + b_\Delta), \quad
        \alpha = e^{-\Delta\, \mathrm{softplus}(a)}, \quad \lambda = \sigma(\ell) \\
        \theta_t = \theta_{t-1} + \pi \Delta_t \tanh(\phi_t), \quad
        k_t = R(\theta_t) (\mathrm{norm}(B_t) + b_B), \quad q_t = R(\theta_t) (\mathrm{norm}(C_t) + b_C) \\
        S_t = \alpha_t (S_{t-1} + (1 - \lambda_t) \Delta_t\, k_{t-1} u_{t-1}^\top) + \lambda_t \Delta_t k_t u_t^\top \\
        y = W_{out} \big((S_t^\top q_t + D u_t) \odot \mathrm{silu}(z_t + b_z)\big)

    R turns pairs of the first half of the channels: this is a complex state in real numbers, so that it can count. The
    weights of two inputs are the trapezoidal rule, which takes the place of a short convolution. Each head has its own
    :math:`\Delta`, :math:`\alpha`, :math:`\lambda`, :math:`D` and biases; B, C and the angles' maps are shared. A pair
    is made of channels half of the turned ones apart, where the package pairs neighbours. The paper has no
    :math:`b_z`; with it, a blank input writes nothing but still gets an answer. The variant with several inputs and
    outputs (MIMO) is not built.

    State, with ``E = expand input_dim``: a dict with ``ssm`` ``[B, E / headdim, d_state, headdim]``, the angles
    ``angle`` ``[B, E / headdim, d_state / 4]``, and the last write, ``k`` and ``u``. Cost per step:
    ``3 E input_dim + 2 d_state input_dim + 3 E d_state`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state: on a blank input the heads then
            decay over one to four H. The norms of B and C and their biases are scaled by the square root of H, because
            such a short time step writes little, and ``D`` is 0. None for the package's initialisation, with ``dt_min``
            and ``dt_max``.
        d_state: rows of each head's state, a multiple of 4.
        expand: number of channels, as a multiple of ``input_dim``.
        headdim: channels of a head; None for the greatest common divisor of the package's 64 and the channels.
        dt_min: shortest time step without a horizon.
        dt_max: longest time step without a horizon.
        binding: whether C begins as B, so that a repeated item retrieves what was shown with it before anything is
            learnt, as in ``gated_deltanet``.
    """

    abilities = Abilities("matrix", by_input=True, sign_changing=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        d_state: int = 64,
        expand: int = 2,
        headdim: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        binding: bool = False,
    ) -> None:
        super().__init__()
        at_least("d_state", d_state, 4)
        at_least("expand", expand, 1)
        if d_state % 4:
            raise UsageError(f"controller mamba3: d_state is {d_state}; it must be a multiple of 4")
        self.input_dim = self.feature_dim = input_dim
        self.d_inner, self.d_state, self.angles = expand * input_dim, d_state, d_state // 4
        self.headdim = checked_headdim(headdim, self.d_inner)
        self.num_heads = self.d_inner // self.headdim
        self.in_proj = nn.Linear(input_dim, sum(self._sizes()), bias=False)
        if memory_horizon is not None:
            # With a rate of softplus(0) = log 2 on a blank input.
            dt_max = 1 / max(memory_horizon, 2) / math.log(2)
            dt_min = dt_max / 4
        self.dt_bias = nn.Parameter(time_step_bias(self.num_heads, dt_min, dt_max))
        self.B_bias = nn.Parameter(torch.ones(self.num_heads, d_state))
        self.C_bias = nn.Parameter(torch.ones(self.num_heads, d_state))
        self.B_norm, self.C_norm = RMSNorm(d_state, eps=1e-5), RMSNorm(d_state, eps=1e-5)
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.gate_bias = nn.Parameter(torch.ones(self.num_heads, self.headdim))
        self.out_proj = nn.Linear(self.d_inner, input_dim, bias=False)
        if binding:
            made = self.in_proj.weight[2 * self.d_inner : 2 * (self.d_inner + d_state)]
            bind_(made[d_state:], made[:d_state])
        if memory_horizon is not None:
            with torch.no_grad():
                self.D.zero_()
                for scaled in (self.B_norm.weight, self.C_norm.weight, self.B_bias, self.C_bias):
                    scaled.mul_(math.sqrt(WRITE_GAIN * max(memory_horizon, 1)))

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros."""
        like = self.dt_bias
        shapes = {
            "ssm": (self.d_state, self.headdim),
            "angle": (self.angles,),
            "k": (self.d_state,),
            "u": (self.headdim,),
        }
        place: Any = {"device": device or like.device, "dtype": like.dtype}
        return {name: torch.zeros(batch_size, self.num_heads, *shape, **place) for name, shape in shapes.items()}

    def _sizes(self) -> list[int]:
        """Return the numbers of channels of ``in_proj``'s parts: z, u, B, C, time steps, rates, weights and angles."""
        return [self.d_inner] * 2 + [self.d_state] * 2 + [self.num_heads] * 3 + [self.angles]

    def _drive(self, x: Tensor) -> Drive:
        kind = self.dt_bias.dtype
        wide, narrow = self._sizes()[:4], self._sizes()[4:]
        w_z, w_u, w_b, w_c, w_narrow = torch.split(self.in_proj.weight, [*wide, sum(narrow)])
        # Time steps and rates are kept in full precision: autocast would round away the differences of long horizons.
        # Their maps are one product, because each alone is narrower than a vector.
        step, rate, share, angle = torch.split(wide_linear(x, w_narrow).to(kind), narrow, dim=-1)
        dt = softplus(step + self.dt_bias)
        rate = softplus(rate).clamp(min=SLOWEST)
        share = torch.sigmoid(share)
        turn = math.pi * dt.unsqueeze(-1) * torch.tanh(angle).unsqueeze(-2)
        k = self.B_norm(wide_linear(x, w_b).to(kind)).unsqueeze(-2) + self.B_bias
        q = self.C_norm(wide_linear(x, w_c).to(kind)).unsqueeze(-2) + self.C_bias
        z = wide_linear(x, w_z, self.gate_bias.flatten()).to(kind)
        u = wide_linear(x, w_u).to(kind).view(*x.shape[:-1], self.num_heads, -1)
        return Drive(z, u, k, q, -rate * dt, share * dt, (1 - share) * dt, turn)

    @staticmethod
    def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn the first half of the channels of every head, ``[.., H, d_state]``, by angles ``[.., H, angles]``."""
        return rotary(x.unsqueeze(-2), cos, sin).squeeze(-2)

    def _read(self, y: Tensor, drive: Drive) -> Tensor:
        skip = self.D.repeat_interleave(self.headdim)
        return skip_out(y.flatten(-2), drive.u.flatten(-2), drive.z, skip, self.out_proj.weight)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        its, drive = cast(dict[str, Tensor], state), self._drive(x_BD)
        angle = its["angle"] + drive.turn
        cos, sin = angle.cos(), angle.sin()
        k, q = self._turned(drive.k, cos, sin), self._turned(drive.q, cos, sin)
        begun = its["ssm"] + _written(its, drive.before)
        y, ssm = matrix_step(q, k, drive.now.unsqueeze(-1) * drive.u, drive.log_decay, begun)
        return self._read(y, drive), {"ssm": ssm, "angle": angle, "k": k, "u": drive.u}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run one scan, in which every input is written at once with the weights of this step and of the next."""
        its, drive = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0])), self._drive(x_TBD)
        still = torch.ones_like(drive.turn[0, 0].flatten())
        angle = diagonal_scan(still, drive.turn.flatten(-2), is_first_TB, its["angle"].flatten(-2))
        angle = angle.view_as(drive.turn)
        cos, sin = angle.cos(), angle.sin()
        k, q = self._turned(drive.k, cos, sin), self._turned(drive.q, cos, sin)
        # The scan writes each input one step late, with both of its weights, so that no output depends on a later step.
        k_before, u_before = step_before(k, its["k"], is_first_TB), step_before(drive.u, its["u"], is_first_TB)
        held = step_before(drive.now, torch.zeros_like(drive.now[0]), is_first_TB)
        late = (drive.log_decay.exp() * (held + drive.before)).unsqueeze(-1) * u_before
        y, ssm = matrix_scan(q, k_before, late, drive.log_decay, is_first_TB, its["ssm"])
        y = torch.addcmul(y, ((q * k).sum(-1) * drive.now).unsqueeze(-1), drive.u)
        last = {"angle": angle[-1], "k": k[-1], "u": drive.u[-1]}
        return self._read(y, drive), {"ssm": ssm + _written(last, drive.now[-1]), **last}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the time steps, and those that map an input to them, to B, C and the angles."""
        yield from (self.dt_bias, self.B_bias, self.C_bias, *self.in_proj.parameters())


Mamba3 = stacked(Mamba3Layer)


def _written(state: dict[str, Tensor], weight_BH: Tensor) -> Tensor:
    """Return what an input adds to the state with a weight, ``[B, H, d_state, headdim]``."""
    return (weight_BH.unsqueeze(-1) * state["k"]).unsqueeze(-1) * state["u"].unsqueeze(-2)
