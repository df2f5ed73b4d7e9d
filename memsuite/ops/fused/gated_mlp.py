"""The gated perceptron of a block, with the norm before it, added to its input stream.

Each direction is one pass over memory, because a row goes through both products while it is in cache. The compiled
backward pass skips every row whose gradient is zero; these are most rows in a task whose steps are mostly blank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from memsuite.ops.schema import define, differentiate


def gated_mlp(x: Tensor, up: Tensor, down: Tensor, eps: float) -> Tensor:
    r"""Return the stream plus the output of the perceptron.

    .. math:: x + W_2 (\mathrm{silu}(W_g n) \odot W_1 n), \quad n = x / \sqrt{\mathrm{mean}(x^2) + \epsilon}

    Args:
        x: the stream, ``[.., D]``.
        up: :math:`W_g` stacked on :math:`W_1`, ``[2 I, D]``; a gain of the norm is a factor of its columns.
        down: :math:`W_2`, ``[D, I]``.
        eps: added to the mean square.
    """
    return torch.ops.memsuite.gated_mlp(x, up, down, eps)[0]  # type: ignore[no-any-return]


def _forward(x: Tensor, up: Tensor, down: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, the result of the first map ``[.., 2 I]``, and the factor that normalises each row."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    hidden = linear(x, up) * scale
    gate, top = hidden.chunk(2, dim=-1)
    return x + linear(silu(gate) * top, down), hidden, scale


def _backward(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, hidden: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    gate, top = hidden.chunk(2, dim=-1)
    sigma, d_act = torch.sigmoid(gate), grad @ down
    passed = gate * sigma
    d_hidden = torch.cat([d_act * top * (sigma + passed * (1 - sigma)), d_act * passed], dim=-1)
    through = (d_hidden * hidden).sum(-1, keepdim=True) * scale.square() / x.shape[-1]
    rows = [part.reshape(-1, part.shape[-1]) for part in (grad, x, passed * top, d_hidden * scale)]
    d_x = grad + (d_hidden * scale) @ up - through * x
    return d_x, rows[3].t() @ rows[1], rows[0].t() @ rows[2]


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])


def _autograd(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return (*torch.ops.memsuite.gated_mlp_backward(grad, *ctx.saved_tensors), None)


def _fake(x: Tensor, up: Tensor, down: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    leading = x.shape[:-1]
    return x.new_empty(x.shape), x.new_empty((*leading, up.shape[0])), x.new_empty((*leading, 1))


def _fake_backward(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, hidden: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_x, d_up, d_down = (part.new_empty(part.shape) for part in (x, up, down))
    return d_x, d_up, d_down


define("gated_mlp(Tensor x, Tensor up, Tensor down, float eps) -> (Tensor, Tensor, Tensor)", _forward, _fake)
define(
    "gated_mlp_backward(Tensor grad, Tensor x, Tensor up, Tensor down, Tensor hidden, Tensor scale)"
    " -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("gated_mlp", _autograd, _setup)
