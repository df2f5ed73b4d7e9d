"""A linear map between wide features, with the function that follows it.

PyTorch's BLAS uses half of the vector width of many processors that are not of its maker. The compiled op uses all of
it. Its backward pass skips every row whose gradient is zero; above a recurrence these are most rows of a task whose
steps are mostly blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memsuite.ops.schema import define, differentiate, worth_fusing

PLAIN, SOFTPLUS, ELU_PLUS_ONE = range(3)  # the function after the map, numbered as in csrc
STEEP = 20.0  # beyond this, softplus is taken to be its argument, as PyTorch does
MANY = 256  # rows of a single step from which on the op is faster than PyTorch's


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, kind: int = PLAIN) -> Tensor:
    r"""Return :math:`f(W x + b)`, by a compiled op where that is faster.

    Args:
        x: rows, ``[.., K]``.
        weight: ``[D, K]``.
        bias: ``[D]``, or None for no bias.
        kind: the function f: ``PLAIN`` for none, ``SOFTPLUS``, or ``ELU_PLUS_ONE``, ``elu(x) + 1``.

    Returns:
        ``[.., D]``.
    """
    if not worth_fusing(x, step=1) or (x.dim() < 3 and x.shape[0] < MANY):
        # Under autocast the map is in half precision, and what follows it in full precision.
        made = functional.linear(x, weight)
        return _apply(made if bias is None else made.to(bias.dtype) + bias, kind)
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return torch.ops.memsuite.wide_linear(x, weight, bias, kind)  # type: ignore[no-any-return]


def split_linear(x: Tensor, weight: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the parts of ``W x`` as tensors of their own; ops would copy the parts of a joint tensor.

    Args:
        x: rows, ``[.., K]``.
        weight: ``[D, K]``.
        sizes: widths of the parts; their sum is D.
    """
    if not worth_fusing(x):
        return torch.split(functional.linear(x, weight), list(sizes), dim=-1)
    return tuple(wide_linear(x, part) for part in torch.split(weight, list(sizes)))


def _apply(x: Tensor, kind: int) -> Tensor:
    if kind == SOFTPLUS:
        return functional.softplus(x)
    return functional.elu(x) + 1 if kind == ELU_PLUS_ONE else x


def _forward(x: Tensor, weight: Tensor, bias: Tensor, kind: int) -> Tensor:
    return _apply(functional.linear(x, weight, bias), kind)


def _backward(grad: Tensor, x: Tensor, weight: Tensor, y: Tensor, kind: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the rows, the weight and the bias; ``y`` is the output, which tells the derivative."""
    if kind == SOFTPLUS:
        grad = grad * torch.where(y > STEEP, 1.0, -torch.expm1(-y))
    elif kind == ELU_PLUS_ONE:
        grad = grad * y.clamp(max=1)
    rows, d_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, weight.shape[0])
    return (d_rows @ weight).view(x.shape), d_rows.t() @ rows, d_rows.sum(0)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
    x, weight, _, kind = inputs
    # A plain map does not need its output, which then need not be kept.
    ctx.save_for_backward(x, weight, output.new_empty(0) if kind == PLAIN else output)
    ctx.kind = kind


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*torch.ops.memsuite.wide_linear_backward(grad, *ctx.saved_tensors, ctx.kind), None)


define(
    "wide_linear(Tensor x, Tensor weight, Tensor bias, int kind) -> Tensor",
    _forward,
    lambda x, weight, bias, kind: x.new_empty((*x.shape[:-1], weight.shape[0])),
)
define(
    "wide_linear_backward(Tensor grad, Tensor x, Tensor weight, Tensor y, int kind) -> (Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, x, weight, y, kind: (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        weight.new_empty(weight.shape[:1]),
    ),
)
differentiate("wide_linear", _autograd, _setup)
