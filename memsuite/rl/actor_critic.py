"""A controller with a policy head and a value head: what PPO trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from memsuite.controllers import Controller, make_controller
from memsuite.controllers.base import forward_in_blocks, is_own
from memsuite.ops import normed_linear
from memsuite.rl.randomness import own_randomness
from memsuite.runs.ppo import Critic
from memsuite.tasks import Task
from memsuite.types import State

ROWS = 4096  # steps times environments that the controller reads at once on a CPU: a few megabytes a tensor
EPSILON = 1e-8  # of the norm of the features, on their mean square
SHORTEST = 64  # steps of a block at least


class ActorCritic(nn.Module):
    """Controller, feature norm, and two linear heads.

    The features are normalised (RMSNorm, Zhang & Sennrich 2019) because a memory that holds may be small in scale; the
    heads then read its direction. The policy head starts near uniform (gain 0.01), the value head at 0.

    A critic that reads only the observation is the baseline of choice where nothing is bootstrapped from it. It rises
    with the success of everything asked the same way, so what is not yet learnt is told so by every failure, where a
    critic with memory soon expects the failure and falls silent: among unbiased baselines the higher one explores more
    (Chung et al. 2021, arXiv 2008.13773). Without a bias it is exactly 0 on a blank observation, whose steps then carry
    no noise.

    Args:
        controller: the memory; reads observations.
        num_actions: width of the policy.
        observation_dim: width of the observation, for a critic that reads only that.
        critic_sees: ``memory`` for a critic on the features, ``observation``, or ``none`` for no critic, whose values
            are 0.
    """

    def __init__(
        self, controller: Controller, num_actions: int, observation_dim: int = 0, critic_sees: Critic = "memory"
    ) -> None:
        super().__init__()
        self.controller = controller
        self._state_floats = controller.state_floats()
        self.norm = nn.RMSNorm(controller.feature_dim, eps=EPSILON)
        self.actor = nn.Linear(controller.feature_dim, num_actions)
        self.critic_sees = critic_sees
        # An observation is scaled to the size of normalised features, so that both critics learn at one pace.
        self.critic_gain = float(controller.feature_dim) ** 0.5 if critic_sees == "observation" else 1.0
        width = observation_dim if critic_sees == "observation" else controller.feature_dim
        self.critic = None if critic_sees == "none" else nn.Linear(width, 1, bias=critic_sees == "memory")
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        for tensor in (self.actor.bias, *(self.critic.parameters() if self.critic is not None else ())):
            nn.init.zeros_(tensor)
        self.train()

    def train(self, mode: bool = True) -> ActorCritic:
        """Set the mode; a controller of the user's own stays in evaluation mode, to act and to learn as one function.

        Dropout and statistics of the batch would make the policy that is updated another than the one that acted.
        PyTorch's recurrent layers do switch: on a GPU they have no gradient in evaluation mode.
        """
        super().train(mode)
        if is_own(self.controller):
            for part in self.controller.modules():
                part.training = mode and isinstance(part, nn.RNNBase)
        return self

    def parameter_groups(self, recurrent_scale: float) -> list[dict[str, Any]]:
        """Return the parameters in two groups, each with its ``scale`` of the learning rate: recurrent ones apart."""
        recurrent = list(self.controller.recurrent_parameters())
        ids = {id(parameter) for parameter in recurrent}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        groups = [{"params": rest, "scale": 1.0}, {"params": recurrent, "scale": recurrent_scale}]
        return [group for group in groups if group["params"]]

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the controller's state of episodes that have seen nothing."""
        return self.controller.init_state(batch_size, device)

    def forward(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read a sequence ``[T, B, D]``; return logits ``[T, B, A]``, values ``[T, B]`` and the state after it."""
        features, state = self.features(x_TBD, state, is_first_TB)
        return (*self.heads(features, x_TBD), state)

    def features(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Read a sequence ``[T, B, D]``; return the features ``[T, B, feature_dim]`` and the state after it."""
        x_TBD = x_TBD.to(self.actor.weight.dtype)
        return forward_in_blocks(self.controller, x_TBD, state, is_first_TB, self._block_steps(x_TBD))

    def _block_steps(self, x_TBD: Tensor) -> int:
        """Choose the blocks of time: whole sequences on an accelerator, and where the state outweighs a block."""
        length, batch = x_TBD.shape[:2]
        steps = max(SHORTEST, ROWS // batch)
        if x_TBD.device.type != "cpu" or self._state_floats > steps * self.controller.feature_dim:
            return length
        return steps

    def step(self, x_BD: Tensor, state: State, is_first_B: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read one step ``[B, D]``; return logits ``[B, A]``, values ``[B]`` and the next state."""
        x_BD = x_BD.to(self.actor.weight.dtype)
        features, state = self.controller.forward_step(x_BD, self.controller.reset_mask(state, is_first_B))
        return (*self.heads(features, x_BD), state)

    def heads(self, features: Tensor, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[.., A]`` and values ``[..]`` at features ``[.., feature_dim]`` and their observations."""
        features = features.to(self.actor.weight.dtype)
        if self.critic is not None and self.critic_sees == "memory":
            # One map for both heads: the features are read once, and written to once.
            weight = torch.cat([self.actor.weight, self.critic.weight]) * self.norm.weight
            both = normed_linear(features, weight, EPSILON) + torch.cat([self.actor.bias, self.critic.bias])
            # Split, not sliced twice: the way back joins two gradients, and makes no zeros to add them in.
            logits, values = torch.split(both, [self.actor.out_features, 1], dim=-1)
            return logits, values.squeeze(-1)
        logits = normed_linear(features, self.actor.weight * self.norm.weight, EPSILON) + self.actor.bias
        if self.critic is None:
            return logits, logits.new_zeros(logits.shape[:-1])
        observations = observations.to(self.actor.weight.dtype)
        return logits, linear(observations, self.critic.weight * self.critic_gain).squeeze(-1)


def make_actor_critic(
    task: Task, controller: str, arguments: dict[str, Any], critic: Critic, generator: torch.Generator
) -> ActorCritic:
    """Build the network for a task from random numbers of its own: who drew before does not change the weights.

    Args:
        task: says how wide observations are and how many actions there are.
        controller: name or path of the memory.
        arguments: its own.
        critic: what it sees: ``memory``, ``observation``, or ``none`` for no critic.
        generator: its seed decides the weights.
    """
    width = task.observation_dim
    with own_randomness(generator.initial_seed()):
        memory = make_controller(controller, input_dim=width, **arguments)
        return ActorCritic(memory, task.num_actions, width, critic)
