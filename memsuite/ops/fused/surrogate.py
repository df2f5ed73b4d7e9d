"""The loss of PPO and its gradients in one pass over the steps, where PyTorch takes about forty small operations.

The loss is a mean over steps, so the gradient at a step is known as soon as the step is read. The backward pass only
multiplies these gradients by the gradient of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.ops.schema import define, differentiate

TERMS = ("total", "policy", "value", "entropy", "kl", "clip_fraction")


def surrogate(*given: Tensor | float | None) -> tuple[Tensor, Tensor]:
    """Return the loss, a scalar with a gradient for the logits and values, and its TERMS, ``[6]``, without one.

    If the two arguments of a maximum or minimum are equal, the gradient is that of the unclipped argument.

    Args:
        given: the arguments of :func:`memsuite.rl.ppo_loss`, in its order and all of one floating-point dtype. The last
            one says whether a step's entropy counts in proportion to its absolute advantage.
    """
    return torch.ops.memsuite.surrogate(*given)[:2]  # type: ignore[no-any-return]


def _forward(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip: float,
    value_clip: float | None,
    value_coefficient: float,
    entropy_coefficient: float,
    by_advantage: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the loss, its terms, and its gradients with respect to the logits and the values."""
    count = values.numel()
    log_p = logits.log_softmax(-1)
    p, chosen = log_p.exp(), actions.unsqueeze(-1)
    entropy = -(p * log_p).sum(-1)

    log_ratio = log_p.gather(-1, chosen).squeeze(-1) - old_log_probs
    ratio = log_ratio.exp()
    free, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    moves = ~(held < free) | ((ratio >= 1 - clip) & (ratio <= 1 + clip))
    d_log_prob = torch.where(moves, free, 0.0).div(-count)

    error = values - returns
    square, d_values = error.square(), error
    if value_clip is not None:
        moved = values - old_values
        held_error = old_values + moved.clamp(-value_clip, value_clip) - returns
        beyond = ~(held_error.square() <= square)
        square = torch.where(beyond, held_error.square(), square)
        d_values = torch.where(beyond, torch.where(moved.abs() <= value_clip, held_error, 0.0), error)

    weight = advantages.abs() if by_advantage else torch.ones_like(advantages)
    d_entropy = weight * (-entropy_coefficient / count)
    d_logits = -p * (d_log_prob.unsqueeze(-1) + d_entropy.unsqueeze(-1) * (log_p + entropy.unsqueeze(-1)))
    d_logits = d_logits.scatter_add(-1, chosen, d_log_prob.unsqueeze(-1))

    policy, value = -torch.minimum(free, held).mean(), 0.5 * square.mean()
    total = policy + value_coefficient * value - entropy_coefficient * (entropy * weight).mean()
    kl, clipped = (ratio - 1 - log_ratio).mean(), ((ratio - 1).abs() > clip).to(ratio.dtype).mean()
    terms = torch.stack([total, policy, value, entropy.mean(), kl, clipped])
    return total, terms, d_logits, d_values * (value_coefficient / count)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output[2:])


def _autograd(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    d_logits, d_values = ctx.saved_tensors
    return (d_logits * grad, d_values * grad, *[None] * 10)


def _fake(logits: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    terms = logits.new_empty(len(TERMS))
    return logits.new_empty(()), terms, logits.new_empty(logits.shape), values.new_empty(values.shape)


define(
    "surrogate(Tensor logits, Tensor values, Tensor actions, Tensor old_log_probs, Tensor old_values, "
    "Tensor advantages, Tensor returns, float clip, float? value_clip, float value_coefficient, "
    "float entropy_coefficient, bool by_advantage) -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake,
)
# What the rollout has measured is a constant: the old policy and values, the advantages and the returns.
differentiate("surrogate", _autograd, _setup, constant=(3, 4, 5, 6))
