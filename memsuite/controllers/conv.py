"""The short causal convolution at the input of many state space models, with a state and with resets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from memsuite.ops import short_conv, split_linear


class ShortConv(nn.Conv1d):
    """Depthwise convolution over the last ``width`` steps of the episode, then ``silu``.

    The parameters are those of ``nn.Conv1d``.

    Its state is a buffer ``[B, width - 1, channels]`` of the last inputs, the newest at the end, and zeros for steps
    before the episode. Cost per step: ``channels width`` multiply-adds.
    """

    def __init__(self, channels: int, width: int = 4, bias: bool = True) -> None:
        super().__init__(channels, channels, width, groups=channels, padding=width - 1, bias=bias)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """Return an empty buffer."""
        like = self.weight
        shape = batch_size, self.kernel_size[0] - 1, self.in_channels
        return torch.zeros(shape, device=device or like.device, dtype=like.dtype)

    def step(self, x_BD: Tensor, buffer: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take one step; return ``silu`` of the sum, ``[B, D]``, and the next buffer.

        Args:
            x_BD: the input.
            buffer: the inputs before it.
            bias: added to the sum of a convolution without a bias of its own.
        """
        window = torch.cat([buffer, x_BD.to(buffer.dtype).unsqueeze(1)], dim=1)
        y = self._sum_of_lags(list(reversed(window.unbind(1))))
        return silu(y if bias is None else y + bias), window[:, 1:]

    def sequence(
        self, parts: Sequence[Tensor], buffer: Tensor, is_first_TB: Tensor, biases: Sequence[Tensor | None] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """Convolve a sequence without crossing resets, and apply ``silu``.

        Args:
            parts: the input as one tensor or several, ``[T, B, channels]`` each, so that none need be copied to join
                them.
            buffer: the inputs before the sequence, of the joined channels.
            is_first_TB: bool ``[T, B]``.
            biases: a bias for each part; by default those of the convolution.

        Returns:
            The output by part, and the buffer after the sequence.
        """
        parts = [x.to(buffer.dtype) for x in parts]
        sizes = [x.shape[-1] for x in parts]
        weights, befores = torch.split(self.weight.squeeze(1), sizes), torch.split(buffer, sizes, dim=-1)
        if not biases:
            biases = [None] * len(parts) if self.bias is None else torch.split(self.bias, sizes)
        given = zip(parts, weights, biases, befores, strict=True)
        made = [short_conv(x, weight, bias, before, is_first_TB, True) for x, weight, bias, before in given]
        return made, last_inputs(buffer, parts, is_first_TB)

    def _sum_of_lags(self, delayed: list[Tensor]) -> Tensor:
        """Add up the inputs of ``0, 1, ..`` steps ago, each times its weight."""
        taps = self.weight.squeeze(1).unbind(1)[::-1]
        y = delayed[0] * taps[0] if self.bias is None else torch.addcmul(self.bias, delayed[0], taps[0])
        for x, tap in zip(delayed[1:], taps[1:], strict=True):
            y = torch.addcmul(y, x, tap)
        return y


def last_inputs(buffer_BLD: Tensor, parts: Sequence[Tensor], is_first_TB: Tensor) -> Tensor:
    """Return the buffer of a convolution after a sequence: the last inputs, and zeros for steps before the episode.

    Args:
        buffer_BLD: the inputs before the sequence.
        parts: the input as one tensor or several, ``[T, B, channels]`` each.
        is_first_TB: bool ``[T, B]``.
    """
    steps, lags = len(parts[0]), buffer_BLD.shape[1]
    last = torch.cat([x[max(0, steps - lags) :] for x in parts], dim=-1).transpose(0, 1)
    kept = torch.cat([buffer_BLD[:, min(steps, lags) :], last], dim=1)
    if not lags:
        return kept
    # A step is of an earlier episode if one begins after it. The steps before the sequence share one answer.
    begins = is_first_TB[max(0, steps - lags + 1) :].t()
    gone = begins.flip(1).cumsum(1).flip(1) > 0
    before, newest = gone[:, :1].expand(-1, lags - 1 - begins.shape[1]), gone.new_zeros(len(gone), 1)
    return kept.masked_fill(torch.cat([before, gone, newest], dim=1).unsqueeze(-1), 0)


class _Before(torch.autograd.Function):
    """A sequence moved by one step; its gradient is written once, where slices would fill zeros and add them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, last: Tensor, first: Tensor) -> Tensor:
        """Return the input before each step, zero where ``first``."""
        ctx.save_for_backward(first)
        return torch.cat([last.unsqueeze(0), x[:-1]]).masked_fill_(first, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of the sequence, whose last step nothing reads, and of the input before it."""
        (first,) = ctx.saved_tensors
        flow = torch.cat([grad, torch.zeros_like(grad[:1])])
        flow[:-1].masked_fill_(first, 0)
        return flow[1:], flow[0], None


def step_before(x: Tensor, last: Tensor, is_first_TB: Tensor) -> Tensor:
    """Return the input before each step, and zeros where an episode begins.

    Args:
        x: ``[T, B, ..]``.
        last: the input before the sequence, ``[B, ..]``.
        is_first_TB: bool ``[T, B]``.
    """
    first = is_first_TB.view(*is_first_TB.shape, *[1] * (x.dim() - 2))
    return _Before.apply(x, last, first)  # type: ignore[no-any-return, no-untyped-call]


def project_and_convolve(
    project: nn.Linear, conv: ShortConv, query_bias: Tensor, x: Tensor, buffer: Tensor, is_first_TB: Tensor | None
) -> tuple[Sequence[Tensor], Tensor]:
    """Project an input to queries, keys and values, and convolve them; the first part, the queries, has a bias.

    Args:
        project: the map to all parts, each as wide as the input.
        conv: over all parts, without a bias of its own.
        query_bias: of the queries, ``[width]``.
        x: ``[B, width]``, or ``[T, B, width]`` for a whole sequence.
        buffer: the inputs of the convolution before ``x``.
        is_first_TB: bool ``[T, B]``; None for a single step, whose state has already been reset.

    Returns:
        The parts, ``[.., width]`` each, and the next buffer.
    """
    width = x.shape[-1]
    count = project.out_features // width
    if is_first_TB is None:
        bias = torch.cat([query_bias, query_bias.new_zeros((count - 1) * width)])
        mixed, buffer = conv.step(project(x), buffer, bias)
        return mixed.chunk(count, dim=-1), buffer
    parts = split_linear(x, project.weight, [width] * count)
    return conv.sequence(parts, buffer, is_first_TB, [query_bias, *[None] * (count - 1)])


def bind_queries(project: nn.Linear, conv: ShortConv, query_bias: Tensor, follow: int) -> None:
    """Set the query projection equal to the one of the keys after it, so that recall works before training.

    Queries and values read the present step, and so do the keys but for the last ``follow`` channels of the first keys,
    which read the step before.

    Args:
        project: the map to queries, keys and values.
        conv: over all of them; without taps for the step before, all keys read the present step.
        query_bias: of the queries.
        follow: number of channels of the keys that read the step before.
    """
    width, taps = len(query_bias), conv.weight
    follow = follow if taps.shape[-1] > 1 else 0
    project.weight[:width] = project.weight[width : 2 * width]
    query_bias.mul_(0.3)
    taps.mul_(0.1)
    now = torch.ones(len(taps))
    now[2 * width - follow : 2 * width] = 0.0
    taps[:, 0, -1] += now
    if follow:
        taps[:, 0, -2] += 1 - now
