"""The matrix state that is edited: every channel of its keys decays at its own rate, and an address may be erased.

This op serves models that go beyond one decay and one strength for each head (:mod:`memsuite.ops.scans.matrix_scan`):
HGRN2 (a decay of each channel), KDA and Gated DeltaNet-2 (erasure at a key, with strengths of each channel), RWKV-7
(erasure at an address that is not the key), and Gated DeltaProduct (several edits a step). The forward pass keeps only
the states at the boundaries of chunks of time, and the backward pass recomputes each chunk, so that the memory use is
that of the inputs at any length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate

CHUNK = 32  # steps


def delta_scan(
    q_TBHK: Tensor,
    k_TBHK: Tensor,
    v_TBHV: Tensor,
    log_decay_TBHK: Tensor,
    reset_TB: Tensor,
    s0_BHKV: Tensor,
    erase_TBHK: Tensor | None = None,
    address_TBHK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Run the recurrence over time, with the state zeroed before a reset step.

    .. math::
        S_t = \mathrm{Diag}(a_t) S_{t-1} - e_t (r_t^\top S_{t-1}) + k_t v_t^\top, \quad y_t = S_t^\top q_t, \quad
        a_t = \exp(\mathrm{log\_decay}_t)

    The delta rule with decay, :math:`(I - \beta k k^\top) \mathrm{Diag}(a) S + \beta k v^\top`, has
    :math:`e = \beta k`, :math:`r = a \odot k` and :math:`\beta k` in the place of k. With :math:`\beta` up to 2 the
    step has negative eigenvalues (Grazzi et al. 2024, arXiv 2411.12537).

    Args:
        q_TBHK: queries, ``[T, B, H, K]``; T >= 1.
        k_TBHK: what is written along the keys, of the same shape.
        v_TBHV: what is written along the values, ``[T, B, H, V]``.
        log_decay_TBHK: logarithms of the decays, of the shape of ``q``, at most 0.
        reset_TB: bool ``[T, B]``.
        s0_BHKV: state before the first step, ``[B, H, K, V]``.
        erase_TBHK: where the found value is taken away, e, of the shape of ``q``; None for no erasure.
        address_TBHK: where that value is found, r, of the same shape; given if and only if ``erase_TBHK`` is.

    Returns:
        The outputs ``[T, B, H, V]`` and the last state.
    """
    kind = s0_BHKV.dtype
    inputs = [x.to(kind) for x in (q_TBHK, k_TBHK, v_TBHV, log_decay_TBHK)]
    also = [None if x is None else x.to(kind) for x in (erase_TBHK, address_TBHK)]
    y, _, last = torch.ops.memsuite.delta_scan(*inputs, reset_TB, s0_BHKV, *also)
    return y, last


def delta_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, s: Tensor, erase: Tensor | None, address: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Take one step of :func:`delta_scan` with PyTorch's functions; the arguments have no dimension of time.

    Returns:
        The output ``[B, H, V]`` and the next state ``[B, H, K, V]``.
    """
    s = _advance(s, k, v, log_decay, erase, address)
    return (q.unsqueeze(-2) @ s).squeeze(-2), s


def _advance(
    s: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, erase: Tensor | None, address: Tensor | None
) -> Tensor:
    after = s * log_decay.exp().unsqueeze(-1) + k.unsqueeze(-1) * v.unsqueeze(-2)
    if erase is None or address is None:
        return after
    return after - erase.unsqueeze(-1) * (address.unsqueeze(-2) @ s)


def _erased(s: Tensor, reset_B: Tensor) -> Tensor:
    return s.masked_fill(reset_B.view(-1, 1, 1, 1), 0)


def _per_step(*parts: Tensor | None) -> list[tuple[Any, ...]]:
    """Return the parts of each step; None for a part that is not there."""
    steps = next(len(part) for part in parts if part is not None)
    return list(zip(*([None] * steps if part is None else part.unbind() for part in parts), strict=True))


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs, the states before each chunk, and the last state."""
    outputs, states, s = [], [], s0
    for t, (q_t, reset_t, *inputs) in enumerate(_per_step(q, reset, k, v, log_decay, erase, address)):
        if t % CHUNK == 0:
            states.append(s)
        s = _advance(_erased(s, reset_t), *inputs)
        outputs.append((q_t.unsqueeze(-2) @ s).squeeze(-2))
    return torch.stack(outputs), torch.stack(states), s.clone()


def _backward(
    grad: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    states: Tensor,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of ``q``, ``k``, ``v``, ``log_decay``, ``s0``, ``erase`` and ``address``."""
    d_s, found = grad_last, []
    steps = _per_step(grad, q, reset, k, v, log_decay, erase, address)
    for begin in reversed(range(0, len(q), CHUNK)):
        part, before, s = steps[begin : begin + CHUNK], [], states[begin // CHUNK]
        for _, _, reset_t, *inputs in part:
            before.append(_erased(s, reset_t))
            s = _advance(before[-1], *inputs)
        for (grad_t, q_t, reset_t, *inputs), s in zip(reversed(part), reversed(before), strict=True):
            d_inputs, d_s = _step_gradients(grad_t, d_s, q_t, s, *inputs)
            d_s = _erased(d_s, reset_t)
            found.append(d_inputs)
    d_q, d_k, d_v, d_decay, *also = (torch.stack(parts) for parts in zip(*reversed(found), strict=True))
    d_erase, d_address = also or (q.new_empty(0), q.new_empty(0))
    return d_q, d_k, d_v, d_decay, d_s, d_erase, d_address


def _step_gradients(
    grad: Tensor,
    d_s: Tensor,
    q: Tensor,
    s: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[list[Tensor], Tensor]:
    """Return the gradients of the inputs of a step, and of the state before it, ``s``, given that after it."""
    after, decay = _advance(s, k, v, log_decay, erase, address), log_decay.exp()
    d_s = d_s + q.unsqueeze(-1) * grad.unsqueeze(-2)
    made = [(after @ grad.unsqueeze(-1)).squeeze(-1), (d_s @ v.unsqueeze(-1)).squeeze(-1)]
    made += [(k.unsqueeze(-2) @ d_s).squeeze(-2), (d_s * s).sum(-1) * decay]
    d_before = d_s * decay.unsqueeze(-1)
    if erase is not None and address is not None:
        d_found = -(erase.unsqueeze(-2) @ d_s)
        made += [-(d_s * (address.unsqueeze(-2) @ s)).sum(-1), (s * d_found).sum(-1)]
        d_before = d_before + address.unsqueeze(-1) * d_found
    return made, d_before


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, log_decay, reset, _, erase, address = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, log_decay, reset, output[1], erase, address)


def _autograd(ctx: Any, grad: Tensor, _: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    erases = saved[-1] is not None
    d_q, d_k, d_v, d_decay, d_s0, d_erase, d_address = torch.ops.memsuite.delta_scan_backward(grad, grad_last, *saved)
    return d_q, d_k, d_v, d_decay, None, d_s0, d_erase if erases else None, d_address if erases else None


def _fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    s0: Tensor,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    chunks = (q.shape[0] + CHUNK - 1) // CHUNK
    return v.new_empty(v.shape), s0.new_empty(chunks, *s0.shape), s0.new_empty(s0.shape)


def _fake_backward(
    grad: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    states: Tensor,
    erase: Tensor | None,
    address: Tensor | None,
) -> tuple[Tensor, ...]:
    keys = [q.new_empty(q.shape) for _ in range(5)]
    none = [q.new_empty(0) for _ in range(2)]
    also = none if erase is None else keys[3:]
    return keys[0], keys[1], v.new_empty(v.shape), keys[2], states.new_empty(states.shape[1:]), also[0], also[1]


define(
    "delta_scan(Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor reset, Tensor s0, Tensor? erase,"
    " Tensor? address) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
define(
    "delta_scan_backward(Tensor grad, Tensor grad_last, Tensor q, Tensor k, Tensor v, Tensor log_decay, Tensor reset,"
    " Tensor states, Tensor? erase, Tensor? address) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("delta_scan", _autograd, _setup, read=(0, 2))
