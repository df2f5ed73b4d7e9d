"""Small Gymnasium environments of every kind of action and observation, whose steps can be told from what they show."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

PICTURE = (20, 24, 3)
ACTIONS = {
    "discrete": spaces.Discrete(3, start=2),
    "several": spaces.MultiDiscrete([3, 2, 4]),
    "table": spaces.MultiDiscrete([[2, 3], [4, 2]]),
    "shifted": spaces.MultiDiscrete([3, 2], start=[5, -1]),
    "bits": spaces.MultiBinary(4),
    "box": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32)),
    "square": spaces.Box(-2, 2, (2, 2), np.float64),
    "unbounded": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    "pair": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
    "named": spaces.Dict({"a": spaces.Discrete(2)}),
    "words": spaces.Text(4),
    "graph": spaces.Graph(spaces.Discrete(2), None),
    "endless": spaces.Sequence(spaces.Discrete(2)),
    "whole box": spaces.Box(0, 5, (2,), np.int64),
}
SEEN = {
    "box": spaces.Box(-9, 99, (2,), np.float32),
    "picture": spaces.Box(0, 255, PICTURE, np.uint8),
    "planes": spaces.Box(-1, 1, (3, 20, 24), np.float64),
    "small": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "dict": spaces.Dict(
        {"eye": spaces.Box(0, 255, PICTURE, np.uint8), "body": spaces.Box(-9, 99, (2,)), "z": spaces.Discrete(3)}
    ),
    "tuple": spaces.Tuple([spaces.Discrete(4), spaces.MultiBinary(3), spaces.Box(0, 1, (2,))]),
    "bits": spaces.MultiBinary([2, 2]),
}


class World(gymnasium.Env):
    """Draws numbers from its own generator; the observation, the reward and the end depend on them and on the actions.

    Args:
        actions: key of ``ACTIONS``.
        seen: key of ``SEEN``.
        fault: what goes wrong at the third step: ``raise``, ``exit`` or ``nan``; or ``mask`` for a mask of actions, or
            ``busy`` for steps of 3 ms of CPU time.
        length: steps after which it ends by itself.
    """

    def __init__(self, actions="discrete", seen="box", fault="", length=7, render_mode=None):
        self.action_space, self.observation_space = ACTIONS[actions], SEEN[seen]
        self.seen, self.fault, self.length = seen, fault, length
        self.taken: list[Any] = []

    def _observation(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        if self.seen == "box":
            number = np.nan if self.fault == "nan" and self.clock == 3 else self.np_random.random()
            return np.array([self.clock, number], np.float32)
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.taken = 0, []
        return self._observation(), {"action_mask": [1, 1, 0]} if self.fault == "mask" else {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        self.clock += 1
        self.taken.append(action)
        begin = time.process_time()
        while self.fault == "busy" and time.process_time() < begin + 0.003:
            pass
        if self.fault == "raise" and self.clock == 3:
            raise RuntimeError("the world is flat")
        if self.fault == "exit" and self.clock == 3:
            os._exit(3)
        reward = float(np.sum(np.asarray(action, np.float64))) + float(self.np_random.random())
        return self._observation(), reward, self.clock == self.length and self.np_random.random() < 0.6, False, {}


class Recall(gymnasium.Env):
    """A number in [-1, 1] is shown at the first step, then blanks; the last action must be that number."""

    def __init__(self, blanks=6, render_mode=None):
        self.blanks = blanks
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)

    def _observation(self) -> Any:
        shown = self.number if self.clock == 0 else 0.0
        return np.array([shown, self.clock == 0, self.clock == self.blanks], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.number = 0, float(self.np_random.uniform(-1, 1))
        return self._observation(), {}

    def step(self, action):
        over = self.clock == self.blanks
        reward = -abs(float(action[0]) - self.number) if over else 0.0
        self.clock += 1
        return self._observation(), reward, over, False, {}


class Glimpse(gymnasium.Env):
    """A bright square somewhere in a picture at the first step, then noise; the last action is its quarter."""

    def __init__(self, blanks=4, render_mode=None):
        self.blanks = blanks
        self.action_space, self.observation_space = spaces.Discrete(4), spaces.Box(0, 255, (24, 24, 1), np.uint8)

    def _observation(self) -> Any:
        picture = self.np_random.integers(0, 60, (24, 24, 1), dtype=np.uint8)
        if self.clock == 0:
            down, across = divmod(self.quarter, 2)
            at = self.np_random.integers(0, 8, 2) + np.array([12 * down, 12 * across])
            picture[at[0] : at[0] + 4, at[1] : at[1] + 4] = 250
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.quarter = 0, int(self.np_random.integers(4))
        return self._observation(), {}

    def step(self, action):
        over = self.clock == self.blanks
        reward = float(over and int(action) == self.quarter)
        self.clock += 1
        return self._observation(), reward, over, False, {}


for name, world in {"World-v0": World, "Recall-v0": Recall, "Glimpse-v0": Glimpse}.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=world, max_episode_steps=9)
