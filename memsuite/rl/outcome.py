"""The outcome of a rollout, over the environments of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.distributed import total, variance
from memsuite.rl.policy.loss import TERMS
from memsuite.types import Trajectory

# The statistics of an iteration, in this order.
STATISTICS = [*TERMS, "gradient_norm", "success", "return", "explained_variance"]


def rollout_outcome(trajectory: Trajectory, returns: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[success, mean return of the episodes that ended, explained variance]`` and the running returns.

    Args:
        trajectory: this process's rollout.
        returns: the critic's targets, ``[T, B]``.
        running: rewards that the running episodes had gathered before the rollout, ``[B]``.

    Returns:
        The three numbers, NaN where no decision was scored or no episode ended; and the rewards that the running
        episodes have gathered now, ``[B]``.
    """
    ended = trajectory.terminated | trajectory.truncated
    finished, running = finished_returns(trajectory.rewards, ended, running)
    counts = torch.stack([trajectory.correct.sum(), trajectory.scored.sum(), ended.sum()])
    correct, scored, episodes = total(counts)
    unexplained = variance(returns - trajectory.values) / (variance(returns) + 1e-8)
    return torch.stack([correct / scored, total(finished) / episodes, 1 - unexplained]), running


def gather_statistics(found: list[tuple[Tensor, Tensor]], outcome: Tensor) -> Tensor:
    """Return the mean loss terms over an iteration's updates, the outcome, and one flag per update: 1 if skipped."""
    means = torch.stack([terms for terms, _ in found]).mean(0)
    return torch.cat([means, outcome.to(means.dtype), torch.stack([skipped for _, skipped in found]).to(means.dtype)])


def finished_returns(rewards_TB: Tensor, ended_TB: Tensor, running_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed returns of the episodes that end in a rollout, and the rewards so far of the others, ``[B]``.

    Args:
        rewards_TB: rewards ``[T, B]``.
        ended_TB: bool ``[T, B]``, the step ends an episode.
        running_B: rewards ``[B]`` that the episodes running at the rollout's start had gathered before it.
    """
    gathered = rewards_TB.cumsum(0) + running_B
    steps = torch.arange(1, len(ended_TB) + 1, device=ended_TB.device).unsqueeze(1)
    last = (ended_TB * steps).amax(0)  # the last end in each row, counted from 1; 0 if there is none
    at_last = torch.where(last > 0, gathered.gather(0, (last - 1).clamp(min=0).unsqueeze(0))[0], 0.0)
    # Added up again and not subtracted, because a return that is not finite would stay so for all later episodes.
    running = torch.where(steps > last, rewards_TB, 0.0).sum(0) + torch.where(last > 0, 0.0, running_B)
    return at_last.sum(), running
