"""The outcome of a rollout, over the environments of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.distributed import total, variance
from memsuite.metrics import finished_returns
from memsuite.rl.loss import TERMS
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
