"""The output of a memory with several heads: each head is normalised and gated, and one linear map mixes all heads.

Each direction is one pass over memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from memsuite.ops.schema import define, differentiate, worth_fusing

NONE, SILU, SIGMOID = range(3)  # kinds of gates, numbered as in csrc


def gated_out(y: Tensor, gate: Tensor | None, weight: Tensor, eps: float, kind: int) -> Tensor:
    r"""Return :math:`W (\mathrm{norm}(y) \odot \phi(g))`, with a separate norm for each head.

    Args:
        y: the outputs of the memory, ``[.., H, V]``.
        gate: ``[.., H V]``, or None.
        weight: ``[D, H V]``; a gain of the norm is a factor of its columns.
        eps: added to the mean square of each head.
        kind: kind of the gate, ``SILU`` or ``SIGMOID``; ``NONE`` without a gate.

    Returns:
        ``[.., D]``.
    """
    if not worth_fusing(y, step=3):
        made = rms_norm(y, y.shape[-1:], eps=eps).flatten(-2)
        return linear(made if gate is None else made * _open(gate, kind), weight)
    gate = y.new_empty(0) if gate is None else gate.view(y.shape)
    return torch.ops.memsuite.gated_out(y, gate, weight, eps, kind)  # type: ignore[no-any-return]


def _open(gate: Tensor, kind: int) -> Tensor:
    return silu(gate) if kind == SILU else torch.sigmoid(gate)


def _forward(y: Tensor, gate: Tensor, weight: Tensor, eps: float, kind: int) -> Tensor:
    made = rms_norm(y, y.shape[-1:], eps=eps)
    return linear((made * _open(gate, kind) if kind else made).flatten(-2), weight)


def _backward(
    grad: Tensor, y: Tensor, gate: Tensor, weight: Tensor, eps: float, kind: int
) -> tuple[Tensor, Tensor, Tensor]:
    scale = torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    unit, d_made = y * scale, (grad @ weight).view(y.shape)
    made, d_unit, d_gate = unit, d_made, gate.new_empty(0)
    if kind:
        sigma, opened = torch.sigmoid(gate), _open(gate, kind)
        derivative = sigma * (1 - sigma) if kind == SIGMOID else sigma + opened * (1 - sigma)
        made, d_unit, d_gate = unit * opened, d_made * opened, d_made * unit * derivative
    d_y = scale * (d_unit - unit * (d_unit * unit).mean(-1, keepdim=True))
    return d_y, d_gate, grad.reshape(-1, weight.shape[0]).t() @ made.reshape(-1, weight.shape[1])


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, int], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.eps, ctx.kind = inputs[3:]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    d_y, d_gate, d_weight = torch.ops.memsuite.gated_out_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.kind)
    return d_y, d_gate, d_weight, None, None  # without a gate, of the empty tensor in its place


define(
    "gated_out(Tensor y, Tensor gate, Tensor weight, float eps, int kind) -> Tensor",
    _forward,
    lambda y, gate, weight, eps, kind: y.new_empty((*y.shape[:-2], weight.shape[0])),
)
define(
    "gated_out_backward(Tensor grad, Tensor y, Tensor gate, Tensor weight, float eps, int kind)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, y, gate, weight, eps, kind: tuple(x.new_empty(x.shape) for x in (y, gate, weight)),
)
differentiate("gated_out", _autograd, _setup)
