"""Causal attention to a window of earlier steps, whose length differs by step and environment.

What a step of an episode may see is a range of steps that ends with itself, so a range is all that a mask must say. The
compiled op reads time-major tensors as the projections leave them, skips the keys outside of each block's range, and
keeps the scores of a few queries at a time; its backward pass computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate

BLOCK = 128  # queries that the reference computes at once


def window_attention(
    q_TBHF: Tensor,
    k_SBHF: Tensor,
    v_SBHF: Tensor,
    age_TB: Tensor,
    bias_SBH: Tensor | None = None,
    relative_q_TBHF: Tensor | None = None,
    relative_k_AHF: Tensor | None = None,
) -> Tensor:
    r"""Attend with each query to the newest ``age + 1`` keys up to its own.

    Everything must be finite: many queries are computed at once, with a weight of zero for what one does not see, and
    zero times NaN is NaN.

    .. math:: y_t = \sum_{s \in R_t} \mathrm{softmax}_{s \in R_t}
        ((q_t^\top k_s + u_t^\top r_{S - T + t - s}) / \sqrt{F} + b_s)\, v_s, \quad
        R_t = \{S - T + t - \mathrm{age}_t, \ldots, S - T + t\}

    Args:
        q_TBHF: queries of ``T`` steps, by head.
        k_SBHF: keys of the same steps, after those of the ``S - T`` steps before them.
        v_SBHF: values of the keys' steps.
        age_TB: int64, age in steps of the oldest key that is seen, from 0 for the step itself to ``S - T + t``.
        bias_SBH: added to the scores of each key; None for nothing. Only differences count, so that a sum over many
            steps should be given in float64.
        relative_q_TBHF: queries ``u`` of further scores, by age (Dai et al. 2019, arXiv 1901.02860); None for none.
        relative_k_AHF: their keys ``r``, of ages from 0 to ``A - 1``; no older key may be seen.

    Returns:
        ``[T, B, H, F]``.
    """
    bias = None if bias_SBH is None else bias_SBH.double()
    inputs = q_TBHF, k_SBHF, v_SBHF, age_TB, bias, relative_q_TBHF, relative_k_AHF
    return torch.ops.memsuite.window_attention(*inputs)[0]  # type: ignore[no-any-return]


def _blocks(q: Tensor, k: Tensor, age: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield blocks of queries, the keys that any of them sees, and ``[B, 1, queries, keys]``: which sees which."""
    steps, before = len(q), len(k) - len(q)
    for begin in range(0, steps, BLOCK):
        end = min(begin + BLOCK, steps)
        newest = torch.arange(begin, end, device=q.device) + before
        oldest = newest.unsqueeze(1) - age[begin:end]
        first = int(oldest.min()) if oldest.numel() else before + begin
        keys = torch.arange(first, before + end, device=q.device)
        seen = (keys <= newest.view(-1, 1, 1)) & (keys >= oldest.unsqueeze(-1))
        yield slice(begin, end), slice(first, before + end), seen.transpose(0, 1).unsqueeze(1)


def _by_head(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0, 3)  # [B, H, steps, F]


Relative = tuple[Tensor | None, Tensor | None]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    age: Tensor,
    bias: Tensor | None,
    relative_q: Tensor | None,
    relative_k: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the output, and the logarithm of each softmax's denominator, ``[T, B, H]``."""
    if (relative_q is None) != (relative_k is None):
        raise RuntimeError("memsuite::window_attention: relative_q and relative_k come together")
    if relative_k is not None and age.device.type == "cpu" and age.numel() and int(age.max()) >= len(relative_k):
        raise RuntimeError("memsuite::window_attention: an age is beyond relative_k")
    y, total = torch.empty_like(q, memory_format=torch.contiguous_format), q.new_empty(q.shape[:-1])
    for at, keys, seen in _blocks(q, k, age):
        scores = _scores(q, k, bias, (relative_q, relative_k), at, keys, seen)
        log_sum = scores.logsumexp(-1)
        made = (scores - log_sum.unsqueeze(-1)).exp() @ _by_head(v[keys])
        y[at], total[at] = made.permute(2, 0, 1, 3), log_sum.permute(2, 0, 1)
    return y, total


def _scores(
    q: Tensor, k: Tensor, bias: Tensor | None, relative: Relative, at: slice, keys: slice, seen: Tensor
) -> Tensor:
    """Return the scores of a block of queries, whose keys end with their own."""
    asked = _by_head(q[at])
    scores = torch.matmul(asked, _by_head(k[keys]).mT)
    if relative[0] is not None and relative[1] is not None:
        by_age = torch.matmul(_by_head(relative[0][at]), relative[1].permute(1, 2, 0))
        scores += by_age.gather(-1, _ages(by_age, *scores.shape[-2:]))
    scores *= q.shape[-1] ** -0.5
    if bias is not None:  # less that of the query's own step, so that sums over a long past lose no digits
        near = bias[keys].permute(1, 2, 0)
        scores += (near.unsqueeze(2) - near[..., -asked.shape[2] :].unsqueeze(3)).to(scores.dtype)
    return scores.masked_fill(~seen, -torch.inf)


def _ages(by_age: Tensor, queries: int, keys: int) -> Tensor:
    """Return the age of each key for each query, which are the newest; any age there is for a key that is not seen."""
    time = torch.arange(keys, device=by_age.device)
    age = time[keys - queries :].unsqueeze(1) - time
    return age.clamp(0, by_age.shape[-1] - 1).expand(*by_age.shape[:2], -1, -1)


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    age: Tensor,
    bias: Tensor | None,
    relative_q: Tensor | None,
    relative_k: Tensor | None,
    y: Tensor,
    total: Tensor,
) -> tuple[Tensor, ...]:
    """Return the gradients of all but the ages, that of ``relative_k`` for each row of the batch; empty for a None."""
    d_q = torch.empty_like(q, memory_format=torch.contiguous_format)
    d_k, d_v, d_bias, d_u, d_r = (
        torch.zeros_like(x, memory_format=torch.contiguous_format)
        for x in (k, v, _given(bias, q), _given(relative_q, q), _for_each(relative_k, q))
    )
    scale = q.shape[-1] ** -0.5
    for at, keys, seen in _blocks(q, k, age):
        d_y = _by_head(grad[at])
        scores = _scores(q, k, bias, (relative_q, relative_k), at, keys, seen)
        weights = (scores - total[at].permute(1, 2, 0).unsqueeze(-1)).exp()
        mean = (d_y * _by_head(y[at])).sum(-1, keepdim=True)
        d_scores = weights * (d_y @ _by_head(v[keys]).mT - mean)
        if bias is not None:
            d_bias[keys] += d_scores.sum(2).permute(2, 0, 1).to(d_bias.dtype)
        d_scores *= scale
        d_q[at] = (d_scores @ _by_head(k[keys])).permute(2, 0, 1, 3)
        d_k[keys] += (d_scores.mT @ _by_head(q[at])).permute(2, 0, 1, 3)
        d_v[keys] += (weights.mT @ d_y).permute(2, 0, 1, 3)
        if relative_q is not None and relative_k is not None:
            by_age = d_scores.new_zeros(*d_scores.shape[:3], len(relative_k))
            by_age.scatter_add_(-1, _ages(by_age, *d_scores.shape[-2:]), d_scores)
            d_u[at] = (by_age @ relative_k.transpose(0, 1)).permute(2, 0, 1, 3)
            d_r += (by_age.mT @ _by_head(relative_q[at])).transpose(1, 2)
    return d_q, d_k, d_v, d_bias, d_u, d_r


def _given(one: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if one is None else one


def _for_each(relative_k: Tensor | None, q: Tensor) -> Tensor:
    """Return a tensor of the shape of the gradient of ``relative_k`` for each row of the batch."""
    return q.new_empty(0) if relative_k is None else q.new_empty(q.shape[1], *relative_k.shape)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _autograd(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once, as torch.utils.checkpoint demands
    d_q, d_k, d_v, d_bias, d_u, d_r = torch.ops.memsuite.window_attention_backward(grad, *saved)
    bias, relative_q = saved[4:6]
    by_age = (None, None) if relative_q is None else (d_u, d_r.sum(0))
    return d_q, d_k, d_v, None, None if bias is None else d_bias, *by_age


def _fake_backward(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    q, k, v, _, bias, relative_q, relative_k, *_ = inputs
    shapes = (q, k, v, _given(bias, q), _given(relative_q, q), _for_each(relative_k, q))
    return tuple(x.new_empty(x.shape) for x in shapes)


define(
    "window_attention(Tensor q, Tensor k, Tensor v, Tensor age, Tensor? bias, Tensor? relative_q, Tensor? relative_k)"
    " -> (Tensor, Tensor)",
    _forward,
    lambda q, *_: (q.new_empty(q.shape), q.new_empty(q.shape[:-1])),
)
define(
    "window_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor age, Tensor? bias, Tensor? relative_q,"
    " Tensor? relative_k, Tensor y, Tensor total) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("window_attention", _autograd, _setup)
