"""The network that PPO trains: a controller with a policy head and a value head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from memsuite.controllers import Controller, make_controller
from memsuite.controllers.base import forward_in_blocks, is_own
from memsuite.errors import UsageError
from memsuite.ops import normed_linear
from memsuite.ops.schema import outside_autocast
from memsuite.rl.needs import check_network
from memsuite.rl.policy.distributions import policy_of
from memsuite.rl.policy.encoder import ImageEncoder, controller_input_dim
from memsuite.rl.randomness import own_randomness
from memsuite.runs.ppo import Critic
from memsuite.tasks import Task
from memsuite.tasks.actions import ActionSpace, Continuous, Discrete
from memsuite.types import State

ROWS = 4096  # steps times environments that the controller reads at once on a CPU: a few megabytes per tensor
EPSILON = 1e-8  # added to the mean square of the features in their norm
SHORTEST = 64  # smallest number of steps in a block


class ActorCritic(nn.Module):
    """Controller, feature norm, and two linear heads.

    The features are normalised (RMSNorm, Zhang & Sennrich 2019) because the state of a good memory may be small in
    scale; the heads then read its direction. The policy head starts near uniform (gain 0.01), the value head at 0.

    Without bootstrapping, a critic that reads only the observation is the better baseline. It rises with the success on
    all items that are asked for in the same way, so every failure on an item that is not yet learnt keeps a
    negative advantage. A critic with memory soon expects that failure, and the advantage vanishes. Among unbiased
    baselines the higher one explores more (Chung et al. 2021, arXiv 2008.13773). Without a bias this critic is exactly
    0 on a blank observation, so blank steps carry no noise.

    Args:
        controller: the memory; reads observations.
        actions: what the actions are; a number of them for :class:`~memsuite.tasks.actions.Discrete`.
        observation_dim: width of the observation, for a critic that reads only the observation.
        critic_sees: ``memory`` for a critic on the features, ``observation``, or ``none`` for no critic, in which case
            all values are 0.
        encoder: makes what the controller reads of an observation with images; None for the observation as it is.

    Attributes:
        policy: the distribution of the actions given the logits.
        log_std: logarithms of the standard deviations of continuous actions, the same at every step; otherwise None.
    """

    def __init__(
        self,
        controller: Controller,
        actions: int | ActionSpace,
        observation_dim: int = 0,
        critic_sees: Critic = "memory",
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        space = Discrete(actions) if isinstance(actions, int) else actions
        self.policy = policy_of(space)
        self.controller = controller
        self._state_floats = controller.state_floats()
        self.recompute: int | None = None  # steps of a block that the backward pass computes again; None for none
        self._folded: tuple[Tensor, Tensor] | None = None
        self.norm = nn.RMSNorm(controller.feature_dim, eps=EPSILON)
        self.actor = nn.Linear(controller.feature_dim, space.outputs)
        self.critic_sees = critic_sees
        # The observation is scaled to the size of normalised features, so that both critics learn equally fast.
        self.critic_gain = float(controller.feature_dim) ** 0.5 if critic_sees == "observation" else 1.0
        width = observation_dim if critic_sees == "observation" else controller.feature_dim
        self.critic = None if critic_sees == "none" else nn.Linear(width, 1, bias=critic_sees == "memory")
        nn.init.orthogonal_(self.actor.weight, gain=0.01)
        for tensor in (self.actor.bias, *(self.critic.parameters() if self.critic is not None else ())):
            nn.init.zeros_(tensor)
        self.log_std = nn.Parameter(torch.zeros(space.outputs)) if isinstance(space, Continuous) else None
        self.encoder = encoder
        self.train()

    def train(self, mode: bool = True) -> ActorCritic:
        """Set the mode; a controller of the user's own stays in evaluation mode, in rollouts and updates alike.

        With dropout or batch statistics, the policy that is updated would differ from the policy that acted. PyTorch's
        recurrent layers do switch, because on a GPU they have no gradient in evaluation mode.
        """
        super().train(mode)
        if is_own(self.controller):
            for part in self.controller.modules():
                part.training = mode and isinstance(part, nn.RNNBase)
        return self

    def parameter_groups(self, recurrent_scale: float) -> list[dict[str, Any]]:
        """Return two groups of parameters, the recurrent ones and the others, with their ``scale`` of the rate."""
        recurrent = list(self.controller.recurrent_parameters())
        ids = {id(parameter) for parameter in recurrent}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        groups = [{"params": rest, "scale": 1.0}, {"params": recurrent, "scale": recurrent_scale}]
        return [group for group in groups if group["params"]]

    def parameters_by_part(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by the part of the network they belong to, without parts that have none.

        Returns:
            ``recurrent``, which determine what the memory keeps; ``controller``, its others; ``encoder``, of images;
            and ``heads``, with the norm of the features. Each is in exactly one part.
        """
        encoder = () if self.encoder is None else self.encoder.parameters()
        owners = (
            ("recurrent", self.controller.recurrent_parameters()),
            ("controller", self.controller.parameters()),
            ("encoder", encoder),
            ("heads", self.parameters()),
        )
        found: dict[str, list[nn.Parameter]] = {}
        taken: set[int] = set()
        for name, parameters in owners:
            own = [one for one in parameters if id(one) not in taken]
            taken |= {id(one) for one in own}
            found |= {name: own} if own else {}
        return found

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the controller's state before the first step of an episode."""
        return self.controller.init_state(batch_size, device)

    def forward(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read a sequence ``[T, B, D]``; return logits ``[T, B, A]``, values ``[T, B]`` and the state after it."""
        features, state = self.features(x_TBD, state, is_first_TB)
        return (*self.heads(features, x_TBD), state)

    def features(
        self, x_TBD: Tensor, state: State, is_first_TB: Tensor, keep_T: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read a sequence ``[T, B, D]``; return the features ``[T, B, feature_dim]`` and the state after it.

        Where ``keep_T`` ``[T]`` is given, only the features of those steps are returned.
        """
        x_TBD = self.read(x_TBD)
        again = self.recompute is not None and torch.is_grad_enabled()
        steps = cast(int, self.recompute) if again else self._block_steps(x_TBD)
        return forward_in_blocks(self.controller, x_TBD, state, is_first_TB, steps, again, keep_T)

    def read(self, x: Tensor) -> Tensor:
        """Return what the controller reads of observations ``[.., D]``: images encoded, in the kind of the weights."""
        x = x.to(self.actor.weight.dtype)
        return x if self.encoder is None else self.encoder(x)

    def _block_steps(self, x_TBD: Tensor) -> int:
        """Return the steps per block: the whole sequence on an accelerator, or if the state is larger than a block."""
        length, batch = x_TBD.shape[:2]
        steps = max(SHORTEST, ROWS // batch)
        if x_TBD.device.type != "cpu" or self._state_floats > steps * self.controller.feature_dim:
            return length
        return steps

    def step(self, x_BD: Tensor, state: State, is_first_B: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read one step ``[B, D]``; return logits ``[B, A]``, values ``[B]`` and the next state."""
        features, state = self.controller.forward_step(self.read(x_BD), self.controller.reset_mask(state, is_first_B))
        return (*self.heads(features, x_BD), state)

    def heads(self, features: Tensor, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[.., A]`` and values ``[..]`` from features ``[.., feature_dim]`` and their observations."""
        weight, bias = self._joined() if self._folded is None else self._folded
        made = normed_linear(features.to(self.actor.weight.dtype), weight, EPSILON) + bias
        if self.critic is not None and self.critic_sees == "memory":
            # Split instead of sliced twice: the backward pass then joins two gradients without tensors of zeros.
            logits, values = torch.split(made, [self.actor.out_features, 1], dim=-1)
            return self._with_std(logits), values.squeeze(-1)
        if self.critic is None:
            return self._with_std(made), made.new_zeros(made.shape[:-1])
        # Outside autocast, because rewards and returns take the kind of number of the values.
        with outside_autocast(observations.device.type):
            values = linear(observations.to(self.critic.weight.dtype), self.critic.weight * self.critic_gain)
        return self._with_std(made), values.squeeze(-1)

    def _with_std(self, logits: Tensor) -> Tensor:
        return logits if self.log_std is None else torch.cat([logits, self.log_std.expand_as(logits)], dim=-1)

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the heads that read the features, with the norm's weight.

        Both heads are one linear map, so that the features and their gradient are read and written once.
        """
        if self.critic is None or self.critic_sees != "memory":
            return self.actor.weight * self.norm.weight, self.actor.bias
        weight = torch.cat([self.actor.weight, self.critic.weight]) * self.norm.weight
        return weight, torch.cat([self.actor.bias, self.critic.bias])

    @contextmanager
    def heads_folded(self) -> Iterator[None]:
        """Join the heads' weights once for all steps that are taken within; the parameters must not change there."""
        self._folded = self._joined()
        try:
            yield
        finally:
            self._folded = None


def make_actor_critic(
    task: Task, controller: str, arguments: dict[str, Any], critic: Critic, generator: torch.Generator
) -> ActorCritic:
    """Build the network of a task from its own random stream, independent of earlier random draws.

    Args:
        task: gives the width of the observations and the number of actions.
        controller: name or path of the memory.
        arguments: arguments of the controller.
        critic: input of the critic: ``memory``, ``observation``, or ``none`` for no critic.
        generator: its seed determines the weights.
    """
    width = controller_input_dim(task)
    check_network(controller, arguments, width)
    if task.images and critic == "observation":
        raise UsageError(
            "ppo.critic observation reads numbers, not images: set ppo.critic memory, or the image flatten"
        )
    with own_randomness(generator.initial_seed()):
        memory = make_controller(controller, input_dim=width, **arguments)
        encoder = ImageEncoder(task.images, task.observation_dim) if task.images else None
        return ActorCritic(memory, task.action_space, task.observation_dim, critic, encoder)
