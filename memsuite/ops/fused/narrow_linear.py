"""The linear map from a narrow input to a wide model.

An observation has few numbers, and the matrix product of BLAS is slow for such a small inner dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memsuite.ops.fused.wide_linear import wide_linear
from memsuite.ops.schema import define, differentiate, worth_fusing

NARROW = 32  # up to this number of inputs the op is faster than BLAS


def narrow_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x W^T + b`` like :func:`torch.nn.functional.linear`, by a compiled op where that is faster.

    Args:
        x: ``[.., K]``.
        weight: ``[D, K]``.
        bias: ``[D]``, or None for no bias.
    """
    if torch.is_autocast_enabled(x.device.type):
        return wide_linear(x, weight, bias)  # which adds the bias in full precision, or a long horizon would be lost
    if not worth_fusing(x) or x.shape[-1] > NARROW:
        return functional.linear(x, weight, bias)
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    return torch.ops.memsuite.narrow_linear(x, weight, bias)  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight, bias)


def _backward(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the weight and of the bias."""
    rows, d_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    return d_rows.t() @ rows, d_rows.sum(0)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    d_x = grad @ weight if ctx.needs_input_grad[0] else None  # an observation needs no gradient
    return (d_x, *torch.ops.memsuite.narrow_linear_backward(grad, x))


define(
    "narrow_linear(Tensor x, Tensor weight, Tensor bias) -> Tensor",
    _forward,
    lambda x, weight, bias: x.new_empty((*x.shape[:-1], weight.shape[0])),
)
define(
    "narrow_linear_backward(Tensor grad, Tensor x) -> (Tensor, Tensor)",
    _backward,
    lambda grad, x: (grad.new_empty((grad.shape[-1], x.shape[-1])), grad.new_empty(grad.shape[-1:])),
)
differentiate("narrow_linear", _autograd, _setup)
