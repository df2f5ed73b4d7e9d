"""One step of the matrix-state recurrence, fused: it reads and writes the states of all environments once.

The states of 2,048 environments do not fit into a cache, so a step takes the time of its traffic with memory; PyTorch's
operations would read and write them five times as often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.matrix_chunk import pulled_back
from memsuite.ops.scans.matrix_scan import check_rule
from memsuite.ops.schema import define, differentiate, of_one_kind


def matrix_step(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    log_decay: Tensor,
    s_BHKV: Tensor,
    beta_BH: Tensor | None = None,
    erase_BHK: Tensor | None = None,
    address_BHK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one step of the recurrence of :func:`~memsuite.ops.scans.matrix_scan.matrix_scan`.

    Args:
        q_BHK: queries, ``[B, H, K]``; a single head (H = 1) is shared by all.
        k_BHK: keys, of the same shape.
        v_BHV: values, ``[B, H, V]``.
        log_decay: logarithms of the decays, at most 0, ``[B, H]``, or ``[B, H, K]`` for one of each channel.
        s_BHKV: the state before the step; its dtype is used for the computation.
        beta_BH: write strengths of the delta rule; None for a plain sum.
        erase_BHK: where what is found is taken away; not together with ``beta_BH``.
        address_BHK: where it is found; given if and only if ``erase_BHK`` is.

    Returns:
        ``y``, ``[B, H, V]``, and the state after the step.

    Raises:
        ValueError: a delta rule and an edit at once, or one part of an edit alone.
    """
    check_rule(beta_BH, erase_BHK, address_BHK)
    q, k, v, g, s, *rule = of_one_kind(q_BHK, k_BHK, v_BHV, log_decay, s_BHKV, beta_BH, erase_BHK, address_BHK)
    if s_BHKV.device.type != "cpu":
        # No kernel is written for these, and the op's backward would compute the step twice.
        return _forward(q, k, v, g, s, *rule)
    y, after = torch.ops.memsuite.matrix_step(q, k, v, g, s, *rule)
    return y, after


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    s: Tensor,
    beta: Tensor | None = None,
    erase: Tensor | None = None,
    address: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``y`` and the new state, in PyTorch's operations; differentiable."""
    decay, key = (log_decay if log_decay.dim() == 3 else log_decay.unsqueeze(-1)).exp().unsqueeze(-1), k.unsqueeze(-1)
    written, before = v.unsqueeze(-2), s
    s = decay * s
    if beta is not None:
        written = beta[..., None, None] * (written - (key * s).sum(-2, keepdim=True))
    s = s + key * written
    if erase is not None and address is not None:
        s = s - erase.unsqueeze(-1) * (address.unsqueeze(-1) * before).sum(-2, keepdim=True)
    return (q.unsqueeze(-1) * s).sum(-2), s


def _backward(grad_y: Tensor, grad_next: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
    """Return the gradients of ``q, k, v, log_decay, s, beta, erase, address``; empty for what is not there."""

    def of_sources(*sources: Tensor) -> tuple[Tensor, Tensor]:
        there = iter(sources)
        return _forward(*(None if x is None else next(there) for x in given))  # type: ignore[arg-type]

    found = iter(pulled_back(of_sources, [x for x in given if x is not None], (grad_y, grad_next)))
    return tuple(grad_y.new_empty(0) if x is None else next(found) for x in given)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx: Any, grad_y: Tensor, grad_next: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    found = torch.ops.memsuite.matrix_step_backward(grad_y, grad_next, *saved)
    return tuple(None if x is None else d for x, d in zip(saved, found, strict=True))


def _fake(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, s: Tensor, *rule: Tensor | None) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), s.new_empty(s.shape)


def _fake_backward(grad_y: Tensor, grad_next: Tensor, *saved: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(grad_y.new_empty(0) if x is None else x.new_empty(x.shape) for x in saved)


define(
    "matrix_step(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor s, Tensor? beta, Tensor? erase,"
    " Tensor? address) -> (Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "matrix_step_backward(Tensor grad_y, Tensor grad_next, Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor s,"
    " Tensor? beta, Tensor? erase, Tensor? address)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("matrix_step", _autograd, _setup, read=(0, 1))
