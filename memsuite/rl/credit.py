"""How far back a reward is credited: as the discount says, or only once actions are seen to have consequences."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from memsuite.distributed import total
from memsuite.types import Trajectory

SIGNIFICANT = 6.0  # standard deviations
MOST_WAVES = 16


class Credit(nn.Module):
    r"""The discount and lambda in force.

    Where actions change nothing that is seen or rewarded later, crediting them with later rewards adds noise and
    nothing else: what follows is as likely after any other action. ``tested`` asks the data: both numbers are 0 until
    an action is seen to matter, and the given ones from then on.

    An action is drawn by a uniform number u (:func:`memsuite.rl.rollout.sample`). Without consequences u is independent
    of all that follows. So with :math:`w_k = \cos(\pi k u)` and
    :math:`G = \sum_{i \ge 1} (\gamma\lambda)^{i-1} y_{t+i}`
    of each observation channel and of the reward, about its mean over environments, every term of
    :math:`S = \sum w_k G` is symmetric about 0 given the rest, and
    :math:`P(|S| > z \sqrt{\sum w_k^2 G^2}) \le 2 e^{-z^2/2}` (self-normalised martingales, de la Pena 1999): 3e-8 for a
    pair at z = 6, whatever the task. Sums are kept from rollout to rollout, so that rare consequences are found later.

    What it cannot see is a consequence that shows in no later observation or reward within the reach of the trace, on
    average over everything else: the given discount then never applies, and such a task is not learnt.

    Args:
        discount: gamma.
        gae_lambda: lambda.
        tested: whether they wait for evidence.
        num_actions: of the task.
        observation_dim: of the task.
    """

    products: Tensor
    squares: Tensor

    def __init__(
        self, discount: float, gae_lambda: float, tested: bool, num_actions: int, observation_dim: int
    ) -> None:
        super().__init__()
        self.discount, self.gae_lambda = discount, gae_lambda
        self.tested = tested and discount > 0
        if self.tested:
            shape = min(max(1, num_actions - 1), MOST_WAVES), observation_dim + 1
            for name in ("products", "squares"):
                self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def forward(self, trajectory: Trajectory) -> tuple[float, float]:
        """Take one rollout into account, those of all processes; return the discount and lambda for it."""
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
        """Tell whether actions have been seen to have consequences. Waits for the device."""
        return bool((self.products.abs() > SIGNIFICANT * self.squares.sqrt()).any())

    def _waves(self, draws_TB: Tensor) -> Tensor:
        """Return ``cos(pi k u)``, ``[T B, waves]``."""
        number = torch.arange(1, len(self.products) + 1, device=draws_TB.device)
        return torch.cos(math.pi * number * draws_TB.double().flatten().unsqueeze(-1))

    def _later(self, trajectory: Trajectory) -> Tensor:
        """Return what follows each step in its episode, discounted, about its mean: ``[T, B, observation_dim + 1]``."""
        seen = torch.cat([trajectory.observations, trajectory.rewards.unsqueeze(-1)], dim=-1).double()
        ended = (trajectory.terminated | trajectory.truncated).unsqueeze(-1)
        later = torch.zeros_like(seen)
        decay = self.discount * self.gae_lambda
        for t in range(len(seen) - 2, -1, -1):
            later[t] = (seen[t + 1] + decay * later[t + 1]).masked_fill(ended[t], 0)
        return later - later.mean(1, keepdim=True)
