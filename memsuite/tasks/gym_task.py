"""Gymnasium in: any Gymnasium environment with discrete actions as a task."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, Task
from memsuite.types import TimeStep

UNLIMITED = 1000  # the horizon of an environment that names no limit


class GymTask(Task):
    """Run a Gymnasium environment as a task, for instance CartPole without its velocities: ``mask=[1, 3]``.

    Observations are flattened as ``gymnasium.spaces.flatten`` does, a discrete one becomes a one-hot. Actions must be
    discrete. No decision is scored: what counts is the reward. The anchors are unknown, NaN.

    Every episode is reset with a seed drawn from the task's generator. :meth:`state_dict` keeps the seeds and the
    actions of the running episodes, and loading plays them again: an environment that its seed and the actions decide
    goes on with the same bits; another begins where its own randomness leads.

    Args:
        env_id: a registered environment, or ``module:id`` to import a module first
            (``popgym:popgym-RepeatPreviousEasy-v0``).
        horizon: cut episodes after so many steps; None takes the environment's own limit. :attr:`horizon` is that, or
            1000 for an environment without a limit.
        mask: indices of the flattened observation to leave out, so that the agent has to remember or infer them.
        env_args: arguments of the environment.
    """

    def __init__(
        self,
        env_id: str,
        horizon: int | None = None,
        mask: Sequence[int] = (),
        env_args: dict[str, Any] | None = None,
    ) -> None:
        self._gymnasium = _import_gymnasium()
        self._envs: list[Any] = []
        self.env_id, self.mask = env_id, tuple(mask)
        self._env_args = dict(env_args or {}) | ({"max_episode_steps": horizon} if horizon else {})
        env = self._make()
        env.close()
        spaces = self._gymnasium.spaces
        if not isinstance(env.action_space, spaces.Discrete):
            raise UsageError(f"gym:{env_id}: its actions are {env.action_space}; only discrete ones can be learnt here")
        if not env.observation_space.is_np_flattenable:
            raise UsageError(f"gym:{env_id}: its observations, {env.observation_space}, have no fixed size")
        self._first_action = int(env.action_space.start)
        width = spaces.flatdim(env.observation_space)
        if not all(0 <= index < width for index in self.mask):
            raise UsageError(f"gym:{env_id}: mask {list(self.mask)} is outside 0 to {width - 1}")
        self._kept = [index for index in range(width) if index not in self.mask]
        limit = env.spec.max_episode_steps if env.spec else None
        self._define(horizon or limit or UNLIMITED, {"observation": len(self._kept)}, int(env.action_space.n))

    def __getstate__(self) -> dict[str, Any]:
        return {**{name: value for name, value in self.__dict__.items() if name != "_gymnasium"}, "_envs": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _gymnasium=_import_gymnasium())

    def _make(self) -> Any:
        try:
            return self._gymnasium.make(self.env_id, disable_env_checker=True, **self._env_args)
        except (self._gymnasium.error.Error, ModuleNotFoundError, TypeError) as error:
            message = " ".join(str(error).split())
            raise UsageError(f"gym:{self.env_id}: {message}") from error

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        self._begin(num_envs, generator)
        return self._show([self._reset_one(index) for index in range(num_envs)], [True] * num_envs)

    def _begin(self, num_envs: int, generator: torch.Generator) -> None:
        self.close()
        self._generator = generator
        for _ in range(num_envs):  # one by one, so that those made before one that fails can be closed
            self._envs.append(self._make())
        self._seeds = [0] * num_envs
        self._actions: list[list[int]] = [[] for _ in range(num_envs)]

    def close(self) -> None:
        """Close the environments of the batch."""
        while self._envs:
            self._envs.pop().close()

    def _reset_one(self, index: int, seed: int | None = None) -> Tensor:
        if seed is None:
            drawn = torch.randint(2**31 - 1, (1,), generator=self._generator, device=self._generator.device)
            seed = int(drawn)
        self._seeds[index], self._actions[index] = seed, []
        return self._flat(self._envs[index].reset(seed=seed)[0])

    def _flat(self, observation: Any) -> Tensor:
        flat = self._gymnasium.spaces.flatten(self._envs[0].observation_space, observation)
        return torch.as_tensor(flat, dtype=torch.float32)[self._kept]

    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment, one after the other."""
        following, finals, rewards, terminated, truncated = [], [], [], [], []
        for index, action in enumerate(actions_B.tolist()):
            observation, reward, over, cut, _ = self._envs[index].step(action + self._first_action)
            self._actions[index].append(action)
            final = self._flat(observation)
            finals.append(final)
            following.append(self._reset_one(index) if over or cut else final)
            rewards.append(float(reward))
            terminated.append(bool(over))
            truncated.append(bool(cut) and not over)
        is_first = [over or cut for over, cut in zip(terminated, truncated, strict=True)]
        return self._show(following, is_first, rewards, terminated, truncated, finals if any(truncated) else None)

    def _show(
        self,
        observations: list[Tensor],
        is_first: list[bool],
        rewards: list[float] | None = None,
        terminated: list[bool] | None = None,
        truncated: list[bool] | None = None,
        finals: list[Tensor] | None = None,
    ) -> TimeStep:
        device, no = self._generator.device, [False] * len(observations)
        return TimeStep(
            observation=torch.stack(observations).to(device),
            is_first=torch.tensor(is_first, device=device),
            reward=torch.tensor(rewards or [0.0] * len(no), device=device),
            terminated=torch.tensor(terminated or no, device=device),
            truncated=torch.tensor(truncated or no, device=device),
            final_observation=torch.stack(finals).to(device) if finals else None,
            scored=torch.tensor(no, device=device),
            correct=torch.tensor(no, device=device),
        )

    def anchors(self) -> Anchors:
        """Return NaN: nobody knows."""
        return Anchors(math.nan, math.nan, math.nan)

    def window_anchor(self, steps: int) -> float:
        """Return NaN: nobody knows."""
        return math.nan

    def bits_to_remember(self) -> float:
        """Return NaN: nobody knows."""
        return math.nan

    def steps_to_remember(self) -> int:
        """Return the horizon, the most there can be."""
        return self.horizon

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state, and the seeds and actions of the running episodes."""
        return {
            "generator": self._generator.get_state(),
            "seeds": torch.tensor(self._seeds),
            "actions": [torch.tensor(actions, dtype=torch.int64) for actions in self._actions],
        }

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Play the saved episodes up to where they were; ``generator`` is set to where it was."""
        generator.set_state(state["generator"])
        self._begin(len(state["seeds"]), generator)
        observations = []
        for index, (seed, actions) in enumerate(zip(state["seeds"].tolist(), state["actions"], strict=True)):
            observation = self._reset_one(index, seed)
            for action in actions.tolist():
                observation = self._flat(self._envs[index].step(action + self._first_action)[0])
                self._actions[index].append(action)
            observations.append(observation)
        return self._show(observations, [not actions for actions in self._actions])


def _import_gymnasium() -> Any:
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise UsageError("gym: tasks need Gymnasium; pip install 'memsuite[gym]'") from error
