"""The recurrent half of an LSTM over a whole sequence (Hochreiter & Schmidhuber 1997; gates as in ``torch.nn.LSTM``).

The input products are one matrix product over all steps, computed outside of the op. The backward pass computes
everything that does not depend on the incoming gradient for a block of steps at once, directly in the memory of the
gradient of the gates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets, states_before, steps_of_a_block
from memsuite.ops.schema import define, differentiate, of_one_kind


def lstm_scan(
    gi_TBG: Tensor, reset_TB: Tensor, h0_BD: Tensor, c0_BD: Tensor, w_hh_GD: Tensor, b_hh_G: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the LSTM recurrence over time.

    With ``a = gi_t + h_{t-1} W_hh^T + b_hh`` split into input, forget, cell and output parts::

        i = sigmoid(a_i)     f = sigmoid(a_f)     g = tanh(a_g)     o = sigmoid(a_o)
        c_t = f * c_{t-1} + i * g                 h_t = o * tanh(c_t)

    Args:
        gi_TBG: input part of the gates, biases included, ``[T, B, 4 D]`` in the order i, f, g, o; T >= 1.
        reset_TB: bool ``[T, B]``; ``h`` and ``c`` are zeroed before such a step.
        h0_BD: ``h`` before the first step, ``[B, D]``.
        c0_BD: ``c`` before the first step, ``[B, D]``.
        w_hh_GD: recurrent weights, ``[4 D, D]``.
        b_hh_G: recurrent biases, ``[4 D]``.

    Returns:
        All ``h`` and all ``c``, each ``[T, B, D]``; the last ones are the outgoing state.
    """
    gi, h0, c0, w_hh, b_hh = of_one_kind(gi_TBG, h0_BD, c0_BD, w_hh_GD, b_hh_G)
    states, cells, _ = torch.ops.memsuite.lstm_scan(gi, reset_TB, h0, c0, w_hh, b_hh)
    return states, cells


def _forward(
    gi: Tensor, reset: Tensor, h0: Tensor, c0: Tensor, w_hh: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``h``, ``c``, and for the backward pass the gates ``[i, f, g, o]`` as ``[T, B, 4 D]``."""
    steps, batch, width = gi.shape
    size = width // 4
    states, cells = gi.new_empty(steps, batch, size), gi.new_empty(steps, batch, size)
    gates = torch.add(gi, b_hh, out=gi.new_empty(gi.shape))
    erase = reset.unsqueeze(-1)
    w_t = w_hh.t().contiguous()
    h, c = h0, c0
    i_f, i, f, g, o = (gates[..., a * size : b * size].unbind() for a, b in ((0, 2), (0, 1), (1, 2), (2, 3), (3, 4)))
    per_step = zip(
        rows_with_resets(reset),
        erase.unbind(),
        gates.unbind(),
        zip(i_f, i, f, g, o, strict=True),
        cells.unbind(),
        states.unbind(),
        strict=True,
    )
    for any_reset, erase_t, a, (if_t, i_t, f_t, g_t, o_t), c_out, h_out in per_step:
        if any_reset:
            h, c = h.masked_fill(erase_t, 0), c.masked_fill(erase_t, 0)
        a.addmm_(h, w_t)
        if_t.sigmoid_()
        g_t.tanh_()
        o_t.sigmoid_()
        c = torch.mul(f_t, c, out=c_out).addcmul_(i_t, g_t)
        h = torch.tanh(c, out=h_out).mul_(o_t)
    return states, cells, gates


def _backward(
    grad: Tensor,
    grad_cells: Tensor | None,
    states: Tensor,
    cells: Tensor,
    gates: Tensor,
    reset: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi``, ``h0``, ``c0``, ``w_hh`` and ``b_hh``, block by block from the end."""
    steps, batch, size = states.shape
    d_gi, d_w, d_b = torch.empty_like(gates), torch.zeros_like(w_hh), w_hh.new_zeros(len(w_hh))
    resets, erase = rows_with_resets(reset), reset.unsqueeze(-1)
    block = steps_of_a_block(4 * batch * size, grad.device)
    back: tuple[Tensor, Tensor] | None = None
    for begin in reversed(range(0, steps, block)):
        at = slice(begin, min(begin + block, steps))
        previous_h, previous_c = states_before(h0, states, at, erase), states_before(c0, cells, at, erase)
        d_a = d_gi[at].view(len(previous_h), batch, 4, size)
        forget, through = _derivatives(d_a, gates[at].view_as(d_a), cells[at], previous_c)
        d_cells = None if grad_cells is None else grad_cells[at]
        back = _backward_loop(grad[at], d_cells, d_a, forget, through, erase[at], resets[at], w_hh, back)
        flat = d_a.reshape(d_a.shape[0] * batch, 4 * size)
        d_w.addmm_(flat.t(), previous_h.flatten(0, 1))
        d_b += flat.sum(0)
    assert back is not None
    return d_gi, *back, d_w, d_b


def _derivatives(d_a: Tensor, gates: Tensor, cells: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Write into ``d_a`` the derivatives of ``c_t`` with respect to a_i, a_f, a_g and of ``h_t`` with respect to a_o.

    Returns:
        ``dc_t / dc_{t-1}`` and ``dh_t / dc_t``, each ``[steps, B, D]``.
    """
    i, f, g, o = gates.unbind(-2)
    d_i, d_f, d_g, d_o = d_a.unbind(-2)
    tanh = cells.tanh()
    torch.mul(torch.addcmul(i, i, i, value=-1), g, out=d_i)
    torch.mul(torch.addcmul(f, f, f, value=-1), previous, out=d_f)
    torch.addcmul(i, i, g.square(), value=-1, out=d_g)
    torch.mul(torch.addcmul(o, o, o, value=-1), tanh, out=d_o)
    return f, torch.addcmul(o, o, tanh.square_(), value=-1)


def _backward_loop(
    grad: Tensor,
    grad_cells: Tensor | None,
    d_a: Tensor,
    forget: Tensor,
    through: Tensor,
    erase: Tensor,
    resets: list[bool],
    w_hh: Tensor,
    back: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Carry the gradient back through time: turn ``d_a`` from derivatives into gradients, in place.

    ``back`` holds the gradients of ``h`` and ``c`` from the step after this block, already masked by its reset. Return
    the gradients that the first step of the block passes back.
    """
    d_h, d_c = back if back is not None else (torch.zeros_like(grad[0]), torch.zeros_like(grad[0]))
    d_igf, d_o, wide = d_a[:, :, :3].unbind(), d_a[:, :, 3].unbind(), d_a.flatten(-2).unbind()
    direct = [None] * len(resets) if grad_cells is None else grad_cells.unbind()
    per_step = zip(
        resets, grad.unbind(), direct, d_igf, d_o, wide, forget.unbind(), through.unbind(), erase.unbind(), strict=True
    )
    for any_reset, grad_t, direct_t, igf, o, d_flat, f_t, through_t, erase_t in reversed(list(per_step)):
        d_h += grad_t
        d_c.addcmul_(d_h, through_t)
        if direct_t is not None:
            d_c += direct_t
        igf.mul_(d_c.unsqueeze(1))
        o.mul_(d_h)
        torch.mm(d_flat, w_hh, out=d_h)
        d_c.mul_(f_t)
        if any_reset:
            d_h.masked_fill_(erase_t, 0)
            d_c.masked_fill_(erase_t, 0)
    return d_h, d_c


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, reset, h0, c0, w_hh, _ = inputs
    ctx.save_for_backward(*output, reset, h0, c0, w_hh)


def _autograd(ctx: Any, grad: Tensor | None, grad_cells: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None and grad_cells is None:
        return None, None, None, None, None, None
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    grad = torch.zeros_like(saved[0]) if grad is None else grad
    d_gi, d_h0, d_c0, d_w, d_b = torch.ops.memsuite.lstm_scan_backward(grad, grad_cells, *saved)
    return d_gi, None, d_h0, d_c0, d_w, d_b


def _fake(
    gi: Tensor, reset: Tensor, h0: Tensor, c0: Tensor, w_hh: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    states = gi.new_empty(gi.shape[0], *h0.shape)
    return states, torch.empty_like(states), gi.new_empty(gi.shape)


def _fake_backward(
    grad: Tensor,
    grad_cells: Tensor | None,
    states: Tensor,
    cells: Tensor,
    gates: Tensor,
    reset: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    state = grad.new_empty(h0.shape)
    weights = w_hh.new_empty(w_hh.shape), w_hh.new_empty(w_hh.shape[0])
    return gates.new_empty(gates.shape), state, torch.empty_like(state), *weights


define(
    "lstm_scan(Tensor gi, Tensor reset, Tensor h0, Tensor c0, Tensor w_hh, Tensor b_hh) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "lstm_scan_backward(Tensor grad, Tensor? grad_cells, Tensor states, Tensor cells, Tensor gates, Tensor reset,"
    " Tensor h0, Tensor c0, Tensor w_hh) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("lstm_scan", _autograd, _setup, read=())
