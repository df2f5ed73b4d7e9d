"""The pseudo-mamba scan: ``h_t = tanh(x_t + h_{t-1})``, with the state zeroed before a reset step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets
from memsuite.ops.schema import define, differentiate, of_one_kind


def pscan(x_TBD: Tensor, reset_TB: Tensor, h0_BD: Tensor) -> Tensor:
    """Run ``h_t = tanh(x_t + keep_t * h_{t-1})`` over time, where ``keep_t`` erases reset rows, including NaNs.

    Args:
        x_TBD: input, ``[T, B, D]``, T >= 1.
        reset_TB: bool ``[T, B]``.
        h0_BD: state before the first step, ``[B, D]``.

    Returns:
        All states, ``[T, B, D]``; the last one is the outgoing state.
    """
    x, h0 = of_one_kind(x_TBD, h0_BD)
    return torch.ops.memsuite.pscan(x, reset_TB, h0)  # type: ignore[no-any-return]


def _forward(x: Tensor, reset: Tensor, h0: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    erase = reset.unsqueeze(-1)
    h = h0
    steps = zip(rows_with_resets(reset), x.unbind(), erase.unbind(), out.unbind(), strict=True)
    for any_reset, x_t, erase_t, y in steps:
        if any_reset:
            h = h.masked_fill(erase_t, 0)
        h = torch.add(x_t, h, out=y).tanh_()
    return out


def _backward(grad: Tensor, out: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    derivative = torch.addcmul(torch.ones((), dtype=out.dtype, device=out.device), out, out, value=-1)
    erase = reset.unsqueeze(-1)
    dx = torch.empty_like(out)
    later: Tensor | None = None  # the gradient that the next step passes back, already masked by its reset
    steps = zip(rows_with_resets(reset), grad.unbind(), derivative.unbind(), erase.unbind(), dx.unbind(), strict=True)
    for any_reset, g_t, derivative_t, erase_t, d in reversed(list(steps)):
        if later is None:
            torch.mul(g_t, derivative_t, out=d)
        else:
            torch.add(g_t, later, out=d).mul_(derivative_t)
        later = d.masked_fill(erase_t, 0) if any_reset else d
    assert later is not None
    return dx, later.clone()


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    dx, dh0 = torch.ops.memsuite.pscan_backward(grad, *ctx.saved_tensors)
    return dx, None, dh0


define(
    "pscan(Tensor x, Tensor reset, Tensor h0) -> Tensor",
    _forward,
    lambda x, reset, h0: torch.empty_like(x, memory_format=torch.contiguous_format),
)
define(
    "pscan_backward(Tensor grad, Tensor out, Tensor reset) -> (Tensor, Tensor)",
    _backward,
    lambda grad, out, reset: (torch.empty_like(out), torch.empty_like(out[0])),
)
differentiate("pscan", _autograd, _setup)
