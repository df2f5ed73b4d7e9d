"""The first-order linear recurrence ``h_t = a_t * h_{t-1} + x_t``, with the state zeroed before a reset step.

Numbers are real or complex. The backward pass is the same recurrence in reverse, with the conjugate decay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets, states_before, steps_of_a_block
from memsuite.ops.schema import define, differentiate, of_one_kind


def diagonal_scan(a: Tensor, x_TBD: Tensor, reset_TB: Tensor, h0_BD: Tensor) -> Tensor:
    """Run ``h_t = a_t * keep_t * h_{t-1} + x_t`` over time, where ``keep_t`` erases reset rows, including NaNs.

    Args:
        a: decay, ``[D]`` if constant in time, otherwise ``[T, B, D]``.
        x_TBD: input, ``[T, B, D]``, T >= 1; ``a``, ``x`` and ``h0`` are real or complex, and taken in the widest of
            their dtypes.
        reset_TB: bool ``[T, B]``.
        h0_BD: state before the first step, ``[B, D]``.

    Returns:
        All states, ``[T, B, D]``; the last one is the outgoing state. The memory use is that of the inputs.
    """
    a, x, h0 = of_one_kind(a, x_TBD, h0_BD)
    return torch.ops.memsuite.diagonal_scan(a, x, reset_TB, h0)  # type: ignore[no-any-return]


def _over_time(a: Tensor, steps: int) -> list[Tensor]:
    """Return the decay of each step, for a constant and for a changing decay."""
    return [a] * steps if a.dim() == 1 else list(a.unbind())


def _forward(a: Tensor, x: Tensor, reset: Tensor, h0: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    erase = reset.unsqueeze(-1)
    decays = _over_time(a.resolve_conj(), len(x))
    h = h0
    per_step = zip(rows_with_resets(reset), decays, x.unbind(), erase.unbind(), out.unbind(), strict=True)
    for any_reset, a_t, x_t, erase_t, y in per_step:
        if any_reset:
            h = h.masked_fill(erase_t, 0)
        h = torch.addcmul(x_t, a_t, h, out=y)
    return out


def _backward(grad: Tensor, a: Tensor, out: Tensor, reset: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``a``, ``x`` and ``h0``."""
    dx = torch.empty_like(out)
    erase = reset.unsqueeze(-1)
    decays = _over_time(a.conj().resolve_conj(), len(out))
    nothing = torch.zeros((), dtype=out.dtype, device=out.device)
    later, decay = None, decays[-1]  # the gradient of the step after, and its decay, already erased by its reset
    per_step = zip(rows_with_resets(reset), decays, grad.unbind(), erase.unbind(), dx.unbind(), strict=True)
    for any_reset, a_t, g_t, erase_t, d in reversed(list(per_step)):
        if later is None:
            d.copy_(g_t)
        else:
            torch.addcmul(g_t, decay, later, out=d)
        later, decay = d, torch.where(erase_t, nothing, a_t) if any_reset else a_t
    return _decay_gradient(a, dx, out, erase, h0), dx, dx[0] * decay


def _decay_gradient(a: Tensor, dx: Tensor, out: Tensor, erase: Tensor, h0: Tensor) -> Tensor:
    """Return ``dx_t * conj(h_{t-1})`` with resets applied, summed over time and batch if the decay is constant."""
    steps, batch, size = out.shape
    d_a = torch.zeros_like(a, dtype=out.dtype)
    block = steps_of_a_block(batch * size, out.device)
    for begin in range(0, steps, block):
        at = slice(begin, min(begin + block, steps))
        part = states_before(h0, out, at, erase).conj() * dx[at]
        if a.dim() == 3:
            d_a[at] = part
        else:
            d_a += part.sum((0, 1))
    return d_a


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
    a, _, reset, h0 = inputs
    ctx.save_for_backward(a, output, reset, h0)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
    d_a, dx, dh0 = torch.ops.memsuite.diagonal_scan_backward(grad, *ctx.saved_tensors)
    return d_a, dx, None, dh0


def _fake(a: Tensor, x: Tensor, reset: Tensor, h0: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fake_backward(grad: Tensor, a: Tensor, out: Tensor, reset: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), torch.empty_like(out), h0.new_empty(h0.shape)


define("diagonal_scan(Tensor a, Tensor x, Tensor reset, Tensor h0) -> Tensor", _forward, _fake)
define(
    "diagonal_scan_backward(Tensor grad, Tensor a, Tensor out, Tensor reset, Tensor h0) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("diagonal_scan", _autograd, _setup)
