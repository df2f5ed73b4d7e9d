"""The output of a Mamba block: the skip connection, the gate, a norm where there is one, and the linear map.

Each direction is one pass over memory, and the backward pass skips every row whose gradient is zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from memsuite.ops.schema import define, differentiate, worth_fusing


def skip_out(y: Tensor, u: Tensor, z: Tensor, skip: Tensor, weight: Tensor, eps: float | None = None) -> Tensor:
    r"""Return :math:`W\, \mathrm{norm}((y + D \odot u) \odot \mathrm{silu}(z))`.

    Args:
        y: the output of the recurrence, ``[.., E]``.
        u: its input, ``[.., E]``.
        z: the gate, ``[.., E]``.
        skip: :math:`D`, ``[E]``.
        weight: :math:`W`, ``[D, E]``; a gain of the norm is a factor of its columns.
        eps: added to the mean square by the norm; None for no norm.

    Returns:
        ``[.., D]``.
    """
    if not worth_fusing(y):
        made = _gated(y, u, z, skip)
        return linear(made if eps is None else rms_norm(made, made.shape[-1:], eps=eps), weight)
    return torch.ops.memsuite.skip_out(y, u, z, skip, weight, eps)  # type: ignore[no-any-return]


def _gated(y: Tensor, u: Tensor, z: Tensor, skip: Tensor) -> Tensor:
    return torch.addcmul(y, skip, u) * silu(z).to(y.dtype)


def _forward(y: Tensor, u: Tensor, z: Tensor, skip: Tensor, weight: Tensor, eps: float | None) -> Tensor:
    made = _gated(y, u, z, skip)
    return linear(made if eps is None else rms_norm(made, made.shape[-1:], eps=eps), weight)


def _backward(
    grad: Tensor, y: Tensor, u: Tensor, z: Tensor, skip: Tensor, weight: Tensor, eps: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``y, u, z``, the skip connection and the weight."""
    total, sigma = torch.addcmul(y, skip, u), torch.sigmoid(z)
    gate = z * sigma
    read = made = total * gate
    d_made = grad @ weight
    if eps is not None:
        scale = torch.rsqrt(made.square().mean(-1, keepdim=True) + eps)
        read = made * scale
        d_made = scale * (d_made - read * (d_made * read).mean(-1, keepdim=True))
    d_y = d_made * gate
    d_z = d_made * total * (sigma + gate * (1 - sigma))
    d_skip = (d_y * u).reshape(-1, skip.shape[0]).sum(0)
    return d_y, d_y * skip, d_z, d_skip, grad.reshape(-1, weight.shape[0]).t() @ read.reshape(-1, weight.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.eps = inputs[5]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*torch.ops.memsuite.skip_out_backward(grad, *ctx.saved_tensors, ctx.eps), None)


define(
    "skip_out(Tensor y, Tensor u, Tensor z, Tensor skip, Tensor weight, float? eps) -> Tensor",
    _forward,
    lambda y, u, z, skip, weight, eps: y.new_empty((*y.shape[:-1], weight.shape[0])),
)
define(
    "skip_out_backward(Tensor grad, Tensor y, Tensor u, Tensor z, Tensor skip, Tensor weight, float? eps)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, y, u, z, skip, weight, eps: tuple(x.new_empty(x.shape) for x in (y, u, z, skip, weight)),
)
differentiate("skip_out", _autograd, _setup)
