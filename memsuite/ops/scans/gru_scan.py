"""The recurrent half of a GRU over a whole sequence (Cho et al. 2014; gates as in ``torch.nn.GRU``).

The input products are one matrix product over all steps, computed outside of the op. The backward pass computes
everything that does not depend on the incoming gradient for all steps at once; its loop over time has three operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets, states_before, steps_of_a_block
from memsuite.ops.schema import define, differentiate, of_one_kind


def gru_scan(gi_TBG: Tensor, reset_TB: Tensor, h0_BD: Tensor, w_hh_GD: Tensor, b_hh_G: Tensor) -> Tensor:
    """Run the GRU recurrence over time.

    With ``g = h_{t-1} W_hh^T + b_hh`` split like ``gi`` into reset, update and candidate parts::

        r = sigmoid(gi_r + g_r)     z = sigmoid(gi_z + g_z)
        n = tanh(gi_n + r * g_n)    h_t = (1 - z) * n + z * h_{t-1}

    Args:
        gi_TBG: input part of the gates, biases included, ``[T, B, 3 D]`` in the order r, z, n; T >= 1.
        reset_TB: bool ``[T, B]``; the state is zeroed before such a step.
        h0_BD: state before the first step, ``[B, D]``.
        w_hh_GD: recurrent weights, ``[3 D, D]``.
        b_hh_G: recurrent biases, ``[3 D]``.

    Returns:
        All states, ``[T, B, D]``; the last one is the outgoing state.
    """
    gi, h0, w_hh, b_hh = of_one_kind(gi_TBG, h0_BD, w_hh_GD, b_hh_G)
    states, _, _ = torch.ops.memsuite.gru_scan(gi, reset_TB, h0, w_hh, b_hh)
    return states  # type: ignore[no-any-return]


def _forward(gi: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the states, and for the backward pass ``[r, z, g_n]`` ``[T, B, 3 D]`` and ``n`` ``[T, B, D]``."""
    steps, batch, width = gi.shape
    size = width // 3
    states, gates, candidates = gi.new_empty(steps, batch, size), torch.empty_like(gi), gi.new_empty(steps, batch, size)
    erase = reset.unsqueeze(-1)
    w_t = w_hh.t().contiguous()
    h = h0
    per_step = zip(
        rows_with_resets(reset),
        erase.unbind(),
        gi[..., : 2 * size].unbind(),
        gi[..., 2 * size :].unbind(),
        gates.unbind(),
        gates[..., : 2 * size].unbind(),
        gates[..., :size].unbind(),
        gates[..., size : 2 * size].unbind(),
        gates[..., 2 * size :].unbind(),
        candidates.unbind(),
        states.unbind(),
        strict=True,
    )
    for any_reset, erase_t, gi_rz, gi_n, g, rz, r, z, g_n, n, y in per_step:
        if any_reset:
            h = h.masked_fill(erase_t, 0)
        torch.addmm(b_hh, h, w_t, out=g)
        rz.add_(gi_rz).sigmoid_()
        torch.addcmul(gi_n, r, g_n, out=n).tanh_()
        h = torch.lerp(n, h, z, out=y)
    return states, gates, candidates


def _backward(
    grad: Tensor, states: Tensor, gates: Tensor, candidates: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi``, ``h0``, ``w_hh`` and ``b_hh``, block by block from the end."""
    steps, batch, size = states.shape
    d_gi, d_w, d_b = torch.empty_like(gates), torch.zeros_like(w_hh), w_hh.new_zeros(len(w_hh))
    resets, erase = rows_with_resets(reset), reset.unsqueeze(-1)
    block = steps_of_a_block(3 * batch * size, grad.device)
    back: Tensor | None = None
    for begin in reversed(range(0, steps, block)):
        at = slice(begin, min(begin + block, steps))
        previous = states_before(h0, states, at, erase)
        r, z, g_n = gates[at].view(len(previous), batch, 3, size).unbind(-2)
        # d(pre-activation) / d(h_t), elementwise, for the candidate and for the three parts of g.
        admitted = 1 - z
        d_n = torch.addcmul(admitted, admitted, candidates[at].square(), value=-1)
        by_gate = d_n * r
        d_g = torch.stack([by_gate * g_n * (1 - r), (previous - candidates[at]) * z * (1 - z), by_gate], dim=-2)
        flow = torch.empty_like(previous)  # dL / dh_t over all paths
        back = _backward_loop(grad[at], flow, d_g, z, erase[at], resets[at], w_hh, back)
        flat = d_g.reshape(d_g.shape[0] * batch, 3 * size)
        d_w.addmm_(flat.t(), previous.flatten(0, 1))
        d_b += flat.sum(0)
        d_gi[at, :, : 2 * size] = d_g[:, :, :2].flatten(-2)
        torch.mul(flow, d_n, out=d_gi[at, :, 2 * size :])
    assert back is not None
    return d_gi, back, d_w, d_b


def _backward_loop(
    grad: Tensor,
    flow: Tensor,
    d_g: Tensor,
    z: Tensor,
    erase: Tensor,
    resets: list[bool],
    w_hh: Tensor,
    back: Tensor | None,
) -> Tensor:
    """Carry the gradient back through time: fill ``flow``, and turn ``d_g`` from derivatives into gradients, in place.

    On entry ``d_g`` holds the derivatives of the new state with respect to ``g``, and ``back`` is the gradient from the
    step after this block, already masked by its reset. Return the gradient that the first step of the block passes
    back.
    """
    wide = d_g.flatten(-2)
    per_step = zip(
        resets, grad.unbind(), flow.unbind(), d_g.unbind(), wide.unbind(), z.unbind(), erase.unbind(), strict=True
    )
    for any_reset, grad_t, f, d, d_flat, z_t, erase_t in reversed(list(per_step)):
        if back is None:
            f.copy_(grad_t)
        else:
            torch.add(grad_t, back, out=f)
        d.mul_(f.unsqueeze(1))
        back = (f * z_t).addmm_(d_flat, w_hh)
        if any_reset:
            back.masked_fill_(erase_t, 0)
    assert back is not None
    return back


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, reset, h0, w_hh, _ = inputs
    ctx.save_for_backward(*output, reset, h0, w_hh)


def _autograd(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None, None
    d_gi, dh0, dw, db = torch.ops.memsuite.gru_scan_backward(grad, *ctx.saved_tensors)
    return d_gi, None, dh0, dw, db


def _fake(gi: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    states = gi.new_empty(gi.shape[0], *h0.shape)
    return states, gi.new_empty(gi.shape), torch.empty_like(states)


def _fake_backward(
    grad: Tensor, states: Tensor, gates: Tensor, candidates: Tensor, reset: Tensor, h0: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weights = w_hh.new_empty(w_hh.shape), w_hh.new_empty(w_hh.shape[0])
    return gates.new_empty(gates.shape), h0.new_empty(h0.shape), *weights


define(
    "gru_scan(Tensor gi, Tensor reset, Tensor h0, Tensor w_hh, Tensor b_hh) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "gru_scan_backward(Tensor grad, Tensor states, Tensor gates, Tensor candidates, Tensor reset, Tensor h0,"
    " Tensor w_hh) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("gru_scan", _autograd, _setup, read=())
