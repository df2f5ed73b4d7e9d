"""Advantages within a group: several draws of one context, compared only with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.runs.ppo import GroupAdvantage

ULPS = 8  # of the largest return: draws that differ by less are alike, but for the rounding of their sums


def group_advantages(returns_NK: Tensor, kind: GroupAdvantage) -> Tensor:
    r"""Return the advantages of ``K`` draws in each of ``N`` groups, ``[.., K]``.

    With :math:`m` the group's mean:

    - ``leave_one_out``: :math:`r - m'`, where :math:`m'` is the mean of the other draws (RLOO, Kool et al. 2019). Its
      gradient is that of the expected reward, :math:`p \nabla \log p` for a reward that is 1 with probability p: an
      action that is rarely right is hardly learnt.
    - ``group_mean``: :math:`(r - m) / (m - \min r)`. For rewards of 0 and 1 that is :math:`(r - m) / m`, and 0 where
      all draws are alike (MaxRL, arXiv 2602.02710): in expectation the gradient of
      :math:`-\sum_{k=1}^{K-1} (1 - p)^k / k`, the truncated series of :math:`\log p`, which becomes that of
      cross-entropy as K grows. For other rewards the mean is measured from the worst draw of the group. Adding a
      constant to all rewards, or scaling them, therefore changes nothing but rounding, and negative rewards need no
      special case.
    - ``group_std``: :math:`(r - m) / \sigma`, with the group's standard deviation (GRPO, arXiv 2402.03300), for
      comparison.

    Args:
        returns_NK: return of each draw; the draws of a group in the last dimension, at least two.
        kind: one of the three names above.
    """
    # Measured from the worst draw, those that are alike are zeros, and their mean is exact.
    above = returns_NK - returns_NK.amin(-1, keepdim=True)
    mean = above.mean(-1, keepdim=True)
    centred = above - mean
    if kind == "leave_one_out":
        draws = returns_NK.shape[-1]
        return centred * (draws / (draws - 1))
    spread = above.amax(-1, keepdim=True)
    # By shares of the spread, because the squares of small returns leave the range of the numbers.
    scale = mean if kind == "group_mean" else spread * (centred / spread).square().mean(-1, keepdim=True).sqrt()
    rounding = ULPS * torch.finfo(returns_NK.dtype).eps * returns_NK.abs().amax(-1, keepdim=True)
    return torch.where(spread > rounding, centred / scale, 0.0)


def returns_to_go(rewards: Tensor, discount: float) -> Tensor:
    """Return the discounted sum of the rewards from each step to the end, along the first dimension."""
    if not discount:
        return rewards
    out, later = [], torch.zeros_like(rewards[0])
    for reward in reversed(rewards.unbind()):
        later = reward + discount * later
        out.append(later)
    return torch.stack(out[::-1])
