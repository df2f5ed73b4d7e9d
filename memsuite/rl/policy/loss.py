"""The losses as pure functions: PPO (Schulman et al. 2017, arXiv 1707.06347), PPO over draws, and cross-entropy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsuite.ops.fused.surrogate import TERMS, surrogate
from memsuite.runs.ppo import EntropyWeighting

__all__ = [
    "TERMS",
    "LossTerms",
    "clipped_objective",
    "cross_entropy",
    "draws_loss",
    "ppo_formula",
    "ppo_loss",
    "ppo_objective",
]


class LossTerms(NamedTuple):
    """The loss of a minibatch and its parts.

    Attributes:
        total: the loss to minimise, a scalar with a gradient.
        terms: values without a gradient, ``[6]``, in the order of TERMS: the total; the clipped surrogate, negated;
            half the mean squared error of the critic; the mean entropy of the policy in nats; an estimate of
            KL(old || new) in nats, ``mean(ratio - 1 - log ratio)`` (Schulman 2020, k3); and the share of the steps
            whose ratio was clipped.
    """

    total: Tensor
    terms: Tensor


def clipped_objective(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return ``min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)``, elementwise; PPO maximises its mean."""
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def ppo_formula(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    *,
    clip: float,
    value_clip: float | None,
    value_coefficient: float,
    entropy_coefficient: float,
    entropy_weighting: EntropyWeighting,
) -> LossTerms:
    """Compute the loss of one minibatch; every argument except ``logits`` (``[T, B, A]``) is ``[T, B]``.

    This is the definition. Training uses :func:`ppo_loss`, which is equal and faster.

    Args:
        logits: unnormalised log-probabilities under the current parameters.
        values: the critic's estimates under the current parameters.
        actions: the actions taken.
        old_log_probs: their log-probabilities when they were taken.
        old_values: the critic's estimates at that time.
        advantages: advantages, normalised by the caller.
        returns: targets of the critic.
        clip: half-width of the ratio's trust interval.
        value_clip: half-width of the interval around ``old_values`` in which the critic may move; None for no limit.
        value_coefficient: weight of the critic's loss.
        entropy_coefficient: weight of the entropy bonus.
        entropy_weighting: ``uniform``, or ``advantages`` for a bonus in proportion to each step's absolute advantage.
    """
    log_probs = logits.log_softmax(-1)
    taken = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    return ppo_objective(
        taken,
        entropy,
        values,
        old_log_probs,
        old_values,
        advantages,
        returns,
        clip=clip,
        value_clip=value_clip,
        value_coefficient=value_coefficient,
        entropy_coefficient=entropy_coefficient,
        entropy_weighting=entropy_weighting,
    )


def ppo_objective(
    log_probs: Tensor,
    entropy: Tensor,
    values: Tensor,
    old_log_probs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    *,
    clip: float,
    value_clip: float | None,
    value_coefficient: float,
    entropy_coefficient: float,
    entropy_weighting: EntropyWeighting,
) -> LossTerms:
    """Compute the loss of one minibatch of any kind of actions; the arguments are those of :func:`ppo_formula`.

    But for the first two, ``[T, B]`` each: the log-probabilities of the actions taken, and the entropy of the policy at
    each step, under the current parameters.
    """
    log_ratio = log_probs - old_log_probs
    ratio = log_ratio.exp()
    policy = -clipped_objective(ratio, advantages, clip).mean()
    square = (values - returns).square()
    if value_clip is not None:
        held = old_values + (values - old_values).clamp(-value_clip, value_clip)
        square = torch.maximum(square, (held - returns).square())
    value = 0.5 * square.mean()
    weight = advantages.abs() if entropy_weighting == "advantages" else torch.ones_like(advantages)
    total = policy + value_coefficient * value - entropy_coefficient * (entropy * weight).mean()
    kl, clipped = (ratio - 1 - log_ratio).mean(), ((ratio - 1).abs() > clip).to(ratio.dtype).mean()
    return LossTerms(total, torch.stack([total, policy, value, entropy.mean(), kl, clipped]).detach())


def ppo_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old_log_probs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    *,
    clip: float,
    value_clip: float | None,
    value_coefficient: float,
    entropy_coefficient: float,
    entropy_weighting: EntropyWeighting,
) -> LossTerms:
    """Compute :func:`ppo_formula`, with the same arguments, in one pass over the steps.

    The gradient is computed in the same pass, while the formula takes about forty small operations.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    total, terms = surrogate(
        logits.to(wide),
        values.to(wide),
        actions,
        old_log_probs.to(wide),
        old_values.to(wide),
        advantages.to(wide),
        returns.to(wide),
        clip,
        value_clip,
        value_coefficient,
        entropy_coefficient,
        entropy_weighting == "advantages",
    )
    return LossTerms(total, terms)


def draws_loss(
    log_probs: Tensor,
    entropy: Tensor,
    values: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
    share: Tensor,
    *,
    clip: float,
    value_coefficient: float,
    entropy_coefficient: float,
    entropy_weighting: EntropyWeighting,
) -> LossTerms:
    """Compute PPO's loss over ``K`` draws at each of ``N`` decisions, as a sum weighted by ``share``.

    Args:
        log_probs: log-probability of each draw under the current parameters, ``[N, K]``.
        entropy: entropy of the policy at each decision in nats, ``[N, K]``, or ``[N, 1]`` where the draws share it.
        values: the critic's estimates, of the same shape as ``entropy``; 0 without a critic.
        old_log_probs: the log-probabilities when the actions were drawn, ``[N, K]``.
        advantages: ``[N, K]``.
        returns: targets of the critic, ``[N, K]``; ``values`` themselves without a critic.
        share: weight of one draw in the minibatch's mean, a scalar or ``[N, K]``.
        clip: half-width of the ratio's trust interval.
        value_coefficient: weight of the critic's loss.
        entropy_coefficient: weight of the entropy bonus.
        entropy_weighting: as for :func:`ppo_formula`.
    """
    log_ratio = log_probs - old_log_probs
    ratio = log_ratio.exp()
    policy = -(clipped_objective(ratio, advantages, clip) * share).sum()
    value = 0.5 * ((values - returns).square() * share).sum()
    weight = advantages.abs() if entropy_weighting == "advantages" else torch.ones_like(advantages)
    total = policy + value_coefficient * value - entropy_coefficient * (entropy * weight * share).sum()
    kl, clipped = ((ratio - 1 - log_ratio) * share).sum(), (((ratio - 1).abs() > clip) * share).sum()
    mean_entropy = (entropy.expand_as(ratio) * share).sum()
    return LossTerms(total, torch.stack([total, policy, value, mean_entropy, kl, clipped]).detach())


def cross_entropy(log_probs: Tensor, entropy: Tensor, share: Tensor) -> LossTerms:
    """Compute the cross-entropy of the right actions, in nats, as a sum weighted by ``share``.

    Args:
        log_probs: log-probability of the right action at each decision.
        entropy: entropy of the policy at each decision.
        share: weight of one decision in the minibatch's mean.
    """
    total, none = -(log_probs * share).sum(), log_probs.new_zeros(())
    terms = torch.stack([total, total, none, (entropy * share).sum(), none, none])
    return LossTerms(total, terms.detach())
