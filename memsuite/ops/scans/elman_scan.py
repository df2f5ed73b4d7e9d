"""The recurrent half of an Elman network over a whole sequence (Elman 1990), ``h_t = tanh(x_t + U h_{t-1} + b)``.

The input products are one matrix product over all steps, computed outside of the op.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets, states_before, steps_of_a_block
from memsuite.ops.schema import define, differentiate, of_one_kind


def elman_scan(gi_TBD: Tensor, reset_TB: Tensor, h0_BD: Tensor, w_hh_DD: Tensor, b_hh_D: Tensor) -> Tensor:
    """Run ``h_t = tanh(gi_t + W_hh h_{t-1} + b_hh)`` over time, with the state zeroed before a reset step.

    Args:
        gi_TBD: input part, biases included, ``[T, B, D]``; T >= 1.
        reset_TB: bool ``[T, B]``.
        h0_BD: state before the first step, ``[B, D]``.
        w_hh_DD: recurrent weights, ``[D, D]``.
        b_hh_D: recurrent biases, ``[D]``.

    Returns:
        All states, ``[T, B, D]``; the last one is the outgoing state.
    """
    gi, h0, w_hh, b_hh = of_one_kind(gi_TBD, h0_BD, w_hh_DD, b_hh_D)
    return torch.ops.memsuite.elman_scan(gi, reset_TB, h0, w_hh, b_hh)  # type: ignore[no-any-return]


def _forward(gi: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
    out = torch.add(gi, b_hh, out=gi.new_empty(gi.shape))
    erase = reset.unsqueeze(-1)
    w_t = w_hh.t().contiguous()
    h = h0
    for any_reset, erase_t, y in zip(rows_with_resets(reset), erase.unbind(), out.unbind(), strict=True):
        if any_reset:
            h = h.masked_fill(erase_t, 0)
        h = y.addmm_(h, w_t).tanh_()
    return out


def _backward(
    grad: Tensor, states: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi``, ``h0``, ``w_hh`` and ``b_hh``."""
    steps, batch, size = states.shape
    d_gi = torch.addcmul(torch.ones((), dtype=states.dtype, device=states.device), states, states, value=-1)
    d_gi = d_gi.contiguous()
    erase, back = reset.unsqueeze(-1), torch.zeros_like(h0)
    per_step = zip(rows_with_resets(reset), grad.unbind(), d_gi.unbind(), erase.unbind(), strict=True)
    for any_reset, grad_t, d, erase_t in reversed(list(per_step)):
        d.mul_(back.add_(grad_t))
        back = d @ w_hh
        if any_reset:
            back.masked_fill_(erase_t, 0)
    d_w, block = torch.zeros_like(w_hh), steps_of_a_block(batch * size, grad.device)
    for begin in range(0, steps, block):
        at = slice(begin, min(begin + block, steps))
        d_w.addmm_(d_gi[at].view(-1, size).t(), states_before(h0, states, at, erase).view(-1, size))
    return d_gi, back, d_w, d_gi.sum((0, 1))


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _, reset, h0, w_hh, _ = inputs
    ctx.save_for_backward(output, reset, h0, w_hh)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    d_gi, d_h0, d_w, d_b = torch.ops.memsuite.elman_scan_backward(grad, *ctx.saved_tensors)
    return d_gi, None, d_h0, d_w, d_b


def _fake(gi: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
    return gi.new_empty(gi.shape)


def _fake_backward(
    grad: Tensor, states: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return states.new_empty(states.shape), h0.new_empty(h0.shape), w_hh.new_empty(w_hh.shape), w_hh.new_empty(len(w_hh))


define("elman_scan(Tensor gi, Tensor reset, Tensor h0, Tensor w_hh, Tensor b_hh) -> Tensor", _forward, _fake)
define(
    "elman_scan_backward(Tensor grad, Tensor states, Tensor reset, Tensor h0, Tensor w_hh)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("elman_scan", _autograd, _setup)
