"""Mamba (Gu & Dao 2023, arXiv 2312.00752): a diagonal state with input-dependent time step, input and output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import Linear, at_least
from memsuite.controllers.conv import ShortConv
from memsuite.controllers.init import blank_shift, inverse_softplus
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import selective_scan, selective_step, skip_out, split_linear, wide_linear
from memsuite.ops.fused.wide_linear import SOFTPLUS
from memsuite.types import State

WRITE_GAIN = 40.0  # found by experiment: an item written once is then read at about the size of the stream


class Drive(NamedTuple):
    """The inputs of the recurrence at one step or at every step; ``dt`` is positive."""

    u: Tensor
    dt: Tensor
    b: Tensor
    c: Tensor


class MambaLayer(ZeroBegin):
    r"""The block of ``mamba_ssm.Mamba``, with its parameters and their names: state dicts can be exchanged.

    .. math::
        (u, z) = W_{in} x, \quad u = \mathrm{silu}(\mathrm{conv}(u)), \quad (\delta, B, C) = W_x u, \quad
        \Delta = \mathrm{softplus}(W_\Delta \delta + b_\Delta) \\
        h' = e^{\Delta A} \odot h + (\Delta \odot u) B^\top, \quad y = h' C + D \odot u, \quad
        W_{out} (y \odot \mathrm{silu}(z)), \quad A = -e^{A_{log}}

    The scan is memsuite's own on every device: the package's kernels for this block take no initial state or resets.

    State, with ``E = expand input_dim``: a dict with ``conv`` ``[B, d_conv - 1, E]`` and ``ssm`` ``[B, E, d_state]``,
    ``E (d_conv - 1 + d_state)`` floats. Cost per step: ``E (3 input_dim + d_conv + 2 dt_rank + 5 d_state)``
    multiply-adds and ``E d_state`` exponentials.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The time steps then lie between
            ``1 / (4 d_state H)`` and ``1 / (d_state H)``, so that the fastest states, whose rate is ``d_state``, decay
            over one to four H. B and C are scaled by the square root of H, because such a short time step writes
            little. The convolution passes the present step and has no bias, so that a blank input writes nothing, and
            ``D`` is 0. None for the package's initialisation, with ``dt_min`` and ``dt_max``.
        d_state: number of states of each channel.
        d_conv: width of the convolution.
        expand: number of channels, as a multiple of ``input_dim``.
        dt_min: shortest time step without a horizon.
        dt_max: longest time step without a horizon.
    """

    abilities = Abilities("vector", by_input=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(d_state, d_conv, expand)
        self.input_dim = self.feature_dim = input_dim
        self.d_inner, self.d_state, self.dt_rank = expand * input_dim, d_state, math.ceil(input_dim / 16)
        self.in_proj = Linear(input_dim, 2 * self.d_inner, bias=False)
        self.conv1d = ShortConv(self.d_inner, d_conv)
        self.x_proj = Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1).float().log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, input_dim, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        if memory_horizon is not None:
            dt_max = 1 / (d_state * max(memory_horizon, 2))
            dt_min = dt_max / 4
        with torch.no_grad():
            self.dt_proj.bias.copy_(time_step_bias(self.d_inner, dt_min, dt_max))
            if memory_horizon is not None:
                pass_the_step_(self.conv1d)
                self.D.zero_()
                self.x_proj.weight[self.dt_rank :] *= math.sqrt(
                    WRITE_GAIN * max(memory_horizon, 1) * math.sqrt(d_state)
                )

    @classmethod
    def placement(cls, memory_horizon: int | None = None, **_: Any) -> Placement:
        """Return a residual block for every layer including the first, without a perceptron, as published.

        A small constant is added to the layer's input, because the package's block outputs zero on a blank input.
        """
        return Placement(embed=True, depth=2, shift=blank_shift(memory_horizon), mlp_ratio=0.0)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros."""
        conv = self.conv1d.init_state(batch_size, device)
        return {"conv": conv, "ssm": conv.new_zeros(batch_size, self.d_inner, self.d_state)}

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        its = cast(dict[str, Tensor], state)
        u, z = self.in_proj(x_BD).chunk(2, dim=-1)
        u, conv = self.conv1d.step(u, its["conv"])
        drive = self._drive(u)
        y, ssm = selective_step(drive.u, drive.dt, self._rates(), drive.b, drive.c, its["ssm"])
        return self._read(y, drive.u, z), {"conv": conv, "ssm": ssm}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the scan between the products over all steps."""
        its = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0]))
        u, z = split_linear(x_TBD, self.in_proj.weight, [self.d_inner] * 2)
        (u,), conv = self.conv1d.sequence([u], its["conv"], is_first_TB)
        drive = self._drive(u)
        y, ssm = selective_scan(drive.u, drive.dt, self._rates(), drive.b, drive.c, is_first_TB, its["ssm"])
        return self._read(y, drive.u, z), {"conv": conv, "ssm": ssm}

    def gates(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> dict[str, Tensor]:
        """Return ``step_size`` ``[T, B, E]`` and the ``decay`` ``exp(step_size A)``, ``[T, B, E d_state]``."""
        its = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0]))
        u = self.in_proj(x_TBD).chunk(2, dim=-1)[0]
        (u,), _ = self.conv1d.sequence([u], its["conv"], is_first_TB)
        dt = self._drive(u).dt
        return {"step_size": dt, "decay": (dt.unsqueeze(-1) * self._rates()).exp().flatten(2)}

    def _rates(self) -> Tensor:
        return -self.A_log.exp()

    def _drive(self, u: Tensor) -> Drive:
        delta, b, c = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        # The bias is added in full precision: autocast would round away the differences between long horizons.
        dt = wide_linear(delta, self.dt_proj.weight, self.dt_proj.bias, SOFTPLUS)
        return Drive(u, dt, b, c)

    def _read(self, y: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return skip_out(y, u, z, self.D, self.out_proj.weight)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decay, and those that map an input to its time step, B and C.

        A time step is exponential in the output of ``in_proj`` and ``x_proj``: if these learn at PPO's full rate, the
        time steps no longer fit the horizon after a few updates.
        """
        yield self.A_log
        for layer in (self.dt_proj, self.x_proj, self.in_proj):
            yield from layer.parameters()


Mamba = stacked(MambaLayer)


def check_sizes(d_state: int, d_conv: int, expand: int) -> None:
    """Raise a UsageError if a size is below 1."""
    at_least("d_state", d_state, 1)
    at_least("d_conv", d_conv, 1)
    at_least("expand", expand, 1)


def time_step_bias(size: int, dt_min: float, dt_max: float) -> Tensor:
    """Draw biases whose softplus is log-uniform between two time steps."""
    if not 0 < dt_min <= dt_max:
        raise UsageError(f"dt_min {dt_min} and dt_max {dt_max}: both must be positive, dt_min not above dt_max")
    return inverse_softplus(torch.empty(size).uniform_(math.log(dt_min), math.log(dt_max)).exp())


@torch.no_grad()
def pass_the_step_(conv: ShortConv) -> None:
    """Let a default convolution pass the present step, and add its random weights for the steps before.

    The factor compensates the default weights of the projection before it, which shrink a unit input to ``3^-1/2``.
    """
    conv.weight[..., -1] = math.sqrt(3)
    if conv.bias is not None:
        conv.bias.zero_()
