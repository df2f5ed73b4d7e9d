"""A linear map of RMS-normalised rows that never computes the normalised rows.

The norm divides a row by one number, and this factor passes through a linear map. The op therefore divides the few
outputs instead of the many inputs. For wide features and a narrow head this saves most of the memory traffic of a norm,
forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate


def normed_linear(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    r"""Return :math:`W x / \sqrt{\mathrm{mean}(x^2) + \epsilon}` (RMSNorm, Zhang & Sennrich 2019, then a linear map).

    Args:
        x: rows, ``[.., D]``.
        weight: ``[A, D]``; a gain of the norm is a factor of its columns.
        eps: added to the mean square.
    """
    return torch.ops.memsuite.normed_linear(x, weight, eps)[0]  # type: ignore[no-any-return]


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the map of the rows before the norm, and the factor that normalises each row."""
    plain = torch.nn.functional.linear(x, weight)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.rsqrt(length.square() / x.shape[-1] + eps)
    return plain * scale, plain, scale


def _backward(grad: Tensor, x: Tensor, weight: Tensor, plain: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    d_plain = grad * scale
    d_scale = (grad * plain).sum(-1, keepdim=True)
    rows, d_rows = x.reshape(-1, x.shape[-1]), d_plain.reshape(-1, weight.shape[0])
    d_x = (d_rows @ weight).view(x.shape)
    d_x.addcmul_(x, d_scale * scale.pow(3).div_(-x.shape[-1]))
    return d_x, d_rows.t() @ rows


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1], output[2])


def _autograd(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
    return (*torch.ops.memsuite.normed_linear_backward(grad, *ctx.saved_tensors), None)


def _fake(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    out = x.new_empty((*x.shape[:-1], weight.shape[0]))
    return out, torch.empty_like(out), x.new_empty((*x.shape[:-1], 1))


def _fake_backward(grad: Tensor, x: Tensor, weight: Tensor, plain: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


define("normed_linear(Tensor x, Tensor weight, float eps) -> (Tensor, Tensor, Tensor)", _forward, _fake)
define(
    "normed_linear_backward(Tensor grad, Tensor x, Tensor weight, Tensor plain, Tensor scale) -> (Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("normed_linear", _autograd, _setup)
