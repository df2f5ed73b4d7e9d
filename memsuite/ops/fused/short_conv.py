"""The short causal convolution of many state space models, with one filter per channel, cut at episode beginnings.

Steps before a reset are left out of the sum instead of multiplied by zero, so that even a NaN cannot cross a reset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from memsuite.ops.schema import define, differentiate, of_one_kind


def short_conv(
    x_TBD: Tensor,
    weight_DW: Tensor,
    bias_D: Tensor | None,
    buffer_BLD: Tensor,
    reset_TB: Tensor,
    apply_silu: bool = False,
) -> Tensor:
    r"""Convolve each channel over the last ``W`` steps of its episode.

    .. math::
        y_t = f(b + \sum_{l < W} w_{W - 1 - l}\, x_{t - l}), \quad \text{over } t - l \text{ since the episode began}

    Args:
        x_TBD: inputs, ``[T, B, D]``, T >= 1.
        weight_DW: filters ``[D, W]``; the last column belongs to the present step.
        bias_D: ``[D]``, or None for no bias.
        buffer_BLD: the ``L = W - 1`` inputs before the first step, the newest at the end.
        reset_TB: bool ``[T, B]``, true where an episode begins.
        apply_silu: whether f is ``silu``; f is the identity otherwise.

    Returns:
        ``[T, B, D]``.
    """
    bias = weight_DW.new_zeros(weight_DW.shape[0]) if bias_D is None else bias_D
    x, weight, bias, buffer = of_one_kind(x_TBD, weight_DW, bias, buffer_BLD)
    return torch.ops.memsuite.short_conv(x, weight, bias, buffer, reset_TB, apply_silu)  # type: ignore[no-any-return]


def _lags(weight: Tensor, reset: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each lag, its filter weights ``[D]``, and whether an episode began since then, ``[T, B, 1]``."""
    hidden = torch.zeros_like(reset)
    for lag, tap in enumerate(reversed(weight.unbind(1))):
        if lag:
            earlier = reset.new_zeros(lag - 1, reset.shape[1])
            hidden = hidden | torch.cat([earlier, reset])[: len(reset)]
        yield lag, tap, hidden.unsqueeze(-1)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, buffer: Tensor, reset: Tensor, apply_silu: bool) -> Tensor:
    y = _sums(x, weight, bias, buffer, reset)
    return silu(y) if apply_silu else y


def _sums(x: Tensor, weight: Tensor, bias: Tensor, buffer: Tensor, reset: Tensor) -> Tensor:
    steps, lags = len(x), buffer.shape[1]
    window = torch.cat([buffer.transpose(0, 1), x])
    y = bias.expand(x.shape).clone(memory_format=torch.contiguous_format)
    for lag, tap, hidden in _lags(weight, reset):
        delayed = window[lags - lag : lags - lag + steps]
        y.addcmul_(delayed.masked_fill(hidden, 0) if lag else delayed, tap)
    return y


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, buffer: Tensor, reset: Tensor, apply_silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the input, the filters, the bias and the buffer."""
    if apply_silu:
        y = _sums(x, weight, bias, buffer, reset)
        sigma = torch.sigmoid(y)
        grad = grad * (sigma + y * sigma * (1 - sigma))
    steps, lags = len(x), buffer.shape[1]
    window = torch.cat([buffer.transpose(0, 1), x])
    d_window, d_taps = torch.zeros_like(window), []
    for lag, tap, hidden in _lags(weight, reset):
        at = slice(lags - lag, lags - lag + steps)
        d_window[at] += (grad * tap).masked_fill_(hidden, 0)
        d_taps.append((grad * window[at].masked_fill(hidden, 0)).sum((0, 1)))
    d_buffer = d_window[:lags].transpose(0, 1).contiguous()
    return d_window[lags:].clone(), torch.stack(d_taps[::-1], dim=1), grad.sum((0, 1)), d_buffer


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.apply_silu = inputs[5]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*torch.ops.memsuite.short_conv_backward(grad, *ctx.saved_tensors, ctx.apply_silu), None, None)


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, buffer: Tensor, reset: Tensor, apply_silu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_x, d_weight, d_buffer = (given.new_empty(given.shape) for given in (x, weight, buffer))
    return d_x, d_weight, x.new_empty(weight.shape[:1]), d_buffer


define(
    "short_conv(Tensor x, Tensor weight, Tensor bias, Tensor buffer, Tensor reset, bool apply_silu) -> Tensor",
    _forward,
    lambda x, weight, bias, buffer, reset, apply_silu: x.new_empty(x.shape),
)
define(
    "short_conv_backward(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor buffer, Tensor reset,"
    " bool apply_silu) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("short_conv", _autograd, _setup)
