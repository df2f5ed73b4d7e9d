"""Mamba-2 (Dao & Gu 2024, arXiv 2405.21060): heads with a matrix state that decays by one number per head."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import RMSNorm
from memsuite.controllers.conv import ShortConv
from memsuite.controllers.init import bind_, blank_shift
from memsuite.controllers.mamba import check_sizes, pass_the_step_, time_step_bias
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import matrix_scan, matrix_step, skip_out, wide_linear
from memsuite.ops.fused.wide_linear import SOFTPLUS
from memsuite.types import State

WRITE_GAIN = 0.05  # found by experiment: an item written once is then far above the epsilon of the norm that reads it
HEADDIM = 64  # default of the package
SMALLEST_DECAY = 1e-30  # the logarithm of zero is no number; a state is gone either way
CHUNK = 64  # number of steps in a chunk of the package's kernel
LARGEST = 2**31 - 1  # numbers of a tensor: the package counts in 32 bits, and is silently wrong beyond (mamba#1015)


class Mamba2Layer(ZeroBegin):
    r"""The block of ``mamba_ssm.Mamba2``, with its parameters and their names: state dicts can be exchanged.

    .. math::
        (z, u, B, C, \delta) = W_{in} x, \quad (u, B, C) = \mathrm{silu}(\mathrm{conv}(u, B, C)), \quad
        \Delta = \mathrm{softplus}(\delta + b_\Delta) \\
        S' = e^{\Delta A} S + B (\Delta u)^\top, \quad y = S'^\top C + D u, \quad
        W_{out}\, \mathrm{norm}(y \odot \mathrm{silu}(z)), \quad A = -e^{A_{log}}

    With ``negative_eigenvalues`` the decay is :math:`2 e^{\Delta A} - 1` in place of :math:`e^{\Delta A}`, so that a
    step can change the sign of a state (Grazzi et al. 2024, arXiv 2411.12537).

    Each head has one :math:`\Delta`, :math:`A` and :math:`D`; all heads share :math:`B` and :math:`C` (``ngroups =
    1``); RMSNorm comes after the gate. The default ``d_state`` is half the package's 128, at half the cost of a step:
    with ``hidden_dim = 128`` the matrices of a layer then hold 16,384 floats.

    On a GPU with ``mamba_ssm`` installed, whole sequences in single precision run on the package's kernel, which rounds
    products as in TF32. In all other cases, for single steps, and for sequences too long for its 32-bit offsets,
    memsuite's op runs.

    State, with ``E = expand input_dim``: a dict with ``conv`` ``[B, d_conv - 1, E + 2 d_state]`` and ``ssm``
    ``[B, E / headdim, d_state, headdim]``; ``E d_state + (d_conv - 1)(E + 2 d_state)`` floats. Cost per step:
    ``3 E input_dim + 2 d_state input_dim + d_conv (E + 2 d_state) + 3 E d_state`` multiply-adds, and one exponential
    for each head.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The heads then decay over one to
            four H (rates of 1, time steps of ``1 / (4 H)`` to ``1 / H``). B and C are scaled by the square root of H,
            because such a short time step writes little. The convolution passes the present step and has no bias, so
            that a blank input writes nothing, and ``D`` is 0. With negative eigenvalues the time steps are half as
            long, because they then count twice. None for the package's initialisation, with ``dt_min`` and ``dt_max``.
        d_state: rows of each head's state.
        d_conv: width of the convolution.
        expand: number of channels, as a multiple of ``input_dim``.
        headdim: channels of a head; None for the greatest common divisor of the package's 64 and the channels.
        dt_min: shortest time step without a horizon.
        dt_max: longest time step without a horizon.
        binding: whether C begins as B, so that a repeated item retrieves what was shown with it before anything is
            learnt, as in ``gated_deltanet``.
        negative_eigenvalues: whether the decay lies between -1 and 1, as above, and not between 0 and 1. The package's
            kernel has no such decay, so that memsuite's op runs on a GPU too.
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        negative_eigenvalues: bool = False,
        binding: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(d_state, d_conv, expand)
        self.input_dim = self.feature_dim = input_dim
        self.d_inner, self.d_state = expand * input_dim, d_state
        self.negative_eigenvalues = negative_eigenvalues
        self.headdim = checked_headdim(headdim, self.d_inner)
        self.num_heads = self.d_inner // self.headdim
        convolved = self.d_inner + 2 * d_state
        self.in_proj = nn.Linear(input_dim, self.d_inner + convolved + self.num_heads, bias=False)
        self.conv1d = ShortConv(convolved, d_conv)
        if memory_horizon is not None:
            dt_max = 1 / max(memory_horizon, 2) / (2 if negative_eigenvalues else 1)
            dt_min = dt_max / 4
        self.dt_bias = nn.Parameter(time_step_bias(self.num_heads, dt_min, dt_max))
        self.A_log = nn.Parameter(torch.empty(self.num_heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm = RMSNorm(self.d_inner, eps=1e-5)
        self.out_proj = nn.Linear(self.d_inner, input_dim, bias=False)
        if memory_horizon is not None:
            self._hold_(memory_horizon)
        if binding:
            size, made = d_state, self.in_proj.weight[2 * self.d_inner :]
            bind_(made[size : 2 * size], made[:size])
            for taps in self.conv1d.parameters():
                bind_(taps[self.d_inner + size :], taps[self.d_inner : self.d_inner + size])

    @torch.no_grad()
    def _hold_(self, horizon: int) -> None:
        pass_the_step_(self.conv1d)
        self.A_log.zero_()
        self.D.zero_()
        reads_and_writes = slice(2 * self.d_inner, 2 * (self.d_inner + self.d_state))
        self.in_proj.weight[reads_and_writes] *= math.sqrt(WRITE_GAIN * max(horizon, 1))

    @classmethod
    def placement(cls, memory_horizon: int | None = None, **_: Any) -> Placement:
        """Return a residual block for every layer including the first, without a perceptron, as published.

        A small constant is added to the layer's input, because the package's block outputs zero on a blank input.
        """
        return Placement(embed=True, depth=2, shift=blank_shift(memory_horizon), mlp_ratio=0.0)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros."""
        conv = self.conv1d.init_state(batch_size, device)
        return {"conv": conv, "ssm": conv.new_zeros(batch_size, self.num_heads, self.d_state, self.headdim)}

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        its = cast(dict[str, Tensor], state)
        z, *ubc, dt = self._project(x_BD)
        mixed, conv = self.conv1d.step(torch.cat(ubc, dim=-1), its["conv"])
        u, b, c = self._by_head(*torch.split(mixed, self._sizes(), dim=-1))
        log_decay, sign = self._decay(dt)
        before = its["ssm"] if sign is None else its["ssm"] * sign[..., None, None]
        y, ssm = matrix_step(c, b, u * dt.unsqueeze(-1), log_decay, before)
        return self._read(y, u, z), {"conv": conv, "ssm": ssm}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run the chunked scan between the products over all steps."""
        its = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0]))
        z, *ubc, dt = self._project(x_TBD)
        mixed, conv = self.conv1d.sequence(ubc, its["conv"], is_first_TB)
        u, b, c = self._by_head(*mixed)
        packaged = u.is_cuda and u.dtype == torch.float32 and not self.negative_eigenvalues
        packaged = packaged and rows_at_once(len(u), self.num_heads, self.headdim, self.d_state) > 0
        scan = package_scan() if packaged else None
        if scan is not None:
            y, ssm = run_package(scan, u, dt, self._rates(), b, c, is_first_TB, its["ssm"])
            return self._read(y, u, z), {"conv": conv, "ssm": ssm}
        log_decay, sign = self._decay(dt)
        v = u * dt.unsqueeze(-1)
        if sign is None:
            y, ssm = matrix_scan(c, b, v, log_decay, is_first_TB, its["ssm"])
        else:  # the scan carries the state times the product of all signs so far, which needs no sign of its own
            signs = sign.cumprod(0).unsqueeze(-1)
            y, ssm = matrix_scan(c, b, v * signs, log_decay, is_first_TB, its["ssm"])
            y, ssm = y * signs, ssm * signs[-1].unsqueeze(-1)
        return self._read(y, u, z), {"conv": conv, "ssm": ssm}

    def _rates(self) -> Tensor:
        return -self.A_log.exp()

    def _decay(self, dt: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logarithm of the size of the decay ``[.., num_heads]``, and its sign; None if all are positive."""
        log_decay = dt * self._rates()
        if not self.negative_eigenvalues:
            return log_decay, None
        decay = 2 * log_decay.exp() - 1
        sign = torch.where(decay.detach() < 0, -1.0, 1.0).to(decay.dtype)
        return decay.abs().clamp(min=SMALLEST_DECAY).log(), sign

    def _sizes(self) -> list[int]:
        """Return the numbers of channels of the convolution's parts: u, B and C."""
        return [self.d_inner, self.d_state, self.d_state]

    def _project(self, x: Tensor) -> list[Tensor]:
        """Return the gate, the three inputs of the convolution, and the time steps."""
        *weights, last = torch.split(self.in_proj.weight, [self.d_inner, *self._sizes(), self.num_heads])
        # The bias is added in full precision: autocast would round away the differences between long horizons.
        dt = wide_linear(x, last, self.dt_bias, SOFTPLUS)
        return [*(wide_linear(x, weight) for weight in weights), dt]

    def _by_head(self, u: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``u`` by head ``[.., H, P]``, and B and C of the one group ``[.., 1, N]``."""
        return u.reshape(*u.shape[:-1], self.num_heads, self.headdim), b.unsqueeze(-2), c.unsqueeze(-2)

    def _read(self, y: Tensor, u: Tensor, z: Tensor) -> Tensor:
        skip, weight = self.D.repeat_interleave(self.headdim), self.out_proj.weight * self.norm.weight
        return skip_out(y.flatten(-2), u.flatten(-2), z, skip, weight, self.norm.eps)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decay, and those that map an input to its time step, B and C.

        A time step is exponential in the output of ``in_proj``: if it learns at PPO's full rate, the time steps no
        longer fit the horizon after a few updates.
        """
        yield from (self.A_log, self.dt_bias, *self.in_proj.parameters())


Mamba2 = stacked(Mamba2Layer)


def checked_headdim(headdim: int | None, channels: int) -> int:
    """Return the channels of a head; None for the greatest common divisor of the package's 64 and the channels.

    Raises:
        UsageError: it does not divide the channels.
    """
    found = headdim or math.gcd(HEADDIM, channels)
    if found < 1 or channels % found:
        raise UsageError(f"headdim {headdim} does not divide the {channels} channels (expand * hidden_dim)")
    return found


@functools.cache
def package_scan() -> Callable[..., Any] | None:
    """Return the package's chunked scan, or None if it cannot be imported."""
    if importlib.util.find_spec("mamba_ssm") is None:
        return None
    try:
        module = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    except ImportError:
        return None
    return cast(Callable[..., Any], module.mamba_chunk_scan_combined)


def rows_at_once(steps: int, heads: int, headdim: int, d_state: int) -> int:
    """Return how many environments the package's kernels can read at once: no tensor of theirs has more numbers.

    For each environment and head their largest tensors have, forward or backward, a row of ``headdim``, ``d_state`` or
    :data:`CHUNK` numbers for each step, and a state for each chunk.
    """
    chunks = -(-steps // CHUNK)
    return LARGEST // (chunks * heads * max(CHUNK * max(headdim, d_state, CHUNK), headdim * d_state))


def run_package(
    scan: Callable[..., Any],
    u_TBHP: Tensor,
    dt_TBH: Tensor,
    a_H: Tensor,
    b_TB1N: Tensor,
    c_TB1N: Tensor,
    is_first_TB: Tensor,
    s0_BHNP: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run the package's scan with an initial state and resets; return ``y`` ``[T, B, H, P]`` and the last state.

    For the kernel, the initial state belongs to episode 0. If an episode begins at the first step, that episode has
    number 1, and the initial state does not reach it. Environments are read in groups that the kernel can count.

    Raises:
        RuntimeError: the sequence of a single environment is longer than the kernel can count
            (:func:`rows_at_once` is 0).
    """
    episode = is_first_TB.t().cumsum(1).int().contiguous()
    sequences = [x.transpose(0, 1).contiguous() for x in (u_TBHP, dt_TBH, b_TB1N, c_TB1N)]
    steps, _, heads, headdim = u_TBHP.shape
    rows = rows_at_once(steps, heads, headdim, b_TB1N.shape[3])
    groups = zip(*(torch.split(x, rows) for x in (*sequences, s0_BHNP.mT.contiguous(), episode)), strict=True)
    found = [
        scan(u, dt, a_H, b, c, CHUNK, initial_states=s0, seq_idx=numbers, return_final_states=True)
        for u, dt, b, c, s0, numbers in groups
    ]
    y, last = found[0] if len(found) == 1 else (torch.cat(parts) for parts in zip(*found, strict=True))
    return y.transpose(0, 1), last.mT
