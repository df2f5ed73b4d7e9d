"""The clipped surrogate objective of PPO (Schulman et al. 2017, arXiv 1707.06347) as a pure function."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from memsuite.ops import categorical
from memsuite.rl.config import EntropyWeighting


@dataclass(frozen=True)
class LossTerms:
    """The parts of the loss, each a scalar tensor; only ``total`` carries a gradient.

    Attributes:
        total: what is minimised.
        policy: the clipped surrogate, negated.
        value: half the mean squared error of the critic.
        entropy: mean entropy of the policy in nats.
        kl: estimate of KL(old || new) in nats, ``mean(ratio - 1 - log ratio)`` (Schulman 2020, k3).
        clip_fraction: share of the steps whose ratio was clipped.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    clip_fraction: Tensor

    def stacked(self) -> Tensor:
        """Return the terms as one vector without gradient, in the order above."""
        return torch.stack([getattr(self, field.name).detach() for field in fields(self)])


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
    """Compute the loss of one minibatch; every argument but ``logits`` (``[T, B, A]``) is ``[T, B]``.

    Args:
        logits: unnormalised log-probabilities under the current parameters.
        values: the critic's estimates under the current parameters.
        actions: the actions taken.
        old_log_probs: their log-probabilities when they were taken.
        old_values: the critic's estimates then.
        advantages: advantages, normalised by the caller.
        returns: targets of the critic.
        clip: half-width of the ratio's trust interval.
        value_clip: half-width of the interval around ``old_values`` the critic may move in; None for no limit.
        value_coefficient: weight of the critic's loss.
        entropy_coefficient: weight of the entropy bonus.
        entropy_weighting: ``uniform``, or ``advantages`` for a bonus in proportion to each step's absolute advantage.
    """
    log_probs, entropies = categorical(logits, actions)
    log_ratio = log_probs - old_log_probs
    ratio = log_ratio.exp()
    policy = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
    error = (values - returns).square()
    if value_clip is not None:
        moved = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (moved - returns).square())
    value = 0.5 * error.mean()
    entropy = entropies.mean()
    bonus = entropy if entropy_weighting == "uniform" else (entropies * advantages.abs()).mean()
    total = policy + value_coefficient * value - entropy_coefficient * bonus
    with torch.no_grad():
        kl = (ratio - 1 - log_ratio).mean()
        clipped = ((ratio - 1).abs() > clip).to(ratio.dtype).mean()
    return LossTerms(total, policy.detach(), value.detach(), entropy.detach(), kl, clipped)
