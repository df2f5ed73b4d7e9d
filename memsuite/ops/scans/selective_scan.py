"""The selective scan of Mamba (Gu & Dao 2023, arXiv 2312.00752), with input-dependent decay and drive of its state.

Every channel has ``N`` states, too many to keep for all steps. The forward pass saves only the state before each block
of time, and the backward pass recomputes the states of a block, so that the memory use is that of the inputs at any
length. Within the ops the channels come last, because there are many channels and few states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.resets import rows_with_resets
from memsuite.ops.schema import define, differentiate, of_one_kind

STEPS = 16  # length of a block of time; a state is saved before each block
TILE = 1 << 19  # states computed at once, so that they stay in cache; the batch is cut into parts of at most this size


def selective_scan(
    u_TBD: Tensor, dt_TBD: Tensor, a_DN: Tensor, b_TBN: Tensor, c_TBN: Tensor, reset_TB: Tensor, h0_BDN: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Run the recurrence over time; the state is replaced by zero before a reset step, even if it holds NaNs.

    .. math::
        h_t[d, n] = e^{\Delta_t[d] A[d, n]} h_{t-1}[d, n] + \Delta_t[d] u_t[d] B_t[n], \quad
        y_t[d] = \sum_n C_t[n] h_t[d, n]

    The op contains no skip connection ``D u`` and no gate. Memory beyond the inputs: ``T B D N / 16`` floats.

    Args:
        u_TBD: input, ``[T, B, D]``, T >= 1.
        dt_TBD: time steps, positive (after the softplus).
        a_DN: rates of the states, negative.
        b_TBN: weights for writing to the states.
        c_TBN: weights for reading the states.
        reset_TB: bool ``[T, B]``.
        h0_BDN: state before the first step, of 32 or 64 bits; the computation is in the widest dtype of all.

    Returns:
        ``y`` ``[T, B, D]``, and the state after the last step ``[B, D, N]``.
    """
    u, dt, a, b, c, h0 = of_one_kind(u_TBD, dt_TBD, a_DN, b_TBN, c_TBN, h0_BDN)
    y, _, last = torch.ops.memsuite.selective_scan(u, dt, a, b, c, reset_TB, h0)
    return y, last


def selective_step(
    u_BD: Tensor, dt_BD: Tensor, a_DN: Tensor, b_BN: Tensor, c_BN: Tensor, h_BDN: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one step of :func:`selective_scan`; return ``y`` ``[B, D]`` and the next state."""
    u, dt, a, b, c, h_BDN = of_one_kind(u_BD, dt_BD, a_DN, b_BN, c_BN, h_BDN)
    if h_BDN.device.type == "cpu":  # a scan of one step: a third of the time of the operations below
        no_reset = torch.zeros(1, len(u), dtype=torch.bool, device=u.device)
        y, _, after = torch.ops.memsuite.selective_scan(u[None], dt[None], a, b[None], c[None], no_reset, h_BDN)
        return y[0], after
    h = torch.addcmul((dt * u).unsqueeze(2) * b.unsqueeze(1), torch.exp(dt.unsqueeze(2) * a), h_BDN)
    return (h * c.unsqueeze(1)).sum(2), h


def _blocks(steps: int) -> list[slice]:
    return [slice(begin, min(begin + STEPS, steps)) for begin in range(0, steps, STEPS)]


def _tiles(batch: int, size: int) -> list[slice]:
    """Divide the batch into ranges of rows, ``size`` numbers each, of at most one tile."""
    rows = max(1, TILE // max(1, size))
    return [slice(begin, min(begin + rows, batch)) for begin in range(0, max(1, batch), rows)]


def _swapped(x: Tensor) -> Tensor:
    """Swap channels and states into new memory, even where ``contiguous`` would not copy."""
    return x.mT.clone(memory_format=torch.contiguous_format)


def _per_block(work: Tensor, u: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fill ``work`` ``[2, >= C, >= B, N, D]`` with the decays and drives of a block; return both and ``dt u``."""
    decay, drive = work[:2, : len(u), : u.shape[1]]
    write = dt * u
    torch.mul(dt.unsqueeze(2), a, out=decay).exp_()
    torch.mul(write.unsqueeze(2), b.unsqueeze(3), out=drive)
    return decay, drive, write


def _states(decay: Tensor, h: Tensor, h0: Tensor, erase: Tensor, resets: list[bool]) -> Tensor:
    """Turn the drives ``h`` ``[C, B, N, D]`` into the states after each step, in place; return the last."""
    for any_reset, decay_t, h_t, erase_t in zip(resets, decay.unbind(), h.unbind(), erase.unbind(), strict=True):
        if any_reset:
            h0 = h0.masked_fill(erase_t, 0)
        h0 = h_t.addcmul_(decay_t, h0)
    return h0


def _over_states(weights: Tensor, h: Tensor, out: Tensor) -> None:
    """Write ``sum_n weights[.., n] h[.., n, d]`` into ``out``, because autocast would halve the precision of ``@``."""
    torch.matmul(weights.unsqueeze(2), h, out=out.unsqueeze(2))


def _over_channels(weights: Tensor, h: Tensor, out: Tensor) -> None:
    """Write ``sum_d weights[.., d] h[.., n, d]``; on a CPU eight times as fast as ``h @ weights``."""
    torch.matmul(weights.unsqueeze(2), h.mT, out=out.unsqueeze(2))


def _forward(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, reset: Tensor, h0: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``y``, the states before each block ``[blocks, B, N, D]``, and the last state ``[B, D, N]``."""
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    blocks, a_ND = _blocks(len(u)), a.t().contiguous()
    states = h0.new_empty(len(blocks) + 1, len(h0), *a_ND.shape)
    states[0] = h0.mT
    tiles = _tiles(len(h0), min(STEPS, len(u)) * a.numel())
    work = h0.new_empty(2, min(STEPS, len(u)), tiles[0].stop, *a_ND.shape)
    resets, erase = rows_with_resets(reset), reset.view(*reset.shape, 1, 1)
    for rows in tiles:
        for index, at in enumerate(blocks):
            decay, h, _ = _per_block(work, u[at, rows], dt[at, rows], a_ND, b[at, rows])
            states[index + 1, rows] = _states(decay, h, states[index, rows], erase[at, rows], resets[at])
            _over_states(c[at, rows], h, out=y[at, rows])
    return y, states[:-1], _swapped(states[-1])


def _backward(
    grad_y: Tensor,
    grad_last: Tensor,
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    reset: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``u, dt, a, b, c, h0``, block by block from the end."""
    d_u, d_dt, d_b, d_c = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, dt, b, c))
    a_ND, back = a.t().contiguous(), _swapped(grad_last)
    blocks, tiles = _blocks(len(u)), _tiles(len(back), min(STEPS, len(u)) * a.numel())
    work = back.new_empty(3, min(STEPS, len(u)), tiles[0].stop, *a_ND.shape)
    d_a = back.new_zeros(tiles[0].stop, *a_ND.shape)  # by row of a tile
    resets, erase = rows_with_resets(reset), reset.view(*reset.shape, 1, 1)
    for rows in tiles:
        for index, at in reversed(list(enumerate(blocks))):
            here = (at, rows)
            decay, h, write = _per_block(work, u[here], dt[here], a_ND, b[here])
            _states(decay, h, states[index, rows], erase[here], resets[at])
            _over_channels(grad_y[here], h, out=d_c[here])
            flow = work[2, : len(h), : h.shape[1]]
            torch.mul(c[here].unsqueeze(3), grad_y[here].unsqueeze(2), out=flow)
            back[rows] = _carry_back(
                flow, decay, h, states[index, rows], back[rows], dt[here], d_a, erase[here], resets[at]
            )
            _over_channels(write, flow, out=d_b[here])
            d_write = d_u[here]
            _over_states(b[here], flow, out=d_write)
            torch.addcmul(h.mul_(a_ND).sum(2), d_write, u[here], out=d_dt[here])
            d_write.mul_(dt[here])
    return d_u, d_dt, d_a.sum(0).t().contiguous(), d_b, d_c, _swapped(back)


def _carry_back(
    flow: Tensor,
    decay: Tensor,
    h: Tensor,
    h0: Tensor,
    back: Tensor,
    dt: Tensor,
    d_a: Tensor,
    erase: Tensor,
    resets: list[bool],
) -> Tensor:
    """Carry the gradient back through a block, in place; return the gradient that the first step passes back.

    On entry ``flow`` ``[C, B, N, D]`` holds the gradient that reaches each state through ``y``, and ``h`` the states.
    On return ``flow`` holds the whole gradient of each state, and ``h`` the gradient of ``dt a``. The gradient of the
    rates is added to ``d_a``.
    """
    before = [h0, *h.unbind()]
    d_a = d_a[: len(h0)]
    per_step = zip(
        resets,
        flow.unbind(),
        decay.unbind(),
        h.unbind(),
        before[:-1],
        dt.unsqueeze(2).unbind(),
        erase.unbind(),
        strict=True,
    )
    for any_reset, flow_t, decay_t, h_t, before_t, dt_t, erase_t in reversed(list(per_step)):
        flow_t.add_(back)
        back = decay_t.mul_(flow_t)
        torch.mul(back, before_t, out=h_t)
        if any_reset:
            back.masked_fill_(erase_t, 0)
            h_t.masked_fill_(erase_t, 0)
        d_a.addcmul_(h_t, dt_t)
    return back


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], output[1])


def _autograd(ctx: Any, grad_y: Tensor, _: Any, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    d_u, d_dt, d_a, d_b, d_c, d_h0 = torch.ops.memsuite.selective_scan_backward(grad_y, grad_last, *ctx.saved_tensors)
    return d_u, d_dt, d_a, d_b, d_c, None, d_h0


def _fake(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, reset: Tensor, h0: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    blocks = (u.shape[0] + STEPS - 1) // STEPS
    return u.new_empty(u.shape), h0.new_empty(blocks, h0.shape[0], h0.shape[2], h0.shape[1]), h0.new_empty(h0.shape)


def _fake_backward(
    grad_y: Tensor,
    grad_last: Tensor,
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    reset: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_u, d_dt, d_a, d_b, d_c, d_h0 = (x.new_empty(x.shape) for x in (u, dt, a, b, c, grad_last))
    return d_u, d_dt, d_a, d_b, d_c, d_h0


define(
    "selective_scan(Tensor u, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor reset, Tensor h0)"
    " -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "selective_scan_backward(Tensor grad_y, Tensor grad_last, Tensor u, Tensor dt, Tensor a, Tensor b, Tensor c,"
    " Tensor reset, Tensor states) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("selective_scan", _autograd, _setup, read=(0, 2))
