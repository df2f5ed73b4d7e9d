"""A controller with a policy head and a value head: what PPO trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memsuite.controllers import Controller
from memsuite.types import State


class ActorCritic(nn.Module):
    """Controller, feature norm, and two linear heads.

    The features are normalised (RMSNorm, Zhang & Sennrich 2019) because a memory that holds may be small in scale; the
    heads then read its direction. The policy head starts near uniform (gain 0.01), the value head at 0.

    Args:
        controller: the memory; reads observations.
        num_actions: width of the policy.
        norm: normalise the features.
    """

    def __init__(self, controller: Controller, num_actions: int, norm: bool = True) -> None:
        super().__init__()
        self.controller = controller
        self.norm = nn.RMSNorm(controller.feature_dim, eps=1e-8) if norm else nn.Identity()
        self.actor = nn.Linear(controller.feature_dim, num_actions)
        self.critic = nn.Linear(controller.feature_dim, 1)
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        for tensor in (self.actor.bias, self.critic.weight, self.critic.bias):
            nn.init.zeros_(tensor)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the controller's state of episodes that have seen nothing."""
        return self.controller.init_state(batch_size, device)

    def forward(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read a sequence ``[T, B, D]``; return logits ``[T, B, A]``, values ``[T, B]`` and the state after it."""
        features, state = self.controller.forward_sequence(x_TBD, state, is_first_TB)
        return (*self._read(features), state)

    def step(self, x_BD: Tensor, state: State, is_first_B: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read one step ``[B, D]``; return logits ``[B, A]``, values ``[B]`` and the next state."""
        features, state = self.controller.forward_step(x_BD, self.controller.reset_mask(state, is_first_B))
        return (*self._read(features), state)

    def _read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(features)
        return self.actor(features), self.critic(features).squeeze(-1)
