"""The loss of one minibatch of environments, over whole sequences or over windows of time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.base import map_state
from memsuite.distributed import total
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.policy.loss import LossTerms
from memsuite.runs.ppo import ResolvedPPO
from memsuite.types import State, Trajectory

MEMORY_OF_SCALE = 0.9  # share of the advantages' scale that is kept from one rollout to the next


def minibatch_columns(num_envs: int, ppo: ResolvedPPO, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Divide one epoch's environments among its minibatches, ``[M]`` each.

    The generator has the same state in every process. All processes therefore have equally many environments in each
    minibatch, and the average of their gradients is the gradient over all their environments.
    """
    return torch.randperm(num_envs, generator=generator).tensor_split(ppo.minibatches)


def minibatch_losses(
    model: ActorCritic, trajectory: Trajectory, advantages: Tensor, returns: Tensor, columns: Tensor, ppo: ResolvedPPO
) -> Iterator[tuple[float, LossTerms]]:
    """Yield each window's share of the sequence and its loss; the memory crosses windows, the gradient does not.

    Args:
        model: the network.
        trajectory: the rollout.
        advantages: advantages in the scale of the policy loss, ``[T, B]``.
        returns: the critic's targets, ``[T, B]``.
        columns: the environments of this minibatch, ``[M]``.
        ppo: the settings; ``bptt_steps`` is the length of a window, None for the whole rollout.
    """
    length = trajectory.actions.shape[0]
    window = ppo.bptt_steps or length
    state: State = map_state(lambda leaf: leaf[columns], trajectory.initial_state)
    for start in range(0, length, window):

        def part(tensor: Tensor, start: int = start) -> Tensor:
            return tensor[start : start + window].index_select(1, columns)

        logits, values, state = model(part(trajectory.observations), state, part(trajectory.is_first))
        terms = model.policy.loss(
            logits,
            values,
            part(trajectory.actions),
            part(trajectory.log_probs),
            part(trajectory.values),
            part(advantages),
            part(returns),
            clip=ppo.clip,
            value_clip=ppo.value_clip,
            value_coefficient=ppo.value_coefficient,
            entropy_coefficient=ppo.entropy_coefficient,
            entropy_weighting=ppo.entropy_weighting,
        )
        yield logits.shape[0] / length, terms
        if start + window < length:
            state = map_state(Tensor.detach, state)


class AdvantageScale(nn.Module):
    """Divide advantages by their root mean square: of this rollout or of the past ones, whichever is larger.

    Where the policy acts anew in every minibatch (:mod:`memsuite.rl.shared`), a minibatch is a rollout here.

    Without the past, the leftover noise of a solved task would be amplified to the size of a signal, and would undo
    what was learnt. No mean is subtracted, so that an advantage of 0 stays 0.
    """

    mean_square: Tensor
    gathered: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean_square", "gathered"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def forward(self, advantages: Tensor) -> Tensor:
        """Add one rollout's advantages, over all processes, to the scale; return them scaled, ``[..]``."""
        squares = advantages.double().square().sum()
        square_sum, count = total(torch.stack([squares, squares.new_full((), advantages.numel())]))
        now = square_sum / count
        # A rollout that is not finite, or has no decision, teaches nothing, and must not enter the scale either.
        share = torch.isfinite(now).double() * (1 - MEMORY_OF_SCALE)
        self.mean_square.lerp_(torch.nan_to_num(now, posinf=0.0), share)
        self.gathered.lerp_(torch.ones_like(now), share)
        square = torch.maximum(now, self.mean_square / self.gathered)
        return advantages / (square.sqrt() + 1e-8).to(advantages.dtype)
