"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438) over episodes packed in rows."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards_TB: Tensor,
    values_TB: Tensor,
    next_values_TB: Tensor,
    ended_TB: Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    r"""Return advantages and returns, ``[T, B]`` each.

    .. math:: \delta_t = r_t + \gamma V'_t - V_t, \qquad A_t = \delta_t + \gamma \lambda (1 - e_t) A_{t+1}

    Args:
        rewards_TB: reward of the action taken at each step.
        values_TB: value estimate at each step.
        next_values_TB: value estimate at each step's successor within its own episode: 0 after termination, the value
            of the final observation after truncation and at the end of the rollout.
        ended_TB: bool, the episode ended with this step, by termination or truncation: no credit crosses this step.
        discount: gamma in [0, 1].
        gae_lambda: lambda in [0, 1].
    """
    delta = rewards_TB + discount * next_values_TB - values_TB
    if discount * gae_lambda == 0:
        return delta, delta + values_TB
    advantages = torch.empty_like(delta)
    decay = (discount * gae_lambda) * (~ended_TB).to(delta.dtype)
    later = torch.zeros_like(delta[0])
    for d, c, out in zip(
        reversed(delta.unbind()), reversed(decay.unbind()), reversed(advantages.unbind()), strict=True
    ):
        later = torch.addcmul(d, c, later, out=out)
    return advantages, advantages + values_TB
