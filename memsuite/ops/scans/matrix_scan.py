"""The matrix-state recurrence of linear attention and related models, one chunk of time after the other.

This op serves linear attention, Mamba-2 and mLSTM (a decay), and gated DeltaNet (a decay and the delta rule). Within a
chunk everything is a matrix product; between chunks the state is carried. The forward pass keeps only the states at the
boundaries of the chunks, and the backward pass recomputes each chunk, so that the memory use is that of the inputs at
any length. The compiled op takes the steps of a chunk one by one, because a state of this size fits in the first-level
cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate

CHUNK = 32  # steps; with a longer chunk the products within chunks grow and the carries between chunks shrink


def matrix_scan(
    q_TBHK: Tensor,
    k_TBHK: Tensor,
    v_TBHV: Tensor,
    log_decay_TBH: Tensor,
    reset_TB: Tensor,
    s0_BHKV: Tensor,
    beta_TBH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Run the recurrence over time, with the state zeroed before a reset step.

    .. math::
        S_t = a_t S_{t-1} + k_t v_t^\top, \quad y_t = S_t^\top q_t, \quad a_t = \exp(\mathrm{log\_decay}_t)

    and with ``beta`` the gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464), chunked by its WY form
    (Yang et al. 2024, arXiv 2406.06484):

    .. math::
        S_t = a_t (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top

    Args:
        q_TBHK: queries, ``[T, B, H, K]``, T >= 1; a single head (H = 1) is shared by all.
        k_TBHK: keys, of the same shape.
        v_TBHV: values, ``[T, B, H, V]``.
        log_decay_TBH: logarithms of the decays, at most 0, ``[T, B, H]``.
        reset_TB: bool ``[T, B]``.
        s0_BHKV: state before the first step.
        beta_TBH: write strengths of the delta rule; None for a plain sum. With it keys have unit length.

    Returns:
        ``y``, ``[T, B, H, V]``, and the state after the last step.
    """
    dtype = s0_BHKV.dtype  # autocast passes half precision; a recurrence would add up its rounding errors
    q, k, v, g = (x.to(dtype) for x in (q_TBHK, k_TBHK, v_TBHV, log_decay_TBH))
    beta = None if beta_TBH is None else beta_TBH.to(dtype)
    y, _, last = torch.ops.memsuite.matrix_scan(q, k, v, g, reset_TB, s0_BHKV, beta)
    return y, last


def chunk_forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, s0: Tensor, beta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run one chunk; arguments as :func:`matrix_scan`'s, time-major. Differentiable."""
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
    total = log_decay.permute(1, 2, 0).cumsum(-1)  # sum of the log decays up to each step, [B, H, C]
    episode = reset.t().cumsum(-1).unsqueeze(1)  # number of episodes that began in this chunk, [B, 1, C]
    same = (episode.unsqueeze(-1) == episode.unsqueeze(-2)).tril()  # whether step j is visible from step i
    decay = (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~same, -torch.inf).exp()
    # Weights of the incoming state at each step, and of each step at the end; masked, not multiplied by zero.
    carried = (episode > 0).unsqueeze(-1)
    inflow = total.exp().unsqueeze(-1)
    outflow = decay[..., -1, :].unsqueeze(-1)
    if beta is not None:
        v = _delta_values(k, v, decay, (inflow * (k @ s0)).masked_fill(carried, 0), beta.permute(1, 2, 0).unsqueeze(-1))
    y = (q @ k.mT * decay) @ v + (inflow * (q @ s0)).masked_fill(carried, 0)
    last = (inflow[..., -1:, :] * s0).masked_fill(carried[..., -1:, :], 0) + (k * outflow).mT @ v
    return y.permute(2, 0, 1, 3), last


def _delta_values(k: Tensor, v: Tensor, decay: Tensor, recalled: Tensor, beta: Tensor) -> Tensor:
    """Return the values that the delta rule writes at each step: ``u`` with ``S_t = a_t S_{t-1} + k_t u_t^T``.

    ``u_i = beta_i (v_i - a_i S_{i-1}^T k_i)`` depends on the ``u`` before it: a unit lower triangular system.
    """
    system = (beta * (k @ k.mT) * decay).tril(-1)
    u: Tensor = torch.linalg.solve_triangular(system, beta * (v - recalled), upper=False, unitriangular=True)
    return u


def _forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, s0: Tensor, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``y``, the states before each chunk ``[chunks, B, H, K, V]``, and the last state."""
    y, state, states = torch.empty_like(v, memory_format=torch.contiguous_format), s0, []
    for begin in range(0, len(v), CHUNK):
        at = slice(begin, begin + CHUNK)
        states.append(state)
        parts = q[at], k[at], v[at], log_decay[at], reset[at]
        y[at], state = _chunk(*parts, state, None if beta is None else beta[at])
    return y, torch.stack(states), state.contiguous()


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, state: Tensor, beta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run one chunk; if it has a value that is not finite and a reset, run it again step by step.

    In a product the steps of other episodes are multiplied by zero, and NaN times zero is NaN; a single step involves
    no other episodes. On an accelerator this check is left out, because the host would have to wait for it.
    """
    y, after = chunk_forward(q, k, v, log_decay, reset, state, beta)
    if y.device.type != "cpu" or torch.isfinite(y.sum() + after.sum()) or not reset.any():
        return y, after
    for t in range(len(v)):
        at = slice(t, t + 1)
        parts = q[at], k[at], v[at], log_decay[at], reset[at]
        y[at], state = chunk_forward(*parts, state, None if beta is None else beta[at])
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``q, k, v, log_decay, s0, beta`` (the last one is empty without beta)."""
    sources = [q, k, v, log_decay] + ([] if beta is None else [beta])
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in sources]
    back = grad_last
    for index in range(len(states) - 1, -1, -1):
        at = slice(index * CHUNK, (index + 1) * CHUNK)
        with torch.enable_grad():
            parts = [x[at].detach().requires_grad_() for x in sources]
            s0 = states[index].detach().requires_grad_()
            outputs = chunk_forward(
                parts[0], parts[1], parts[2], parts[3], reset[at], s0, None if beta is None else parts[4]
            )
            *found, back = torch.autograd.grad(outputs, [*parts, s0], (grad_y[at], back))
        for into, part in zip(grads, found, strict=True):
            into[at] = part
    return grads[0], grads[1], grads[2], grads[3], back, grads[4] if beta is not None else v.new_empty(0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, log_decay, reset, _, beta = inputs
    ctx.save_for_backward(q, k, v, log_decay, reset, output[1], beta)


def _autograd(ctx: Any, grad_y: Tensor, _: Any, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    dq, dk, dv, dg, ds, dbeta = torch.ops.memsuite.matrix_scan_backward(grad_y, grad_last, *saved)
    return dq, dk, dv, dg, None, ds, None if saved[-1] is None else dbeta


def _fake(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, s0: Tensor, beta: Tensor | None
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    sources = (q, k, v, log_decay, states[0])
    dq, dk, dv, dg, ds = (x.new_empty(x.shape) for x in sources)
    return dq, dk, dv, dg, ds, v.new_empty(0) if beta is None else beta.new_empty(beta.shape)


define(
    "matrix_scan(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor reset, Tensor s0, Tensor? beta)"
    " -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "matrix_scan_backward(Tensor grad_y, Tensor grad_last, Tensor q, Tensor k, Tensor v, Tensor log_decay,"
    " Tensor reset, Tensor states, Tensor? beta) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("matrix_scan", _autograd, _setup, read=(0, 2))
