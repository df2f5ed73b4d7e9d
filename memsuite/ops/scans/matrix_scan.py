"""The matrix-state recurrence of linear attention and related models, one chunk of time after the other.

This op serves linear attention, Mamba-2 and mLSTM (a decay), Gated DeltaNet and Gated DeltaProduct (a decay and the
delta rule), HGRN2 (a decay of each channel), KDA (the delta rule with such decays), and Gated DeltaNet-2 and RWKV-7
(erasure at an address that is not the key). Within a chunk everything is a matrix product; between chunks the state is
carried. The forward pass keeps only the states at the boundaries of the chunks, and the backward pass recomputes each
chunk, so that the memory use is that of the inputs at any length. The compiled op takes the steps of a chunk one by
one, because a state of this size fits in the first-level cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate

CHUNK = 32  # steps; with a longer chunk the products within chunks grow and the carries between chunks shrink
CLOSE = 8  # steps of a chunk that are taken together where channels decay on their own, which is no matrix product


def matrix_scan(
    q_TBHK: Tensor,
    k_TBHK: Tensor,
    v_TBHV: Tensor,
    log_decay: Tensor,
    reset_TB: Tensor,
    s0_BHKV: Tensor,
    beta_TBH: Tensor | None = None,
    erase_TBHK: Tensor | None = None,
    address_TBHK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Run the recurrence over time, with the state zeroed before a reset step.

    .. math::
        S_t = \mathrm{Diag}(a_t) S_{t-1} + k_t v_t^\top, \quad y_t = S_t^\top q_t, \quad
        a_t = \exp(\mathrm{log\_decay}_t)

    where the decay is one number of each head, or one of each channel of its keys. With ``beta`` it is the gated delta
    rule (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464), chunked by its WY form (Yang et al. 2024, arXiv
    2406.06484):

    .. math::
        S_t = (I - \beta_t k_t k_t^\top) \mathrm{Diag}(a_t) S_{t-1} + \beta_t k_t v_t^\top

    With :math:`\beta` up to 2 a step has negative eigenvalues (Grazzi et al. 2024, arXiv 2411.12537). With ``erase``,
    e, and ``address``, r, what the state holds at the address is taken away elsewhere than where the value is written:

    .. math::
        S_t = \mathrm{Diag}(a_t) S_{t-1} - e_t (r_t^\top S_{t-1}) + k_t v_t^\top

    Several such edits of one step are as many steps of this scan, with decays of 1 after the first.

    Args:
        q_TBHK: queries, ``[T, B, H, K]``, T >= 1; a single head (H = 1) is shared by all.
        k_TBHK: keys, of the same shape.
        v_TBHV: values, ``[T, B, H, V]``.
        log_decay: logarithms of the decays, at most 0, ``[T, B, H]``, or ``[T, B, H, K]`` for one of each channel.
        reset_TB: bool ``[T, B]``.
        s0_BHKV: state before the first step.
        beta_TBH: write strengths of the delta rule; None for a plain sum. With it keys have unit length.
        erase_TBHK: where what is found is taken away, e, with all heads; not together with ``beta_TBH``.
        address_TBHK: where it is found, r, of the same shape; given if and only if ``erase_TBHK`` is.

    Returns:
        ``y``, ``[T, B, H, V]``, and the state after the last step.
    """
    dtype = s0_BHKV.dtype  # autocast passes half precision; a recurrence would add up its rounding errors
    q, k, v, g = (x.to(dtype) for x in (q_TBHK, k_TBHK, v_TBHV, log_decay))
    if erase_TBHK is not None and g.dim() == 3:
        g = g.unsqueeze(-1).expand(erase_TBHK.shape)  # the compiled op edits with decays of channels
    also = [None if x is None else x.to(dtype) for x in (beta_TBH, erase_TBHK, address_TBHK)]
    y, _, last = torch.ops.memsuite.matrix_scan(q, k, v, g, reset_TB, s0_BHKV, *also)
    return y, last


def chunk_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    beta: Tensor | None = None,
    erase: Tensor | None = None,
    address: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one chunk; arguments as :func:`matrix_scan`'s, time-major. Differentiable.

    With decays of channels it takes fewer steps together, with arrays of ``[B, H, steps, steps, K]``: their factors
    alone could leave the range of the numbers.
    """
    if log_decay.dim() == 4 and len(v) > CLOSE:
        outputs = []
        for begin in range(0, len(v), CLOSE):
            at = slice(begin, begin + CLOSE)
            taken = _at(at, beta, erase, address)
            y, s0 = chunk_forward(q[at], k[at], v[at], log_decay[at], reset[at], s0, *taken)
            outputs.append(y)
        return torch.cat(outputs), s0
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    logs = (log_decay if log_decay.dim() == 4 else log_decay.unsqueeze(-1)).permute(1, 2, 0, 3)
    total = logs.cumsum(-2)  # sum of the log decays up to each step, [B, H, C, K or 1]
    episode = reset.t().cumsum(-1).unsqueeze(1)  # number of episodes that began in this chunk, [B, 1, C]
    same = (episode.unsqueeze(-1) == episode.unsqueeze(-2)).tril()  # whether step j is visible from step i
    carried = (episode > 0).unsqueeze(-1)

    def passed(until: Tensor, visible: Tensor) -> Tensor:
        """Return what is left at step i of what was written at step j, ``[B, H, C, C, K or 1]``."""
        apart = until.unsqueeze(-2) - total.unsqueeze(-3)
        return apart.masked_fill(~visible.unsqueeze(-1), -torch.inf).exp()

    def recalled(x: Tensor, until: Tensor) -> Tensor:
        """Return what x finds in the incoming state; masked, not multiplied by zero."""
        return ((until.exp() * x) @ s0).masked_fill(carried, 0)

    decay = passed(total, same)
    writes = [(k, v)]
    if beta is not None:
        strength = beta.permute(1, 2, 0).unsqueeze(-1)
        system = (strength * _met(k, k, decay)).tril(-1)
        writes = [(k, _solved(system, strength * (v - recalled(k, total))))]
    if erase is not None and address is not None:
        e, r = (x.permute(1, 2, 0, 3) for x in (erase, address))
        before = passed(total - logs, same.tril(-1))
        found = _solved(_met(r, e, before), recalled(r, total - logs) + _met(r, k, before) @ v)
        writes.append((e, -found))
    y, last = recalled(q, total), (total[..., -1:, :].exp().mT * s0).masked_fill(carried[..., -1:, :], 0)
    for key, value in writes:
        y = y + _met(q, key, decay) @ value
        last = last + (key * decay[..., -1, :, :]).mT @ value
    return y.permute(2, 0, 1, 3), last


def _met(x: Tensor, y: Tensor, decay: Tensor) -> Tensor:
    """Return the products of the rows of ``x`` and the decayed rows of ``y``, ``[B, H, C, C]``."""
    if decay.shape[-1] == 1:
        return x @ y.mT * decay.squeeze(-1)
    return (x.unsqueeze(-2) * decay * y.unsqueeze(-3)).sum(-1)


def _solved(system: Tensor, known: Tensor) -> Tensor:
    """Return ``u`` with ``u_i = known_i - sum_{j<i} system_ij u_j``, a unit lower triangular system of a chunk.

    What a step finds, and so what the delta rule writes, depends on what the steps before it wrote.
    """
    u: Tensor = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
    return u


def _at(at: slice, *parts: Tensor | None) -> list[Any]:
    return [None if x is None else x[at] for x in parts]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    beta: Tensor | None,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``y``, the states before each chunk ``[chunks, B, H, K, V]``, and the last state."""
    y, state, states = torch.empty_like(v, memory_format=torch.contiguous_format), s0, []
    for begin in range(0, len(v), CHUNK):
        at = slice(begin, begin + CHUNK)
        states.append(state)
        y[at], state = _chunk(_at(at, q, k, v, log_decay, reset), state, _at(at, beta, erase, address))
    return y, torch.stack(states), state.contiguous()


def _chunk(parts: list[Any], state: Tensor, also: list[Any]) -> tuple[Tensor, Tensor]:
    """Run one chunk; if it has a value that is not finite and a reset, run it again step by step.

    In a product the steps of other episodes are multiplied by zero, and NaN times zero is NaN; a single step involves
    no other episodes. On an accelerator this check is left out, because the host would have to wait for it.
    """
    q, k, v, log_decay, reset = parts
    y, after = chunk_forward(q, k, v, log_decay, reset, state, *also)
    if y.device.type != "cpu" or torch.isfinite(y.sum() + after.sum()) or not reset.any():
        return y, after
    for t in range(len(reset)):
        at = slice(t, t + 1)
        y[at], state = chunk_forward(q[at], k[at], v[at], log_decay[at], reset[at], state, *_at(at, *also))
    return y, state


def _backward(
    grad_y: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    states: Tensor,
    beta: Tensor | None,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of ``q, k, v, log_decay, s0, beta, erase, address``; empty for what is not there."""
    sources = [q, k, v, log_decay, *(x for x in (beta, erase, address) if x is not None)]
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in sources]
    back = grad_last
    for index in range(len(states) - 1, -1, -1):
        at = slice(index * CHUNK, (index + 1) * CHUNK)
        with torch.enable_grad():
            parts = [x[at].detach().requires_grad_() for x in sources]
            s0, more = states[index].detach().requires_grad_(), iter(parts[4:])
            also = [None if x is None else next(more) for x in (beta, erase, address)]
            outputs = chunk_forward(parts[0], parts[1], parts[2], parts[3], reset[at], s0, *also)
            *found, back = torch.autograd.grad(outputs, [*parts, s0], (grad_y[at], back))
        for into, part in zip(grads, found, strict=True):
            into[at] = part
    rest = iter(grads[4:])
    return *grads[:4], back, *(v.new_empty(0) if x is None else next(rest) for x in (beta, erase, address))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, log_decay, reset, _, *also = inputs
    ctx.save_for_backward(q, k, v, log_decay, reset, output[1], *also)


def _autograd(ctx: Any, grad_y: Tensor, _: Any, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    dq, dk, dv, dg, ds, *rest = torch.ops.memsuite.matrix_scan_backward(grad_y, grad_last, *saved)
    return dq, dk, dv, dg, None, ds, *(None if x is None else d for x, d in zip(saved[6:], rest, strict=True))


def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    beta: Tensor | None,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    chunks = (v.shape[0] + CHUNK - 1) // CHUNK
    return v.new_empty(v.shape), s0.new_empty((chunks, *s0.shape)), s0.new_empty(s0.shape)


def _fake_backward(
    grad_y: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    states: Tensor,
    beta: Tensor | None,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, ...]:
    also = [v.new_empty(0) if x is None else x.new_empty(x.shape) for x in (beta, erase, address)]
    return *(x.new_empty(x.shape) for x in (q, k, v, log_decay, states[0])), *also


define(
    "matrix_scan(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor reset, Tensor s0, Tensor? beta, Tensor? erase,"
    " Tensor? address) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "matrix_scan_backward(Tensor grad_y, Tensor grad_last, Tensor q, Tensor k, Tensor v, Tensor log_decay,"
    " Tensor reset, Tensor states, Tensor? beta, Tensor? erase, Tensor? address)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("matrix_scan", _autograd, _setup, read=(0, 2))
