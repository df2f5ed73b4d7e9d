"""One step of the matrix-state recurrence, fused: it reads and writes the states of all environments once.

The states of 2,048 environments do not fit into a cache, so a step takes the time of its traffic with memory; PyTorch's
operations would read and write them five times as often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate


def matrix_step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, log_decay_BH: Tensor, s_BHKV: Tensor, beta_BH: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Take one step of the recurrence of :func:`~memsuite.ops.scans.matrix_scan.matrix_scan`.

    Args:
        q_BHK: queries, ``[B, H, K]``; a single head (H = 1) is shared by all.
        k_BHK: keys, of the same shape.
        v_BHV: values, ``[B, H, V]``.
        log_decay_BH: logarithms of the decays, at most 0, ``[B, H]``.
        s_BHKV: the state before the step; its dtype is used for the computation.
        beta_BH: write strengths of the delta rule; None for a plain sum.

    Returns:
        ``y``, ``[B, H, V]``, and the state after the step.
    """
    dtype = s_BHKV.dtype  # autocast passes half precision; a recurrence would add up its rounding errors
    q, k, v, g = (x.to(dtype) for x in (q_BHK, k_BHK, v_BHV, log_decay_BH))
    beta = None if beta_BH is None else beta_BH.to(dtype)
    if (
        s_BHKV.device.type != "cpu"
    ):  # no kernel is written for these, and the op's backward would compute the step twice
        return _forward(q, k, v, g, s_BHKV, beta)
    y, after = torch.ops.memsuite.matrix_step(q, k, v, g, s_BHKV, beta)
    return y, after


def _forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, s: Tensor, beta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return ``y`` and the new state, in PyTorch's operations; differentiable."""
    key = k.unsqueeze(-1)
    s = log_decay.exp()[..., None, None] * s
    written: Tensor = v.unsqueeze(-2)
    if beta is not None:
        written = beta[..., None, None] * (written - (key * s).sum(-2, keepdim=True))
    s = s + key * written
    return (q.unsqueeze(-1) * s).sum(-2), s


def _backward(
    grad_y: Tensor,
    grad_next: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    s: Tensor,
    beta: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``q, k, v, log_decay, s, beta`` (the last one is empty without beta)."""
    with torch.enable_grad():
        parts = [x.detach().requires_grad_() for x in (q, k, v, log_decay, s, *([] if beta is None else [beta]))]
        outputs = _forward(parts[0], parts[1], parts[2], parts[3], parts[4], None if beta is None else parts[5])
        found = torch.autograd.grad(outputs, parts, (grad_y, grad_next))
    return found[0], found[1], found[2], found[3], found[4], v.new_empty(0) if beta is None else found[5]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx: Any, grad_y: Tensor, grad_next: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    *found, d_beta = torch.ops.memsuite.matrix_step_backward(grad_y, grad_next, *saved)
    return *found, None if saved[-1] is None else d_beta


def _fake(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, s: Tensor, beta: Tensor | None) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), s.new_empty(s.shape)


def _fake_backward(
    grad_y: Tensor,
    grad_next: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    s: Tensor,
    beta: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv, dg, ds = (x.new_empty(x.shape) for x in (q, k, v, log_decay, s))
    return dq, dk, dv, dg, ds, v.new_empty(0) if beta is None else beta.new_empty(beta.shape)


define(
    "matrix_step(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor s, Tensor? beta) -> (Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "matrix_step_backward(Tensor grad_y, Tensor grad_next, Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor s,"
    " Tensor? beta) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("matrix_step", _autograd, _setup, read=(0, 1))
