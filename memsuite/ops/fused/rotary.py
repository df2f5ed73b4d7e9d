"""Rotation of queries and keys by their positions, in one pass over memory (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate, worth_fusing


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    r"""Rotate channels of each head in pairs.

    .. math:: (a, b, c) \mapsto (a \cos - b \sin, a \sin + b \cos, c)

    Args:
        x: rows of heads, ``[.., H, W]`` with ``W`` at least ``2 F``; ``a`` are the first F channels of a head, ``b``
            the next F, and the rest ``c`` stays as it is.
        cos: cosines of the angles, ``[.., F]``, the same for all heads of a row.
        sin: sines of the angles, ``[.., F]``.

    Returns:
        A tensor of the shape of ``x``.
    """
    if not worth_fusing(x, step=3):
        return _forward(x, cos, sin)
    return torch.ops.memsuite.rotary(x, cos, sin)  # type: ignore[no-any-return]


def _forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    (a, b, c), cos, sin = _parts(x, cos), cos.unsqueeze(-2), sin.unsqueeze(-2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, c], dim=-1)


def _parts(x: Tensor, cos: Tensor) -> tuple[Tensor, ...]:
    """Split the channels into the two of each pair, and those that are not turned."""
    half = cos.shape[-1]
    if x.shape[-1] < 2 * half:
        raise RuntimeError("memsuite::rotary: x must be [.., H, W] with W at least 2 F, where cos is [.., F]")
    return torch.split(x, [half, half, x.shape[-1] - 2 * half], dim=-1)


def _backward(grad: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return _forward(grad, cos, -sin)  # the transpose of a rotation turns back


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    x, cos, sin = inputs
    turned = cos.requires_grad or sin.requires_grad  # by angles that are learnt; positions are not
    ctx.save_for_backward(cos, sin, x if turned else None)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    cos, sin, x = ctx.saved_tensors
    d_x = torch.ops.memsuite.rotary_backward(grad, cos, sin)
    if x is None:
        return d_x, None, None
    (a, b, _), (d_a, d_b, _) = _parts(x, cos), _parts(grad, cos)
    return d_x, (d_a * a + d_b * b).sum(-2), (d_b * a - d_a * b).sum(-2)


define(
    "rotary(Tensor x, Tensor cos, Tensor sin) -> Tensor",
    _forward,
    lambda x, cos, sin: x.new_empty(x.shape),
)
define(
    "rotary_backward(Tensor grad, Tensor cos, Tensor sin) -> Tensor",
    _backward,
    lambda grad, cos, sin: grad.new_empty(grad.shape),
)
differentiate("rotary", _autograd, _setup)
