"""Gymnasium environments in memsuite: any environment with actions of numbers as a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from memsuite.blame import blamed_on
from memsuite.errors import Stopped, UsageError
from memsuite.tasks.base import Anchors, Task
from memsuite.tasks.environments.share import (
    Recipe,
    Share,
    close_environment,
    import_environment,
    import_gymnasium,
    make_environment,
)
from memsuite.tasks.environments.spaces import action_space_of, chosen_parts
from memsuite.tasks.environments.values import check_observations
from memsuite.tasks.environments.view import Options, View, check_kinds
from memsuite.tasks.environments.workers import Workers
from memsuite.types import TimeStep

UNLIMITED = 1000  # the horizon for the budget of an environment without a limit


class GymTask(Task):
    """Run a Gymnasium environment as a task, for instance CartPole without its velocities: ``mask=[1, 3]``.

    Observations are flattened as ``gymnasium.spaces.flatten`` does; a discrete one becomes a one-hot. Images keep their
    place in the flattened observation, and the network reads them by a convolution. Actions may be Discrete,
    MultiDiscrete, MultiBinary or a Box of real numbers, which is given the action clipped to its bounds. No decision is
    scored: the reward is the measure. The anchors are unknown, NaN.

    If an environment with Discrete actions marks the allowed ones with ``action_mask``, in its info or in a dict of
    observations, a forbidden action is replaced by the next allowed one, in the order of their numbers.

    Every episode is reset with a seed drawn from the task's generator. :meth:`state_dict` keeps the seeds and the
    actions of the running episodes, and loading plays them again. An environment that is determined by its seed and the
    actions continues with the same bits; any other continues with its own randomness, and where the episode that is
    played again has ended, with a new one.

    Args:
        env_id: a registered environment, or ``module:id`` to import a module first, from the current folder or
            Python's path (``popgym:popgym-RepeatPreviousEasy-v0``).
        horizon: largest number of steps of an episode; None takes the environment's own limit, which must then exist.
        mask: indices of the flattened observation to leave out, so that the agent has to remember or infer them.
        env_args: arguments of the environment.
        previous_action: append the action just taken to the observation: one-hot, or as numbers if it is continuous;
            zeros at the first step of an episode.
        previous_reward: append the reward just received to the observation; 0 at the first step of an episode.
        truncation: what the step limit does to an episode: ``bootstrap`` cuts it, and the critic estimates what would
            have followed; ``terminal`` ends it, as published results of POPGym do.
        keys: the parts of a Dict of observations to read, for instance ``[image, direction]``; none for all of them.
        image: how an array of three dimensions is read: by a ``convolution``, or ``flatten``; None takes convolution
            for images of at least 16 x 16 pixels. Images of bytes are scaled to [0, 1] for a convolution.
        workers: number of processes that step the environments; 0 steps them in this process. The numbers are the same.

    Raises:
        UsageError: the environment does not exist, cannot be made, or has spaces that are not supported.
        Stopped: from :meth:`reset` and :meth:`step`, for an exception or a wrong return value of the environment, in
            one line.

    Attributes:
        masked: whether the environment has reported allowed actions.
        flattened: whether the observation has an image that is flattened.
    """

    def __init__(
        self,
        env_id: str,
        horizon: int | None = None,
        mask: Sequence[int] = (),
        env_args: dict[str, Any] | None = None,
        previous_action: bool = False,
        previous_reward: bool = False,
        truncation: str = "bootstrap",
        image: str | None = None,
        workers: int = 0,
        keys: Sequence[str] = (),
    ) -> None:
        spaces, who = import_gymnasium().spaces, f"gym:{env_id}"
        check_kinds(who, {"mask": mask, "keys": keys}, env_args, horizon)
        self._batch: Share | Workers | None = None
        self.masked, self.env_id, self.mask = False, env_id, tuple(mask)
        self._options = Options(self.mask, previous_action, previous_reward, truncation, image, workers)
        self._options.check(who)
        arguments = dict(env_args or {}) | ({"max_episode_steps": horizon} if horizon else {})
        env = make_environment(env_id, arguments)
        close_environment(env_id, env)
        taken, seen = (cast(Any, getattr(env, name, None)) for name in ("action_space", "observation_space"))
        actions = action_space_of(who, spaces, taken)
        seen = chosen_parts(who, spaces, seen, tuple(keys))
        check_observations(who, spaces, seen)
        self._recipe = Recipe(env_id, arguments, actions, spaces.flatdim(seen), tuple(keys))
        self._view = View(who, spaces, seen, self._options, actions)
        self.images, self.flattened = self._view.images, self._view.flattened
        limit = horizon or (env.spec.max_episode_steps if env.spec else None)
        if not limit:
            raise UsageError(
                f"{who} has no step limit: set the number of steps after which an episode is cut, for instance "
                f"--horizon {UNLIMITED}; the critic estimates the reward after the cut, and returns count up to the "
                "cut"
            )
        self._define(limit, self._view.layout, actions)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_batch": None}

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        batch = self._begin(num_envs, generator)
        rows = batch.reset({index: self._begin_one(index) for index in range(num_envs)})
        self.masked = self.masked or batch.masked
        return self._show(self._view.numbers([rows[index] for index in range(num_envs)]), [True] * num_envs)

    def _begin(self, num_envs: int, generator: torch.Generator) -> Share | Workers:
        self.close()
        self._generator = generator
        if self._options.workers:
            self._batch = Workers(self._recipe, num_envs, self._options.workers, generator.initial_seed())
        else:
            self._batch = Share(self._recipe, num_envs)
        self._seeds = [0] * num_envs
        self._taken: list[list[Any]] = [[] for _ in range(num_envs)]
        return self._batch

    def close(self) -> None:
        """Close the environments of the batch, and end the processes that step them."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.close()

    def _begin_one(self, index: int) -> int:
        """Draw and return the seed of the next episode of an environment."""
        drawn = torch.randint(2**31 - 1, (1,), generator=self._generator, device=self._generator.device)
        self._seeds[index], self._taken[index] = int(drawn), []
        return self._seeds[index]

    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment; an episode that ends is followed by the next one."""
        assert self._batch is not None
        steps = self._batch.step(actions_B.tolist())
        ends = self._options.truncation == "terminal"
        cut = [one.cut and not ends for one in steps]
        terminated = [one.over or (one.cut and ends) for one in steps]
        is_first = [over or short for over, short in zip(terminated, cut, strict=True)]
        for taken, one in zip(self._taken, steps, strict=True):
            taken.append(one.taken)
        rewards, actions = [one.reward for one in steps], [one.taken for one in steps]
        last = (
            self._view.complete(self._view.numbers([one.row for one in steps]), actions, rewards) if any(cut) else None
        )
        finals = None if last is None else self._finite(last, cut)
        begun = self._batch.reset({index: self._begin_one(index) for index, ended in enumerate(is_first) if ended})
        self.masked = self.masked or self._batch.masked
        rows = [begun.get(index, one.row) for index, one in enumerate(steps)]
        numbers = self._view.numbers(rows)
        return self._show(numbers, is_first, actions, rewards, terminated, cut, finals)

    def _show(
        self,
        rows: Tensor,
        is_first: list[bool],
        actions: list[Any] | None = None,
        rewards: list[float] | None = None,
        terminated: list[bool] | None = None,
        truncated: list[bool] | None = None,
        finals: Tensor | None = None,
    ) -> TimeStep:
        """Return a step; ``actions`` and ``rewards`` are those that led to it, and are not shown at a first step."""
        device, no = self._generator.device, [False] * len(rows)
        first, rewards = torch.tensor(is_first), rewards or [0.0] * len(rows)
        rows = self._view.complete(rows, actions, rewards, first)
        return TimeStep(
            observation=self._finite(rows, [True] * len(no)),
            is_first=first.to(device),
            reward=torch.tensor(rewards, device=device),
            terminated=torch.tensor(terminated or no, device=device),
            truncated=torch.tensor(truncated or no, device=device),
            final_observation=finals,
            scored=torch.tensor(no, device=device),
            correct=torch.tensor(no, device=device),
        )

    def _finite(self, rows: Tensor, used: list[bool]) -> Tensor:
        """Return observations ``[B, D]`` on the run's device; refuse values that are not finite in rows that are used.

        Args:
            rows: one row per environment.
            used: whether the row is acted on or valued; the last observation of an episode may be anything.
        """
        if not torch.isfinite(rows).all():
            for row, needed, taken in zip(rows, used, self._taken, strict=True):
                if needed and not torch.isfinite(row).all():
                    where = f"step {len(taken)} of an episode"
                    raise Stopped(f"gym:{self.env_id}: {where}: an observation is not finite: {row.tolist()[:10]}")
            rows = torch.nan_to_num(rows)
        return rows.to(self._generator.device)

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
            "actions": [torch.tensor(taken, dtype=self.action_space.dtype) for taken in self._taken],
        }

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Replay the saved episodes up to their current steps; ``generator`` is restored to its saved state."""
        generator.set_state(state["generator"])
        batch = self._begin(len(state["seeds"]), generator)
        self._seeds, self._taken = state["seeds"].tolist(), [actions.tolist() for actions in state["actions"]]
        steps = batch.replay(self._seeds, self._taken)
        ended = [index for index, one in enumerate(steps) if one.over or one.cut]
        begun = batch.reset({index: self._begin_one(index) for index in ended})
        self.masked = self.masked or batch.masked
        nothing = torch.zeros(self.action_space.shape, dtype=self.action_space.dtype).tolist()
        actions = [taken[-1] if taken else nothing for taken in self._taken]
        rows = self._view.numbers([begun.get(index, one.row) for index, one in enumerate(steps)])
        rewards = [one.reward for one in steps]
        shown = self._show(rows, [not taken for taken in self._taken], actions, rewards)
        return replace(shown, reward=torch.zeros_like(shown.reward))


def limit_of(env_id: str) -> int | None:
    """Return the step limit of an environment, as it was registered; None if it has no limit."""
    with blamed_on(f"gym:{env_id}"):
        import_environment(env_id)
        limit: int | None = import_gymnasium().spec(env_id.rpartition(":")[2]).max_episode_steps
    return limit
