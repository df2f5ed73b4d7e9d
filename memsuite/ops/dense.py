"""The map of rows that most steps send no gradient back through: those whose gradient is zero cost nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from memsuite.ops._library import define, differentiate, fused


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x W^T + b`` as :func:`torch.nn.functional.linear` does; by an op of our own where that is faster.

    Args:
        x: ``[.., K]``.
        weight: ``[D, K]``.
        bias: ``[D]``, or None for none.
    """
    if not fused(x):
        return linear(x, weight, bias)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return torch.ops.memsuite.dense(x, weight, bias)  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return linear(x, weight, bias)


def _backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, d_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    return grad @ weight, d_rows.t() @ rows, d_rows.sum(0)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.memsuite.dense_backward(grad, *ctx.saved_tensors)  # type: ignore[no-any-return]


define(
    "dense(Tensor x, Tensor weight, Tensor bias) -> Tensor",
    _forward,
    lambda x, weight, bias: x.new_empty((*x.shape[:-1], weight.shape[0])),
)
define(
    "dense_backward(Tensor grad, Tensor x, Tensor weight) -> (Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, x, weight: (x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(weight.shape[:1])),
)
differentiate("dense", _autograd, _setup)
