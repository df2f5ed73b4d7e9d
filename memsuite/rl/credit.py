"""The discount and lambda in force: the given ones, or 0 until actions are seen to have consequences."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from memsuite.distributed import total
from memsuite.rl.policy.distributions import policy_of
from memsuite.runs.ppo import ResolvedPPO
from memsuite.tasks import Task
from memsuite.types import Trajectory

SIGNIFICANT = 6.0  # standard deviations
MOST_WAVES = 16


class Credit(nn.Module):
    r"""The discount and lambda in force.

    If actions change no later observation or reward, crediting them with later rewards adds only noise, because all
    later events are equally likely after any other action. ``tested`` decides from the data: both numbers are 0
    until an action is seen to have a consequence; from then on they have the given values.

    An action is drawn by a uniform number u (:func:`~memsuite.rl.policy.distributions.sample`). Without consequences, u
    is independent of everything that follows. Let :math:`w_k = \cos(\pi k u)`, and let
    :math:`G = \sum_{i \ge 1} (\gamma\lambda)^{i-1} y_{t+i}`
    for each observation channel and for the reward, centred on its mean over the environments of all processes. Then
    every term of
    :math:`S = \sum w_k G` is symmetric about 0 given the rest, and
    :math:`P(|S| > z \sqrt{\sum w_k^2 G^2}) \le 2 e^{-z^2/2}` (self-normalised martingales, de la Pena 1999): 3e-8 for a
    pair at z = 6, whatever the task. The sums are kept over rollouts, so that rare consequences are found later.

    The test cannot see a consequence that, on average over everything else, appears in no later observation or reward
    within the reach of the trace. The given discount then never applies, and such a task is not learnt.

    Args:
        discount: gamma.
        gae_lambda: lambda.
        tested: whether both wait for evidence of a consequence.
        num_actions: number of actions of the task, or of values of a part of an action; 0 for real numbers.
        observation_dim: width of the task's observations.
        components: parts of an action, each drawn by a number of its own.
    """

    products: Tensor
    squares: Tensor

    def __init__(
        self,
        discount: float,
        gae_lambda: float,
        tested: bool,
        num_actions: int,
        observation_dim: int,
        components: int = 1,
    ) -> None:
        super().__init__()
        self.discount, self.gae_lambda = discount, gae_lambda
        self.tested = tested and discount > 0
        if self.tested:
            self.waves = min(max(1, num_actions - 1), MOST_WAVES) if num_actions else MOST_WAVES
            shape = self.waves * components, observation_dim + 1
            for name in ("products", "squares"):
                self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def forward(self, trajectory: Trajectory) -> tuple[float, float]:
        """Add one rollout of all processes to the sums; return the discount and lambda for it."""
        if not self.tested:
            return self.discount, self.gae_lambda
        if not self.found():
            assert trajectory.draws is not None
            waves = self._waves(trajectory.draws)
            later = self._later(trajectory).flatten(0, 1)
            self.products += total(waves.T @ later)
            self.squares += total(waves.T.square() @ later.square())
        return (self.discount, self.gae_lambda) if self.found() else (0.0, 0.0)

    def found(self) -> bool:
        """Return whether actions have been seen to have consequences. Synchronises with the device."""
        return bool((self.products.abs() > SIGNIFICANT * self.squares.sqrt()).any())

    def _waves(self, draws_TB: Tensor) -> Tensor:
        """Return ``cos(pi k u)`` for each part of an action, ``[T B, waves]``."""
        number = torch.arange(1, self.waves + 1, device=draws_TB.device)
        waves = torch.cos(math.pi * number * draws_TB.double().flatten().unsqueeze(-1))
        return waves.view(draws_TB.shape[0] * draws_TB.shape[1], len(self.products))

    def _later(self, trajectory: Trajectory) -> Tensor:
        """Return the discounted sum of what follows each step, centred: ``[T, B, observation_dim + 1]``.

        A single environment has no others to be centred on: its sums stay as they are, which is as valid.
        """
        seen = torch.cat([trajectory.observations, trajectory.rewards.unsqueeze(-1)], dim=-1).double()
        ended = (trajectory.terminated | trajectory.truncated).unsqueeze(-1)
        later = torch.zeros_like(seen)
        decay = self.discount * self.gae_lambda
        for t in range(len(seen) - 2, -1, -1):
            later[t] = (seen[t + 1] + decay * later[t + 1]).masked_fill(ended[t], 0)
        rows = torch.ones(1, 1, later.shape[-1], dtype=later.dtype, device=later.device).expand(1, later.shape[1], -1)
        sums = total(torch.cat([later, rows]).sum(1, keepdim=True))
        others = (sums[-1:] > 1).double()
        return later - others * sums[:-1] / sums[-1:]


def credit_of(ppo: ResolvedPPO, task: Task) -> Credit:
    """Return the discount and lambda that the settings ask for, for the actions and observations of a task."""
    policy = policy_of(task.action_space)
    sizes = policy.levels, task.observation_dim, math.prod(policy.shape)
    return Credit(ppo.discount, ppo.gae_lambda, ppo.consequences == "tested", *sizes)
