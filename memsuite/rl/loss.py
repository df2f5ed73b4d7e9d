"""The clipped surrogate objective of PPO (Schulman et al. 2017, arXiv 1707.06347) as a pure function."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memsuite.ops.fused.surrogate import TERMS, surrogate
from memsuite.rl.config import EntropyWeighting

__all__ = ["TERMS", "LossTerms", "ppo_loss"]


class LossTerms(NamedTuple):
    """The loss of a minibatch and its parts.

    Attributes:
        total: what is minimised, a scalar with a gradient.
        terms: numbers without one, ``[6]``, in the order of TERMS: the total; the clipped surrogate, negated; half the
            mean squared error of the critic; the mean entropy of the policy in nats; an estimate of KL(old || new) in
            nats, ``mean(ratio - 1 - log ratio)`` (Schulman 2020, k3); and the share of the steps whose ratio was
            clipped.
    """

    total: Tensor
    terms: Tensor


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
