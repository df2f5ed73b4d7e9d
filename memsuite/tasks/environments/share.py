"""Some environments of a batch, made and stepped one after another in one process."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from memsuite.blame import blamed_on, in_one_line, is_mistake
from memsuite.errors import Stopped, UsageError
from memsuite.imports import module_at
from memsuite.shipped import extra
from memsuite.tasks.actions import ActionSpace, Discrete
from memsuite.tasks.environments.spaces import as_given, chosen_parts
from memsuite.tasks.environments.values import ENDS, NUMBER, check_ends, check_numbers, check_observation

log = logging.getLogger("memsuite")
LARGEST = 3.4e38  # largest reward, because rewards are float32
MASK = "action_mask"  # the key under which environments report the allowed actions

Row = NDArray[Any]


class Step(NamedTuple):
    """One step of one environment.

    Attributes:
        row: the observation after it, flattened: uint8 as it is, everything else float32.
        reward: its reward.
        over: the episode has terminated.
        cut: the episode was truncated, and has not terminated.
        taken: the action that was taken.
    """

    row: Row
    reward: float
    over: bool
    cut: bool
    taken: Any


@dataclass(frozen=True)
class Recipe:
    """What a process needs to make and read an environment.

    Attributes:
        env_id: a registered environment, or ``module:id``.
        arguments: its arguments.
        actions: what its actions are.
        width: numbers of an observation.
        keys: the parts of a Dict of observations that are read; none for all.
    """

    env_id: str
    arguments: dict[str, Any]
    actions: ActionSpace
    width: int
    keys: tuple[str, ...] = ()

    def make(self, spec: Any = None) -> Any:
        """Make one environment; from ``spec``, Gymnasium's record of it, if that is given."""
        return make_environment(self.env_id, self.arguments, spec)


class Share:
    """Environments with the numbers from 0 on, stepped one after another.

    Args:
        recipe: how they are made.
        count: number of environments.
        spec: Gymnasium's record of the environment; None for the one in the registry of this process.

    Attributes:
        masked: whether an environment has reported allowed actions.
    """

    def __init__(self, recipe: Recipe, count: int, spec: Any = None) -> None:
        self._recipe, self._spaces = recipe, import_gymnasium().spaces
        self._discrete = isinstance(recipe.actions, Discrete)
        self._envs: list[Any] = []
        self._parts: list[Any] = []  # the space of what is read of each
        self._allowed: list[list[bool] | None] = [None] * count
        self._clock = [0] * count
        self.masked = False
        try:
            for _ in range(count):  # one by one, so that the earlier ones can be closed if a later one fails
                self._envs.append(env := recipe.make(spec))
                who, seen = f"gym:{recipe.env_id}", env.observation_space
                self._parts.append(chosen_parts(who, self._spaces, seen, recipe.keys))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the environments."""
        while self._envs:
            close_environment(self._recipe.env_id, self._envs.pop())

    def reset(self, seeds: Mapping[int, int]) -> dict[int, Row]:
        """Begin an episode in the environments that have a seed; return their observations."""
        return {index: self._reset(index, seed) for index, seed in seeds.items()}

    def step(self, actions: list[Any]) -> list[Step]:
        """Take one step in every environment."""
        return [self._step(index, action) for index, action in enumerate(actions)]

    def replay(self, seeds: list[int], actions: list[list[Any]]) -> list[Step]:
        """Begin an episode in every environment and take the given actions; return the last step of each.

        The actions are of an episode that went on. One that ends all the same, because its environment is not
        determined by the seed, is not stepped any further.
        """
        found = []
        for index, (seed, each) in enumerate(zip(seeds, actions, strict=True)):
            last = Step(self._reset(index, seed), 0.0, False, False, None)
            for action in each:
                if last.over or last.cut:
                    break
                last = self._step(index, action)
            found.append(last)
        return found

    def _reset(self, index: int, seed: int) -> Row:
        self._clock[index] = 0
        with blamed_on(f"gym:{self._recipe.env_id}: reset", Stopped):
            found = self._envs[index].reset(seed=seed)
            if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
                raise TypeError("it must return an observation and a dict of info, as Gymnasium's API asks for")
            return self._seen(index, *found)

    def _step(self, index: int, action: Any) -> Step:
        allowed = self._allowed[index]
        if allowed is not None and not allowed[action]:
            around = [*range(action + 1, len(allowed)), *range(action)]
            action = next(one for one in around if allowed[one])
        self._clock[index] += 1
        env = self._envs[index]
        try:
            observation, reward, over, cut, info = env.step(as_given(self._spaces, env.action_space, action))
            if not (isinstance(reward, NUMBER) and isinstance(over, NUMBER) and isinstance(cut, NUMBER)):
                check_numbers(reward=reward, terminated=over, truncated=cut)
            if over not in ENDS or cut not in ENDS:
                check_ends(terminated=over, truncated=cut)
            if not -LARGEST < reward < LARGEST:
                raise ValueError(f"its reward is {float(reward)}, which does not fit into a 32-bit number")
            row = self._seen(index, observation, info, over)
            return Step(row, float(reward), bool(over), bool(cut) and not over, action)
        except BaseException as error:  # no context manager, because this runs at every step of every environment
            if not is_mistake(error):
                raise
            old = isinstance(error, ValueError) and "unpack" in str(error)
            text = "it must return five values, as Gymnasium's API asks for" if old else in_one_line(error)
            where = f"step {self._clock[index]} of an episode"
            raise Stopped(f"gym:{self._recipe.env_id}: {where}: {text}") from error

    def _seen(self, index: int, observation: Any, info: dict[str, Any], last: Any = False) -> Row:
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
        space = self._parts[index]
        check_observation(self._spaces, space, observation)
        flat = self._spaces.flatten(space, observation)
        if len(flat) != self._recipe.width:
            raise ValueError(f"an observation has {len(flat)} numbers; its space has {self._recipe.width}")
        if isinstance(flat, np.ndarray) and flat.dtype == np.uint8:
            return flat
        return torch.as_tensor(flat, dtype=torch.float32).numpy()

    def _checked_mask(self, told: Any) -> list[bool]:
        actions = self._recipe.actions
        if not isinstance(actions, Discrete):
            raise ValueError(
                f"its {MASK} is supported for Discrete actions only, and its actions are {type(actions).__name__}: "
                "leave the mask out in a wrapper, or list the actions to choose among as Discrete"
            )
        allowed: list[bool] = torch.as_tensor(told).flatten().bool().tolist()
        if len(allowed) != actions.n or not any(allowed):
            raise ValueError(f"its {MASK} is {told!r}; of {actions.n} actions at least one must be allowed")
        self.masked = True
        return allowed


def make_environment(env_id: str, arguments: Mapping[str, Any], spec: Any = None) -> Any:
    """Make a Gymnasium environment, without Gymnasium's own checks; a mistake of it is one line."""
    with blamed_on(f"gym:{env_id}"):
        import_environment(env_id)
        name = env_id.rpartition(":")[2] if spec is None else spec
        return import_gymnasium().make(name, disable_env_checker=True, **arguments)


def close_environment(env_id: str, env: Any) -> None:
    """Close an environment; a failed close loses nothing."""
    try:
        env.close()
    except Exception as error:
        log.debug("gym:%s: close: %s", env_id, in_one_line(error))


def import_environment(env_id: str) -> None:
    """Import the module that registers an environment, if the id names one: ``module:id``."""
    module = env_id.rpartition(":")[0]
    if module:
        module_at(module)


def import_gymnasium() -> Any:
    """Import Gymnasium; a usage error that says how to install it if it is not there."""
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise UsageError(f"gym: tasks need Gymnasium; {extra('gym')}") from error
