"""Hyena (Poli et al. 2023, arXiv 2302.10866): a long convolution with an implicit filter, between two gates."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import RMSNorm, at_least, normed_out
from memsuite.controllers.conv import last_inputs
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.window import usual_context
from memsuite.controllers.wrapped import WholeSequence
from memsuite.ops import short_conv, split_linear
from memsuite.ops.build import cpu
from memsuite.ops.schema import worth_fusing
from memsuite.types import State

BANDS, INNER, SPEED = 8, 32, 8.0  # of the filter's network: sinusoids of the age, width, frequency of its sines
FAST, SLOW, TARGET, SHIFT = 0.3, 1.5, 0.01, 0.05  # the published window: decay to TARGET at FAST to SLOW lengths


class HyenaLayer(ZeroBegin, WholeSequence):
    r"""Hyena of order 2: a long convolution of one projection of the input, gated by two others.

    .. math::
        v, g_1, g_2 = \mathrm{conv}(W x), \quad z = g_1 \odot v, \quad
        y_t = W_o\, \mathrm{norm}\Big((g_{2,t} + b_g) \odot
        \big(b \odot z_t + \sum_{a < L} h_a \odot z_{t - a}\big)\Big), \quad
        h_a = w_a \odot \mathrm{FFN}(\mathrm{sinusoids}(a / L))

    The filter :math:`h` comes from a network with sines that reads the age, times a window :math:`w` that decays at a
    rate of each channel. In the paper the filter is as long as the sequence, and the state grows with it; here it has a
    bounded length L, ``context_length``, as the caches of the ``transformer`` have: nothing older is remembered. The
    sum is computed directly and not by a Fourier transform, in which later inputs would change the rounding of earlier
    outputs, so that its cost per step grows with L. A norm precedes the output projection, as in the ``transformer``.
    The paper has no bias :math:`b_g`. With it, a blank input writes nothing but still gets an answer.

    On a CPU one op reads a sequence across beginnings of episodes (:func:`~memsuite.ops.short_conv`). Elsewhere it is
    split wherever an episode begins (:class:`~memsuite.controllers.wrapped.WholeSequence`), which is slow where the
    environments' episodes begin at different steps.

    State: ``(context_length - 1) input_dim + 3 input_dim (conv_width - 1)`` floats. Cost per step:
    ``input_dim (4 input_dim + context_length)`` multiply-adds; a step alone also computes the filter,
    ``context_length`` evaluations of its network.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H to remember; sets the length of the filter if ``context_length`` is not given, and the
            window then decays over one to four lengths of the filter. None for the published window.
        context_length: length of the filter in steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        conv_width: number of steps that the short convolution sees, at least 2.
    """

    abilities = Abilities("window")

    rates: Tensor

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        conv_width: int = 3,
    ) -> None:
        super().__init__()
        width = self.input_dim = self.feature_dim = input_dim
        self.context_length = usual_context(memory_horizon) if context_length is None else context_length
        at_least("context_length", self.context_length, 1)
        at_least("conv_width", conv_width, 2)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.conv = nn.Conv1d(3 * width, 3 * width, conv_width, groups=3 * width, bias=False)
        self.first, self.second = nn.Linear(1 + 2 * BANDS, INNER), nn.Linear(INNER, INNER)
        self.last = nn.Linear(INNER, width, bias=False)
        self.present, self.gate_bias = nn.Parameter(torch.randn(width)), nn.Parameter(torch.ones(width))
        self.norm = RMSNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        if memory_horizon is None:
            rates, self.floor = -math.log(TARGET) / torch.linspace(FAST, SLOW, width), SHIFT
        else:
            rates, self.floor = 1 / torch.linspace(1, 4, width), 0.0
        self.register_buffer("rates", rates)

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return ``gated``, zeros ``[B, context_length - 1, D]``, and ``conv``, the short convolution's buffer."""
        like = self.present
        gated = like.new_zeros(batch_size, self.context_length - 1, self.feature_dim, device=device or like.device)
        buffer = gated.new_zeros(batch_size, self.conv.kernel_size[0] - 1, 3 * self.feature_dim)
        return {"gated": gated, "conv": buffer}

    def filter(self) -> Tensor:
        """Return the filter ``[context_length, D]``, the present step first."""
        like = self.present
        t = torch.linspace(0, 1, self.context_length, device=like.device, dtype=like.dtype).unsqueeze(1)
        angles = 2 * math.pi * t * torch.arange(1, BANDS + 1, device=like.device, dtype=like.dtype)
        inner = torch.sin(SPEED * self.first(torch.cat([t, angles.sin(), angles.cos()], dim=-1)))
        inner = torch.sin(SPEED * self.second(inner))
        return self.last(inner).to(like.dtype) * (torch.exp(-t * self.rates) + self.floor)  # type: ignore[no-any-return]

    def read(self, x_TBD: Tensor, state: State) -> tuple[Tensor, State]:
        """Gate, convolve and gate again, without resets."""
        before = cast(dict[str, Tensor], state)
        mixed, buffer = _convolved(before["conv"], self.project(x_TBD).to(self.present.dtype), self.conv.weight)
        v, gate_in, gate_out = mixed.chunk(3, dim=-1)
        z = gate_in * v
        summed, kept = _convolved(before["gated"], z, self.filter().flip(0).t().unsqueeze(1))
        return self._out(gate_out, summed + self.present * z), {"gated": kept, "conv": buffer}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Convolve across the beginnings of episodes by one op where that is faster, else between them."""
        if not worth_fusing(x_TBD) or cpu.STATUS.library is None:  # the op's reference is slow for long filters
            return super().forward_sequence(x_TBD, state, is_first_TB)
        before = cast(dict[str, Tensor], state)
        parts = split_linear(x_TBD, self.project.weight, [self.feature_dim] * 3)
        filters, buffers = self.conv.weight.squeeze(1).chunk(3), before["conv"].chunk(3, dim=-1)
        given = zip(parts, filters, buffers, strict=True)
        v, gate_in, gate_out = [short_conv(x, taps, None, buffer, is_first_TB) for x, taps, buffer in given]
        z, filter_LD = gate_in * v, self.filter()
        filter_LD = torch.cat([filter_LD[:1] + self.present, filter_LD[1:]])
        summed = short_conv(z, filter_LD.flip(0).t(), None, before["gated"], is_first_TB)
        after = {"gated": (before["gated"], [z]), "conv": (before["conv"], parts)}
        return self._out(gate_out, summed), {name: last_inputs(*given, is_first_TB) for name, given in after.items()}

    def _out(self, gate: Tensor, summed: Tensor) -> Tensor:
        return normed_out((gate + self.gate_bias) * summed, self.norm, self.out)


Hyena = stacked(HyenaLayer)


def _convolved(buffer_BSD: Tensor, x_TBD: Tensor, kernel_D1L: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve each channel, after the S = L - 1 inputs before; return ``[T, B, D]`` and the last L - 1 inputs."""
    window = torch.cat([buffer_BSD, x_TBD.transpose(0, 1)], dim=1)
    y = conv1d(window.transpose(1, 2), kernel_D1L, groups=len(kernel_D1L)).permute(2, 0, 1)
    return y, window[:, len(x_TBD) :]
