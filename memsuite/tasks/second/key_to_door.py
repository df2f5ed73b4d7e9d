"""Key to door: an act in the first steps is rewarded in the last one, with other rewards in between."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, check_at_least
from memsuite.tasks.parts import integers, show_
from memsuite.tasks.second.parts import some_of
from memsuite.tasks.stepped import SteppedTask
from memsuite.types import TimeStep

KEY_STEPS = 3  # steps at which the key lies there
APPLE = 0.2  # the reward of an apple; a door's is 1


class KeyToDoor(SteppedTask):
    """Credit an early act with a late reward (Hung et al. 2019; Ni et al. 2023, arXiv 2307.03864).

    Shown: in the first three steps a key of a random colour. Then ``num_apples`` apples, one step each, at random
    steps, blanks between. At the last step a door.
    Asked: to pick the key up at one of its steps, and at the door to name its colour. Whoever did not pick it up
    cannot open the door; nothing shows whether the key was picked up, and the key is shown on. Eating an apple at
    its step is rewarded at once, by 0.2, which says nothing about the key. One scored decision per episode, the door's.

    In the sources the agent walks to the key and to the door, and every key fits. Here nothing is left but the credit,
    and a colour, without which no memory would be needed: all observations are independent of the actions.

    Observation ``[colours + 2]``: the key's colour, the apple, the door. Actions: ``colours`` ways to open the door, to
    pick up, to eat; one without effect does nothing.
    Chance: without memory ``1 / colours`` (pick up, and guess the colour); at random ``1 / (colours + 2)`` of the
    probability of picking up.
    To remember: ``log2(colours)`` bits for ``horizon - 3`` steps, from the last step of the key to the door.

    Args:
        horizon: length of an episode in steps, at least ``num_apples + 4``.
        num_apples: number of apples.
        colours: number of colours, the same at every difficulty.
    """

    memory_types = ("object",)
    held = ("colour", "apples", "picked")
    _colour: Tensor  # [B]
    _apples: Tensor  # [num_apples, B], the steps at which they can be eaten
    _picked: Tensor  # [B] bool

    def __init__(self, horizon: int = 200, num_apples: int = 5, colours: int = 8) -> None:
        check_at_least("key_to_door", "num_apples", num_apples, 0)
        check_at_least("key_to_door", "colours", colours, 2)
        check_at_least("key_to_door", "horizon", horizon, num_apples + KEY_STEPS + 1)
        self._define(horizon, {"key": colours, "apple": 1, "door": 1}, colours + 2)
        self.num_apples, self.colours = num_apples, colours
        self.pick, self.eat = colours, colours + 1
        self.open_steps = horizon - 1

    def _draw(self) -> None:
        self._colour = integers(self.colours, (self._num_envs,), self._generator)
        between = self.horizon - KEY_STEPS - 1
        self._apples = KEY_STEPS + some_of(self.num_apples, between, self._num_envs, self._generator)
        self._picked = torch.zeros_like(self._colour, dtype=torch.bool)
        self._clock = 0

    def step(self, actions_B: Tensor) -> TimeStep:
        """Pick up, eat or open, and return the next step; the last one scores the door."""
        reward, self._picked = self._taken(actions_B.unsqueeze(0))
        self._clock += 1
        if self._clock < self.horizon:
            return self._show(reward[0])
        opened = self._picked & (actions_B == self._colour)
        self._draw()
        return self._show(opened.float(), opened)

    def walk(self, actions_TB: Tensor) -> tuple[Tensor, TimeStep]:
        """Take several of the steps before the door at once."""
        rewards, self._picked = self._taken(actions_TB)
        self._clock += len(actions_TB)
        return rewards, self._show(rewards[-1])

    def _taken(self, actions_TB: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rewards of the next actions ``[T, B]``, and whether the key is picked up after them ``[B]``."""
        eaten = (actions_TB == self.eat) & self._apple_at(self._clock, len(actions_TB))
        picked = (actions_TB[: max(0, KEY_STEPS - self._clock)] == self.pick).any(0)
        return APPLE * eaten.float(), self._picked | picked

    def _apple_at(self, step: int, count: int) -> Tensor:
        """Return where apples are in ``count`` steps from one on, bool ``[count, B]``."""
        found = torch.zeros(count + 1, self._num_envs, dtype=torch.bool, device=self._colour.device)
        at = self._apples - step
        at = torch.where((at >= 0) & (at < count), at, count)  # what lies outside goes into a row that is left out
        return found.scatter_(0, at, True)[:count]

    def look_ahead(self, now: TimeStep, steps: int) -> Tensor:
        """Return the observations of the next steps, ``[steps, B, D]``."""
        return self._shown(self._clock, steps).to(now.observation)

    def _show(self, reward: Tensor | None = None, opened: Tensor | None = None) -> TimeStep:
        no = torch.zeros_like(self._picked)
        ended = torch.full_like(no, opened is not None)
        return TimeStep(
            observation=self._observe(),
            is_first=torch.full_like(no, self._clock == 0),
            reward=no.float() if reward is None else reward,
            terminated=ended,
            truncated=no,
            final_observation=None,
            scored=ended,
            correct=no if opened is None else opened,
        )

    def _observe(self) -> Tensor:
        return self._shown(self._clock, 1)[0]

    def _shown(self, step: int, count: int) -> Tensor:
        observations = torch.zeros(count, self._num_envs, self.observation_dim, device=self._colour.device)
        shown = observations[: max(0, KEY_STEPS - step), :, : self.colours]
        show_(shown, self._colour.expand(len(shown), -1))
        observations[:, :, self.colours] = self._apple_at(step, count).float()
        if step + count == self.horizon:
            observations[-1, :, -1] = 1.0
        return observations

    def best_actions(self) -> Tensor:
        """Return: pick up the key, eat apples, open the door by the key's colour; eat also where there is nothing."""
        if self._clock == self.horizon - 1:
            return self._colour
        return torch.full_like(self._colour, self.pick if self._clock < KEY_STEPS else self.eat)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Pick up and eat; at the door name the key's colour if it is in the window, and any other otherwise."""
        guess = integers(self.colours, (window_KBD.shape[1],), generator)
        if step < self.horizon - 1:
            return torch.full_like(guess, self.pick if step < KEY_STEPS else self.eat)
        key = window_KBD[: max(0, KEY_STEPS - step + len(window_KBD) - 1), :, : self.colours].sum(0)
        return torch.where(key.any(-1), key.argmax(-1), guess)

    def anchors(self) -> Anchors:
        """Return the success of random actions, and of picking up and guessing."""
        actions = self.colours + 2
        return Anchors(random=(1 - (1 - 1 / actions) ** KEY_STEPS) / actions, memoryless=1 / self.colours)

    def window_anchor(self, steps: int) -> float:
        """Return 1 if the window at the door reaches back to the key, otherwise the memoryless success."""
        return 1.0 if self.horizon - steps < KEY_STEPS else 1 / self.colours

    def bits_to_remember(self) -> float:
        """Return ``log2(colours)``."""
        return math.log2(self.colours)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first step to the door, as credit needs; the key is two steps nearer."""
        return self.horizon - 1
