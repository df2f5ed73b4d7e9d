r"""The recurrent half of the sLSTM over a whole sequence (Beck et al. 2024, arXiv 2405.04517).

The input products are one matrix product over all steps, computed outside of the op.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from memsuite.ops.scans.resets import rows_with_resets, states_before, steps_of_a_block
from memsuite.ops.schema import define, differentiate, of_one_kind


def slstm_scan(
    gi_TBG: Tensor,
    reset_TB: Tensor,
    h0_BD: Tensor,
    c0_BD: Tensor,
    n0_BD: Tensor,
    m0_BD: Tensor,
    w_hh_GD: Tensor,
    b_hh_G: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the sLSTM recurrence over time, with the whole state zeroed before a reset step.

    With ``a = gi_t + h_{t-1} W_hh^T + b_hh`` split into input, forget, cell and output parts::

        m_t = max(log sigmoid(a_f) + m_{t-1}, a_i)      i = exp(a_i - m_t)
        f = exp(log sigmoid(a_f) + m_{t-1} - m_t)       z = tanh(a_z)     o = sigmoid(a_o)
        c_t = f * c_{t-1} + i * z       n_t = f * n_{t-1} + i             h_t = o * c_t / n_t

    Where ``n_{t-1}`` is zero nothing was written yet: ``m_t`` is then ``a_i``, and ``f`` is 0. The output does not
    depend on ``m``, so no gradient goes through it.

    Args:
        gi_TBG: input part of the gates, biases included, ``[T, B, 4 D]`` in the order i, f, z, o; T >= 1.
        reset_TB: bool ``[T, B]``.
        h0_BD: ``h`` before the first step, ``[B, D]``.
        c0_BD: ``c`` before the first step, ``[B, D]``.
        n0_BD: the normaliser ``n`` before the first step, ``[B, D]``.
        m0_BD: the stabiliser ``m`` before the first step, ``[B, D]``.
        w_hh_GD: recurrent weights, ``[4 D, D]``.
        b_hh_G: recurrent biases, ``[4 D]``.

    Returns:
        All ``h``, ``c``, ``n`` and ``m``, each ``[T, B, D]``; the last ones are the outgoing state.
    """
    parts = (gi_TBG, h0_BD, c0_BD, n0_BD, m0_BD.detach(), w_hh_GD, b_hh_G)
    gi, *state, w_hh, b_hh = of_one_kind(*parts)
    h, c, n, m, _ = torch.ops.memsuite.slstm_scan(gi, reset_TB, *state, w_hh, b_hh)
    return h, c, n, m.detach()


def slstm_gates(a: Tensor, n: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gates i, f, z, o and the next stabiliser from ``a`` ``[.., 4 D]`` and ``n`` and ``m`` before it."""
    a_i, a_f, a_z, a_o = a.chunk(4, dim=-1)
    kept, fresh = logsigmoid(a_f) + m.detach(), n == 0
    peak = torch.where(fresh, a_i, torch.maximum(kept, a_i)).detach()
    # Where nothing was written, the exponent is replaced before it is used: an overflow there would be a NaN later.
    forget = (kept - peak).masked_fill(fresh, 0).exp().masked_fill(fresh, 0)
    return (a_i - peak).exp(), forget, a_z.tanh(), a_o.sigmoid(), peak


def _forward(
    gi: Tensor, reset: Tensor, h0: Tensor, c0: Tensor, n0: Tensor, m0: Tensor, w_hh: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return ``h``, ``c``, ``n``, ``m``, and for the backward pass ``[i, f, z, o, 1 - sigmoid(a_f)]``."""
    steps, batch, width = gi.shape
    size = width // 4
    drive, erase, w_t = gi + b_hh, reset.unsqueeze(-1), w_hh.t().contiguous()
    parts = gi.new_empty(4, steps, batch, size)
    gates = gi.new_empty(steps, batch, 5, size)
    state = [h0, c0, n0, m0]
    per_step = zip(
        rows_with_resets(reset), erase.unbind(), drive.unbind(), gates.unbind(), parts.unbind(1), strict=True
    )
    for any_reset, erase_t, a, saved, out in per_step:
        h, c, n, m = [part.masked_fill(erase_t, 0) for part in state] if any_reset else state
        a = torch.addmm(a, h, w_t)
        i, f, z, o, m = slstm_gates(a, n, m)
        c, n = torch.addcmul(i * z, f, c), torch.addcmul(i, f, n)
        state = [o * c / n, c, n, m]
        torch.stack(state, out=out)
        torch.stack([i, f, z, o, torch.sigmoid(-a[:, size : 2 * size])], dim=1, out=saved)
    states, cells, totals, peaks = (part.clone() for part in parts)
    return states, cells, totals, peaks, gates.flatten(2)


def _backward(
    grad: Tensor,
    grad_cells: Tensor | None,
    grad_totals: Tensor | None,
    states: Tensor,
    cells: Tensor,
    totals: Tensor,
    gates: Tensor,
    reset: Tensor,
    h0: Tensor,
    c0: Tensor,
    n0: Tensor,
    w_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``gi``, ``h0``, ``c0``, ``n0``, ``w_hh`` and ``b_hh``, block by block from the end."""
    steps, batch, size = states.shape
    d_gi, d_w = states.new_empty(steps, batch, 4, size), torch.zeros_like(w_hh)
    erase, resets = reset.unsqueeze(-1), rows_with_resets(reset)
    back = [torch.zeros_like(h0) for _ in range(3)]
    block = steps_of_a_block(4 * batch * size, grad.device)
    direct = (grad_cells, grad_totals)
    for begin in reversed(range(0, steps, block)):
        at = slice(begin, min(begin + block, steps))
        before = [states_before(first, part, at, erase) for first, part in ((c0, cells), (n0, totals))]
        slopes = _slopes(gates[at].view(-1, batch, 5, size), states[at], totals[at], before)
        given = [None if part is None else part[at] for part in direct]
        back = _backward_loop(grad[at], given, slopes, d_gi[at], erase[at], resets[at], w_hh, back)
        previous = states_before(h0, states, at, erase).view(-1, size)
        d_w.addmm_(d_gi[at].reshape(-1, 4 * size).t(), previous)
    wide = d_gi.flatten(2)
    return wide, back[0], back[1], back[2], d_w, wide.sum((0, 1))


def _slopes(gates: Tensor, h: Tensor, n: Tensor, before: list[Tensor]) -> dict[str, Tensor]:
    """Return the derivatives that do not depend on the incoming gradient, for all steps of a block at once."""
    i, f, z, o, unkept = gates.unbind(-2)
    return {
        "h_c": o / n,
        "h_n": -h / n,
        "h_o": h * (1 - o),
        "c_f": before[0] * f * unkept,
        "n_f": before[1] * f * unkept,
        "c_i": i * z,
        "n_i": i,
        "c_z": i * (1 - z * z),
        "f": f,
    }


def _backward_loop(
    grad: Tensor,
    direct: list[Tensor | None],
    slopes: dict[str, Tensor],
    d_a: Tensor,
    erase: Tensor,
    resets: list[bool],
    w_hh: Tensor,
    back: list[Tensor],
) -> list[Tensor]:
    """Carry the gradients of ``h``, ``c`` and ``n`` back through time, and fill ``d_a`` ``[T, B, 4, D]``."""
    per_slope = zip(*(part.unbind() for part in slopes.values()), strict=True)
    also = [[None] * len(resets) if part is None else list(part.unbind()) for part in direct]
    per_step = zip(resets, grad.unbind(), *also, per_slope, d_a.unbind(), erase.unbind(), strict=True)
    for any_reset, grad_t, also_c, also_n, values, d, erase_t in reversed(list(per_step)):
        slope = dict(zip(slopes, values, strict=True))
        d_h = back[0] + grad_t
        d_c, d_n = torch.addcmul(back[1], d_h, slope["h_c"]), torch.addcmul(back[2], d_h, slope["h_n"])
        d_c, d_n = d_c if also_c is None else d_c + also_c, d_n if also_n is None else d_n + also_n
        made = [
            d_c * slope["c_i"] + d_n * slope["n_i"],
            d_c * slope["c_f"] + d_n * slope["n_f"],
            d_c * slope["c_z"],
            d_h * slope["h_o"],
        ]
        torch.stack(made, dim=1, out=d)
        back = [d.flatten(1) @ w_hh, d_c * slope["f"], d_n * slope["f"]]
        if any_reset:
            back = [part.masked_fill(erase_t, 0) for part in back]
    return back


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    _, reset, h0, c0, n0, _, w_hh, _ = inputs
    states, cells, totals, peaks, gates = output
    ctx.mark_non_differentiable(peaks, gates)
    ctx.save_for_backward(states, cells, totals, gates, reset, h0, c0, n0, w_hh)


def _autograd(
    ctx: Any, grad: Tensor | None, grad_cells: Tensor | None, grad_totals: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_cells is None and grad_totals is None:
        return (None,) * 8
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    grad = torch.zeros_like(saved[0]) if grad is None else grad
    d_gi, d_h0, d_c0, d_n0, d_w, d_b = torch.ops.memsuite.slstm_scan_backward(grad, grad_cells, grad_totals, *saved)
    return d_gi, None, d_h0, d_c0, d_n0, None, d_w, d_b


def _fake(
    gi: Tensor, reset: Tensor, h0: Tensor, c0: Tensor, n0: Tensor, m0: Tensor, w_hh: Tensor, b_hh: Tensor
) -> tuple[Tensor, ...]:
    parts = [gi.new_empty(gi.shape[0], *h0.shape) for _ in range(4)]
    return (*parts, gi.new_empty(*gi.shape[:2], 5 * h0.shape[1]))


def _fake_backward(
    grad: Tensor,
    grad_cells: Tensor | None,
    grad_totals: Tensor | None,
    states: Tensor,
    cells: Tensor,
    totals: Tensor,
    gates: Tensor,
    reset: Tensor,
    h0: Tensor,
    c0: Tensor,
    n0: Tensor,
    w_hh: Tensor,
) -> tuple[Tensor, ...]:
    d_gi = states.new_empty(*states.shape[:2], 4 * states.shape[2])
    begins = [h0.new_empty(h0.shape) for _ in range(3)]
    return (d_gi, *begins, w_hh.new_empty(w_hh.shape), w_hh.new_empty(len(w_hh)))


define(
    "slstm_scan(Tensor gi, Tensor reset, Tensor h0, Tensor c0, Tensor n0, Tensor m0, Tensor w_hh, Tensor b_hh)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "slstm_scan_backward(Tensor grad, Tensor? grad_cells, Tensor? grad_totals, Tensor states, Tensor cells,"
    " Tensor totals, Tensor gates, Tensor reset, Tensor h0, Tensor c0, Tensor n0, Tensor w_hh)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
# m0 is a constant: what is scaled by it is scaled back.
differentiate("slstm_scan", _autograd, _setup, read=(), constant=(5,))
