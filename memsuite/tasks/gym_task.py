"""Gymnasium environments in memsuite: any environment with discrete actions as a task."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from memsuite.blame import blamed_on, in_one_line, is_mistake
from memsuite.errors import Stopped, UsageError
from memsuite.imports import module_at
from memsuite.shipped import extra
from memsuite.tasks.base import Anchors, Task
from memsuite.tasks.gym_values import ENDS, NUMBER, check_ends, check_numbers, check_observation, check_spaces
from memsuite.types import TimeStep

log = logging.getLogger("memsuite")
UNLIMITED = 1000  # the horizon for the budget of an environment without a limit
LARGEST = 3.4e38  # largest reward, because rewards are float32
MASK = "action_mask"  # the key under which environments report the allowed actions


class GymTask(Task):
    """Run a Gymnasium environment as a task, for instance CartPole without its velocities: ``mask=[1, 3]``.

    Observations are flattened as ``gymnasium.spaces.flatten`` does; a discrete one becomes a one-hot. Actions must be
    discrete. No decision is scored: the reward is the measure. The anchors are unknown, NaN.

    If an environment marks the allowed actions with ``action_mask``, in its info or in a dict of observations, a
    forbidden action is replaced by the next allowed one, in the order of their numbers.

    Every episode is reset with a seed drawn from the task's generator. :meth:`state_dict` keeps the seeds and the
    actions of the running episodes, and loading plays them again. An environment that is determined by its seed and the
    actions continues with the same bits; any other continues with its own randomness.

    Args:
        env_id: a registered environment, or ``module:id`` to import a module first, from the current folder or
            Python's path (``popgym:popgym-RepeatPreviousEasy-v0``).
        horizon: largest number of steps of an episode; None takes the environment's own limit, which must then exist.
        mask: indices of the flattened observation to leave out, so that the agent has to remember or infer them.
        env_args: arguments of the environment.

    Raises:
        UsageError: the environment does not exist, cannot be made, or has spaces that are not supported.
        Stopped: from :meth:`reset` and :meth:`step`, for an exception or a wrong return value of the environment, in
            one line.

    Attributes:
        masked: whether the environment has reported allowed actions.
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
        self._allowed: list[Any] = []
        self.masked = False
        self.env_id, self.mask = env_id, tuple(mask)
        self._env_args = dict(env_args or {}) | ({"max_episode_steps": horizon} if horizon else {})
        env = self._make()
        self._close(env)
        spaces = self._gymnasium.spaces
        actions, seen = (cast(Any, getattr(env, name, None)) for name in ("action_space", "observation_space"))
        check_spaces(f"gym:{env_id}", spaces, actions, seen)
        self._first_action = int(actions.start)
        self._width = width = spaces.flatdim(seen)
        if not all(0 <= index < width for index in self.mask):
            raise UsageError(f"gym:{env_id}: mask {list(self.mask)} is outside 0 to {width - 1}")
        self._kept = [index for index in range(width) if index not in self.mask]
        if not self._kept:
            raise UsageError(f"gym:{env_id}: nothing is observed: {width} numbers, mask {list(self.mask)}")
        limit = horizon or (env.spec.max_episode_steps if env.spec else None)
        if not limit:
            raise UsageError(
                f"gym:{env_id} has no step limit: set the number of steps after which an episode is cut, for instance "
                f"--horizon {UNLIMITED}; the critic estimates the reward after the cut, and returns count up to the "
                "cut"
            )
        self._define(limit, {"observation": len(self._kept)}, int(actions.n))

    def __getstate__(self) -> dict[str, Any]:
        return {**{name: value for name, value in self.__dict__.items() if name != "_gymnasium"}, "_envs": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _gymnasium=_import_gymnasium())

    def _make(self) -> Any:
        with blamed_on(f"gym:{self.env_id}"):
            import_environment(self.env_id)
            return self._gymnasium.make(self.env_id.rpartition(":")[2], disable_env_checker=True, **self._env_args)

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        self._begin(num_envs, generator)
        return self._show([self._reset_one(index) for index in range(num_envs)], [True] * num_envs)

    def _begin(self, num_envs: int, generator: torch.Generator) -> None:
        self.close()
        self._generator = generator
        for _ in range(num_envs):  # one by one, so that the earlier ones can be closed if a later one fails
            self._envs.append(self._make())
        self._allowed = [None] * num_envs
        self._seeds = [0] * num_envs
        self._actions: list[list[int]] = [[] for _ in range(num_envs)]

    def close(self) -> None:
        """Close the environments of the batch."""
        while self._envs:
            self._close(self._envs.pop())

    def _close(self, env: Any) -> None:
        try:
            env.close()
        except Exception as error:  # a failed close loses nothing
            log.debug("gym:%s: close: %s", self.env_id, in_one_line(error))

    def _reset_one(self, index: int, seed: int | None = None) -> Tensor:
        if seed is None:
            drawn = torch.randint(2**31 - 1, (1,), generator=self._generator, device=self._generator.device)
            seed = int(drawn)
        self._seeds[index], self._actions[index] = seed, []
        with blamed_on(f"gym:{self.env_id}: reset", Stopped):
            found = self._envs[index].reset(seed=seed)
            if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
                raise TypeError("it must return an observation and a dict of info, as Gymnasium's API asks for")
            return self._seen(index, *found)

    def _step_one(self, index: int, action: int) -> tuple[Tensor, float, bool, bool]:
        """Take one step in one environment; return observation, reward, terminated and truncated."""
        allowed = self._allowed[index]
        if allowed is not None and not allowed[action]:
            around = [*range(action + 1, len(allowed)), *range(action)]
            action = next(one for one in around if allowed[one])
        self._actions[index].append(action)
        try:
            observation, reward, over, cut, info = self._envs[index].step(action + self._first_action)
            if not (isinstance(reward, NUMBER) and isinstance(over, NUMBER) and isinstance(cut, NUMBER)):
                check_numbers(reward=reward, terminated=over, truncated=cut)
            if over not in ENDS or cut not in ENDS:
                check_ends(terminated=over, truncated=cut)
            if not -LARGEST < reward < LARGEST:
                raise ValueError(f"its reward is {float(reward)}, which does not fit into a 32-bit number")
            return self._seen(index, observation, info, over), float(reward), bool(over), bool(cut) and not over
        except BaseException as error:  # no context manager, because this runs at every step of every environment
            if not is_mistake(error):
                raise
            old = isinstance(error, ValueError) and "unpack" in str(error)
            text = "it must return five values, as Gymnasium's API asks for" if old else in_one_line(error)
            where = f"step {len(self._actions[index])} of an episode"
            raise Stopped(f"gym:{self.env_id}: {where}: {text}") from error

    def _seen(self, index: int, observation: Any, info: dict[str, Any], last: Any = False) -> Tensor:
        """Return an observation as a row; store the actions that are allowed now.

        Args:
            index: index of the environment.
            observation: its observation.
            info: its info dict.
            last: whether the episode has ended, so that no action follows.
        """
        told = info.get(MASK)
        if told is None and isinstance(observation, dict):
            told = observation.get(MASK)
        self._allowed[index] = None if told is None or last else self._checked_mask(told)
        spaces, space = self._gymnasium.spaces, self._envs[index].observation_space
        check_observation(spaces, space, observation)
        flat = spaces.flatten(space, observation)
        if len(flat) != self._width:
            raise ValueError(f"an observation has {len(flat)} numbers; its space has {self._width}")
        return torch.as_tensor(flat, dtype=torch.float32)[self._kept]

    def _finite(self, rows: list[Tensor], used: list[bool]) -> Tensor:
        """Return observations as a batch ``[B, D]``; refuse values that are not finite in the rows that are used.

        Args:
            rows: one row per environment.
            used: whether the row is acted on or valued; the last observation of an episode may be anything.
        """
        found = torch.stack(rows)
        if not torch.isfinite(found).all():
            for row, needed, actions in zip(rows, used, self._actions, strict=True):
                if needed and not torch.isfinite(row).all():
                    where = f"step {len(actions)} of an episode"
                    raise Stopped(f"gym:{self.env_id}: {where}: an observation is not finite: {row.tolist()[:10]}")
            found = torch.nan_to_num(found)
        return found.to(self._generator.device)

    def _checked_mask(self, told: Any) -> list[bool]:
        allowed = torch.as_tensor(told).flatten().bool().tolist()
        if len(allowed) != self.num_actions or not any(allowed):
            raise ValueError(f"its {MASK} is {told!r}; of {self.num_actions} actions at least one must be allowed")
        self.masked = True
        return allowed

    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment, one environment after the other."""
        following, finals, rewards, terminated, truncated = [], [], [], [], []
        for index, action in enumerate(actions_B.tolist()):
            final, reward, over, cut = self._step_one(index, action)
            finals.append(final)
            following.append(self._reset_one(index) if over or cut else final)
            rewards.append(reward)
            terminated.append(over)
            truncated.append(cut)
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
            observation=self._finite(observations, [True] * len(no)),
            is_first=torch.tensor(is_first, device=device),
            reward=torch.tensor(rewards or [0.0] * len(no), device=device),
            terminated=torch.tensor(terminated or no, device=device),
            truncated=torch.tensor(truncated or no, device=device),
            final_observation=self._finite(finals, truncated or no) if finals else None,
            scored=torch.tensor(no, device=device),
            correct=torch.tensor(no, device=device),
        )

    def anchors(self) -> Anchors:
        """Return NaN: the anchors are unknown."""
        return Anchors(math.nan, math.nan, math.nan)

    def window_anchor(self, steps: int) -> float:
        """Return NaN: the success is unknown."""
        return math.nan

    def bits_to_remember(self) -> float:
        """Return NaN: the number of bits is unknown."""
        return math.nan

    def steps_to_remember(self) -> int:
        """Return the horizon, which is an upper bound."""
        return self.horizon

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state, and the seeds and actions of the running episodes."""
        return {
            "generator": self._generator.get_state(),
            "seeds": torch.tensor(self._seeds),
            "actions": [torch.tensor(actions, dtype=torch.int64) for actions in self._actions],
        }

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Replay the saved episodes up to their current steps; ``generator`` is restored to its saved state."""
        generator.set_state(state["generator"])
        self._begin(len(state["seeds"]), generator)
        observations = []
        for index, (seed, actions) in enumerate(zip(state["seeds"].tolist(), state["actions"], strict=True)):
            observation = self._reset_one(index, seed)
            for action in actions.tolist():
                observation = self._step_one(index, action)[0]
            observations.append(observation)
        return self._show(observations, [not actions for actions in self._actions])


def import_environment(env_id: str) -> None:
    """Import the module that registers an environment, if the id names one: ``module:id``."""
    module = env_id.rpartition(":")[0]
    if module:
        module_at(module)


def limit_of(env_id: str) -> int | None:
    """Return the step limit of an environment, as it was registered; None if it has no limit."""
    gymnasium = _import_gymnasium()
    with blamed_on(f"gym:{env_id}"):
        import_environment(env_id)
        limit: int | None = gymnasium.spec(env_id.rpartition(":")[2]).max_episode_steps
    return limit


def _import_gymnasium() -> Any:
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise UsageError(f"gym: tasks need Gymnasium; {extra('gym')}") from error
