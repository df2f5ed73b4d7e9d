"""From a rollout to optimiser steps: minibatches, and the clipped gradient of each, skipped if it is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memsuite.distributed import mean
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.guard import UpdateGuard
from memsuite.rl.minibatch import minibatch_columns, minibatch_losses
from memsuite.rl.policy.loss import TERMS, LossTerms
from memsuite.rl.shared import Drawn, SharedRollout
from memsuite.runs.ppo import ResolvedPPO
from memsuite.types import Trajectory


@dataclass(frozen=True)
class Update:
    """The optimiser step of a minibatch.

    Attributes:
        groups: the parameters to train, in the groups over each of which a gradient norm is taken.
        optimizer: a Lightning optimiser around a fused one.
        backward: adds the gradient of a loss to the gradients of the parameters, averaged over the processes.
        guard: skips a step that is not finite.
        max_grad_norm: norm above which the gradient of a group is scaled down.
    """

    groups: list[list[nn.Parameter]]
    optimizer: Any
    backward: Callable[[Tensor], None]
    guard: UpdateGuard
    max_grad_norm: float

    def __call__(
        self, losses: Iterable[tuple[float, LossTerms]], idle: Callable[[], Tensor | None] = lambda: None
    ) -> tuple[Tensor, Tensor]:
        """Learn from one minibatch.

        Args:
            losses: the parts of its loss, one per window of time, each with its share of the whole.
            idle: tells, once the losses are read, whether there was nothing to learn from: bool, a scalar; or None.

        Returns:
            The loss terms and the gradient norm, ``[7]``, averaged over the processes; the terms are NaN where there
            was nothing to learn from. They have the same bits in each process, so all make the same decisions about the
            KL divergence and in the guard. And a flag: 1 for a step that was skipped because it was not finite.
        """
        self.optimizer.zero_grad()
        parts: list[Tensor] = []
        for share, found in losses:
            self.backward(found.total if share == 1 else found.total * share)
            parts.append(found.terms if share == 1 else found.terms * share)
        terms = mean(parts[0] if len(parts) == 1 else torch.stack(parts).sum(0))
        norms = [nn.utils.clip_grad_norm_(group, self.max_grad_norm) for group in self.groups]
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
        nothing = idle()
        skipped = self.guard.step(self.optimizer, terms[0], norm, nothing)
        if nothing is not None:
            terms = terms.masked_fill(nothing, torch.nan)
        return torch.cat([terms, norm.unsqueeze(0)]), skipped


def learn_from_shared(
    step: Update, rollout: SharedRollout, scripts: int, ppo: ResolvedPPO, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Act in each minibatch of shared scripts and learn from it ``ppo.epochs`` times; return the results of the steps.

    Args:
        step: learns from one minibatch.
        rollout: the rollout of this process.
        scripts: number of scripts.
        ppo: the settings.
        generator: assigns the scripts to minibatches.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for columns in minibatch_columns(scripts, ppo, generator):
        drawn: list[Drawn] = []
        where = columns.to(rollout.counts.device, non_blocking=True)
        for _ in range(ppo.epochs):
            found.append(step(rollout.losses(where, drawn), lambda: rollout.idle))
            if _too_far(found[-1][0], ppo):
                break
    return found


def learn_from_trajectory(
    step: Update,
    model: ActorCritic,
    trajectory: Trajectory,
    advantages: Tensor,
    returns: Tensor,
    ppo: ResolvedPPO,
    generator: torch.Generator,
) -> list[tuple[Tensor, Tensor]]:
    """Run the epochs over one rollout; return the results of the steps.

    Args:
        step: learns from one minibatch.
        model: the network.
        trajectory: the rollout.
        advantages: advantages in the scale of the loss, ``[T, B]``.
        returns: the critic's targets, ``[T, B]``.
        ppo: the settings.
        generator: assigns the environments to minibatches.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for _ in range(ppo.epochs):
        for columns in minibatch_columns(trajectory.actions.shape[1], ppo, generator):
            where = columns.to(trajectory.actions.device, non_blocking=True)
            found.append(step(minibatch_losses(model, trajectory, advantages, returns, where, ppo)))
        if _too_far(found[-1][0], ppo):
            break
    return found


def _too_far(terms: Tensor, ppo: ResolvedPPO) -> bool:
    """Return whether the policy has moved beyond ``ppo.target_kl``, which ends the epochs; waits for the device."""
    return ppo.target_kl is not None and float(terms[TERMS.index("kl")]) > ppo.target_kl
