"""RMSNorm of rows (Zhang & Sennrich 2019) in one pass over memory each way; PyTorch makes a dozen passes on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate, worth_fusing


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    r"""Return :math:`g x / \sqrt{\mathrm{mean}(x^2) + \epsilon}`, by a compiled op where that is faster.

    Args:
        x: rows, ``[.., D]``.
        gain: ``[D]``.
        eps: added to the mean square.
    """
    if not worth_fusing(x):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], gain, eps)
    return torch.ops.memsuite.rms_norm(x, gain, eps)[0]  # type: ignore[no-any-return]


def _forward(x: Tensor, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the output, and the factor that normalises each row."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x * scale * gain, scale


def _backward(grad: Tensor, x: Tensor, gain: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    unit, d_unit = x * scale, grad * gain
    d_x = scale * (d_unit - unit * (d_unit * unit).mean(-1, keepdim=True))
    return d_x, (grad * unit).reshape(-1, gain.shape[0]).sum(0)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:2], output[1])


def _autograd(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return (*torch.ops.memsuite.rms_norm_backward(grad, *ctx.saved_tensors), None)


define(
    "rms_norm(Tensor x, Tensor gain, float eps) -> (Tensor, Tensor)",
    _forward,
    lambda x, gain, eps: (x.new_empty(x.shape), x.new_empty((*x.shape[:-1], 1))),
)
define(
    "rms_norm_backward(Tensor grad, Tensor x, Tensor gain, Tensor scale) -> (Tensor, Tensor)",
    _backward,
    lambda grad, x, gain, scale: (x.new_empty(x.shape), gain.new_empty(gain.shape)),
)
differentiate("rms_norm", _autograd, _setup)
