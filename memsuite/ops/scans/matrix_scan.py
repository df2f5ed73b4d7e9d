r"""The matrix-state recurrence of linear attention and related models, one chunk of time after the other.

.. math::
    S_t = \mathrm{Diag}(a_t) S_{t-1} + k_t v_t^\top, \quad y_t = S_t^\top q_t, \quad
    a_t = \exp(\mathrm{log\_decay}_t)

where the decay is one number of each head, or one of each channel of its keys. With ``beta`` it is the gated delta rule
(Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464), chunked by its WY form (Yang et al. 2024, arXiv 2406.06484):

.. math::
    S_t = (I - \beta_t k_t k_t^\top) \mathrm{Diag}(a_t) S_{t-1} + \beta_t k_t v_t^\top

With :math:`\beta` up to 2 a step has negative eigenvalues (Grazzi et al. 2024, arXiv 2411.12537). With ``erase``, e,
and ``address``, r, what the state holds at the address is taken away elsewhere than where the value is written:

.. math::
    S_t = \mathrm{Diag}(a_t) S_{t-1} - e_t (r_t^\top S_{t-1}) + k_t v_t^\top

Several such edits of one step are as many steps of this scan, with decays of 1 after the first.

This op serves linear attention, Mamba-2 and mLSTM (a decay), Gated DeltaNet and Gated DeltaProduct (a decay and the
delta rule), HGRN2 (a decay of each channel), KDA (the delta rule with such decays), and Gated DeltaNet-2 and RWKV-7
(erasure at an address that is not the key). The reference takes the steps of a chunk together
(:mod:`~memsuite.ops.scans.matrix_chunk`); between chunks the state is carried. The forward pass keeps only the states
at the boundaries of the chunks, and the backward pass recomputes each chunk, so that the memory use is that of the
inputs at any length. The compiled op takes the steps of a chunk one by one, because a state of this size fits in the
first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memsuite.ops.scans.matrix_chunk import Inputs, chunk_forward, guarded, in_pieces, pulled_back, spreads
from memsuite.ops.schema import define, differentiate, of_one_kind

CHUNK = 32  # steps; with a longer chunk the products within chunks grow and the carries between chunks shrink


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
    """Run the recurrence over time, with the state zeroed before a reset step.

    Args:
        q_TBHK: queries, ``[T, B, H, K]``, T >= 1; a single head (H = 1) is shared by all.
        k_TBHK: keys, of the same shape.
        v_TBHV: values, ``[T, B, H, V]``.
        log_decay: logarithms of the decays, at most 0, ``[T, B, H]``, or ``[T, B, H, K]`` for one of each channel.
        reset_TB: bool ``[T, B]``.
        s0_BHKV: state before the first step.
        beta_TBH: write strengths of the delta rule; None for a plain sum. With it keys have unit length.
        erase_TBHK: where what is found is taken away, with all heads; not together with ``beta_TBH``.
        address_TBHK: where it is found, of the same shape; given if and only if ``erase_TBHK`` is.

    Returns:
        ``y``, ``[T, B, H, V]``, and the state after the last step.

    Raises:
        ValueError: a delta rule and an edit at once, or one part of an edit alone.
    """
    check_rule(beta_TBH, erase_TBHK, address_TBHK)
    parts = (q_TBHK, k_TBHK, v_TBHV, log_decay, s0_BHKV, beta_TBH, erase_TBHK, address_TBHK)
    q, k, v, g, s0, *rule = of_one_kind(*parts)
    if erase_TBHK is not None and g.dim() == 3:
        g = g.unsqueeze(-1).expand(erase_TBHK.shape)  # the compiled op edits with decays of channels
    y, _, last = torch.ops.memsuite.matrix_scan(q, k, v, g, reset_TB, s0, *rule)
    return y, last


def check_rule(beta: Tensor | None, erase: Tensor | None, address: Tensor | None) -> None:
    """Raise a ValueError for what is neither a sum, nor the delta rule, nor an edit."""
    if (erase is None) != (address is None) or (beta is not None and erase is not None):
        raise ValueError("a matrix state takes beta, or erase and address, or neither")


def _forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, s0: Tensor, *rule: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``y``, the states before each chunk ``[chunks, B, H, K, V]``, and the last state."""
    inputs, state, states = Inputs(q, k, v, log_decay, reset, *rule), s0, []
    y = torch.empty_like(v, memory_format=torch.contiguous_format)
    for begin in range(0, len(v), CHUNK):
        at = slice(begin, begin + CHUNK)
        states.append(state)
        y[at], state = guarded(inputs.at(at), state)
    return y, torch.stack(states), state.contiguous()


def _backward(
    grad_y: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    reset: Tensor,
    states: Tensor,
    *rule: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of ``q, k, v, log_decay, s0, beta, erase, address``; empty for what is not there."""
    inputs, back = Inputs(q, k, v, log_decay, reset, *rule), grad_last
    differentiated = [q, k, v, log_decay, *rule]
    grads = [v.new_empty(0 if x is None else x.shape) for x in differentiated]
    for index in range(len(states) - 1, -1, -1):
        at = slice(index * CHUNK, (index + 1) * CHUNK)
        *found, back = _chunk_gradients(inputs.at(at), states[index], (grad_y[at], back))
        there = (into for into, x in zip(grads, differentiated, strict=True) if x is not None)
        for into, part in zip(there, found, strict=True):
            into[at] = part
    return *grads[:4], back, *grads[4:]


def _chunk_gradients(inputs: Inputs, s0: Tensor, flow: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs that are there, but for the resets, and of the state before the chunk."""
    names = [name for name, x in inputs._asdict().items() if x is not None and name != "reset"]
    sources = [*(getattr(inputs, name) for name in names), s0]

    def gradients(run: Callable[[Inputs, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        def of_sources(*parts: Tensor) -> tuple[Tensor, Tensor]:
            return run(inputs._replace(**dict(zip(names, parts[:-1], strict=True))), parts[-1])

        return pulled_back(of_sources, sources, flow)

    found = gradients(chunk_forward)
    return gradients(lambda leaves, state: in_pieces(leaves, state, 1)) if spreads(*found) else found


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, log_decay, reset, _, *also = inputs
    ctx.save_for_backward(q, k, v, log_decay, reset, output[1], *also)


def _autograd(ctx: Any, grad_y: Tensor, _: Any, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    dq, dk, dv, dg, ds, *rest = torch.ops.memsuite.matrix_scan_backward(grad_y, grad_last, *saved)
    return dq, dk, dv, dg, None, ds, *(None if x is None else d for x, d in zip(saved[6:], rest, strict=True))


def _fake(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reset: Tensor, s0: Tensor, *rule: Tensor | None
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
    *rule: Tensor | None,
) -> tuple[Tensor, ...]:
    sources = (q, k, v, log_decay, states[0], *rule)
    return tuple(v.new_empty(0 if x is None else x.shape) for x in sources)


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
