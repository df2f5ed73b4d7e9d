"""Distractor navigation: learn which of several places is the goal, be held in place, then walk there."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, check_at_least
from memsuite.tasks.parts import constant, distinct, integers, largest_share, show_
from memsuite.tasks.stepped import SteppedTask
from memsuite.types import TimeStep

SIDE = 3
CENTRE = SIDE * SIDE // 2
PLACES = SIDE * SIDE - 1  # every cell except the centre, where the walk starts
TAGS = 24
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # stay, up, down, left, right as (row, column)


class DistractorNav(SteppedTask):
    """Remember where to go, then go (the T-maze of Bakker 2001 with eight arms; the fakes after Hung et al. 2019).

    Shown: at the first step a context cue, one of ``num_distractors + 1`` tags. Then every tag once, in random order,
    each with a place of a 3 x 3 grid: the place that comes with the context's tag is the goal, the others are fakes.
    Places are drawn independently, so the number of times that a place is shown reveals little. Then blanks. In the
    last ``budget`` steps a go flag, and the agent can move. The agent's position is always shown.
    Asked: to stand on the goal when the budget is spent. One scored decision per episode, reward 1 if right.

    The agent is held at the centre until the go flag, so that its position cannot store the goal. It is never told
    whether it has arrived, so that it cannot search.

    Observation ``[37]``: the tag's one-hot (24), the place's row and column (3 and 3), the agent's row and column (3
    and 3), the go flag. Actions: stay, up, down, left, right; a move into the wall has no effect.
    Chance: 1/8 without memory, by walking to any one place; at random somewhat less (:meth:`anchors`). A policy that
    knows all places but not which one is the goal walks to the place shown most often: ``anchors().unbound``.
    To remember: ``log2(8)`` bits for up to ``horizon - 1`` steps.

    Args:
        horizon: length of an episode, at least ``num_distractors + 2 + budget`` steps; the remaining ones are the
            delay.
        num_distractors: number of fakes, at most 23.
        budget: number of steps for the walk, at least 2, which suffice to reach any place.
    """

    memory_types = ("object", "spatial")
    held = ("tags", "places", "goal", "agent")
    _tags: Tensor  # [P, B], the context's tag first, then those of the places in the order shown
    _places: Tensor  # [P - 1, B], indices of cells
    _goal: Tensor  # [B], index of a cell
    _agent: Tensor  # [B], index of a cell

    def __init__(self, horizon: int = 200, num_distractors: int = 5, budget: int = 4) -> None:
        if not 0 <= num_distractors < TAGS:
            raise UsageError(f"distractor_nav: num_distractors {num_distractors} is outside 0 to {TAGS - 1}")
        check_at_least("distractor_nav", "budget", budget, SIDE - 1)
        check_at_least("distractor_nav", "horizon", horizon, num_distractors + 2 + budget)
        layout = {
            "tag": TAGS,
            "place row": SIDE,
            "place column": SIDE,
            "agent row": SIDE,
            "agent column": SIDE,
            "go": 1,
        }
        self._define(horizon, layout, len(MOVES))
        self.num_distractors, self.budget = num_distractors, budget
        self.passive_steps = horizon - budget

    def _draw(self) -> None:
        count, num_envs = self.num_distractors + 1, self._num_envs
        tags = distinct(count, count, num_envs, self._generator)
        places = integers(PLACES, (count, num_envs), self._generator)
        true = integers(count, (1, num_envs), self._generator)
        self._tags = torch.cat([tags.gather(0, true), tags])
        self._places = places + (places >= CENTRE)
        self._goal = self._places.gather(0, true)[0]
        self._agent = torch.full_like(self._goal, CENTRE)
        self._clock = 0

    def step(self, actions_B: Tensor) -> TimeStep:
        """Move the agent if the go flag is up, and return the next step; at the end score the position."""
        if self._clock >= self.horizon - self.budget:
            self._agent = move(self._agent, actions_B)
        self._clock += 1
        if self._clock < self.horizon:
            return self._show()
        arrived = self._agent == self._goal
        self._draw()
        return self._show(arrived)

    def _show(self, arrived: Tensor | None = None) -> TimeStep:
        device = self._goal.device
        no = torch.zeros(self._num_envs, dtype=torch.bool, device=device)
        ended = torch.full_like(no, arrived is not None)
        correct = no if arrived is None else arrived
        return TimeStep(
            observation=self._observe(),
            is_first=torch.full_like(no, self._clock == 0),
            reward=correct.float(),
            terminated=ended,
            truncated=no,
            final_observation=None,
            scored=ended,
            correct=correct,
        )

    def best_actions(self) -> Tensor:
        """Return the actions of a shortest path to the goal."""
        return walk(self._agent, self._goal)

    def _observe(self) -> Tensor:
        observation = torch.zeros(self._num_envs, self.observation_dim, device=self._goal.device)
        if self._clock < len(self._tags):
            show_(observation[:, self.channel("tag")], self._tags[self._clock])
        if 0 < self._clock < len(self._tags):
            place = self._places[self._clock - 1]
            show_(observation[:, self.channel("place row")], place // SIDE)
            show_(observation[:, self.channel("place column")], place % SIDE)
        show_(observation[:, self.channel("agent row")], self._agent // SIDE)
        show_(observation[:, self.channel("agent column")], self._agent % SIDE)
        observation[:, -1] = float(self._clock >= self.horizon - self.budget)
        return observation

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Walk to the goal if the context and its place are in the window, else to the place shown most often in it."""
        now, first = window_KBD[-1], step - len(window_KBD) + 1
        goal = torch.zeros(len(now), dtype=torch.int64, device=now.device)  # without a memory all cells are equal
        shown = window_KBD[max(0, 1 - first) : max(0, self.num_distractors + 2 - first)]  # the places in the window
        if len(shown):
            places = self._cell(shown, "place")
            goal = one_hot(places, SIDE * SIDE).sum(0).argmax(-1)
            if first == 0:
                tag = self.channel("tag")
                match = (shown[:, :, tag] == window_KBD[0, :, tag]).all(-1)
                goal = places.gather(0, match.int().argmax(0, keepdim=True))[0]
        return walk(self._cell(now, "agent"), goal)

    def _cell(self, observations: Tensor, name: str) -> Tensor:
        row, column = observations[..., self.channel(f"{name} row")], observations[..., self.channel(f"{name} column")]
        return row.argmax(-1) * SIDE + column.argmax(-1)

    def anchors(self) -> Anchors:
        """Return the success of a random walk, of a fixed place, and of the place shown most often."""
        return Anchors(
            random=(1 - chance_of_return(self.budget)) / PLACES,
            memoryless=1 / PLACES,
            unbound=largest_share(self.num_distractors + 1, PLACES),
        )

    def window_anchor(self, steps: int) -> float:
        """Return the success from the places in the window when the walk begins: all, some or none.

        The value is exact for windows that contain everything throughout the walk, or nothing of the presentation when
        it begins. For windows in between, which lose the presentation during the walk, it is an upper bound.
        """
        first = self.horizon - self.budget - steps + 1
        if first <= 0:
            return 1.0
        count = self.num_distractors + 1
        seen = max(0, count + 1 - first)
        shares = seen * largest_share(seen, PLACES) if seen else 0.0
        return (shares + (count - seen) / PLACES) / count

    def bits_to_remember(self) -> float:
        """Return ``log2(8)``: one of eight places."""
        return math.log2(PLACES)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the context cue to the decision."""
        return self.horizon - 1


def move(agent_B: Tensor, actions_B: Tensor) -> Tensor:
    """Return the cells after one move, ``[B]``; the grid's edge is a wall."""
    moves = constant(MOVES, agent_B.device)[actions_B]
    row = (agent_B // SIDE + moves[:, 0]).clamp(0, SIDE - 1)
    column = (agent_B % SIDE + moves[:, 1]).clamp(0, SIDE - 1)
    return row * SIDE + column


def walk(agent_B: Tensor, goal_B: Tensor) -> Tensor:
    """Return the actions ``[B]`` of a shortest path: rows first, then columns, then stay."""
    rows, columns = goal_B // SIDE - agent_B // SIDE, goal_B % SIDE - agent_B % SIDE
    sideways = torch.where(columns < 0, 3, 4).where(columns != 0, 0)
    return torch.where(rows < 0, 1, 2).where(rows != 0, sideways)


def chance_of_return(steps: int) -> float:
    """Return the probability that a random walk from the centre is at the centre after ``steps`` steps."""
    cells = torch.arange(SIDE * SIDE)
    chance = (cells == CENTRE).double()
    for _ in range(steps):
        following = torch.zeros_like(chance)
        for action in range(len(MOVES)):
            following.index_add_(0, move(cells, torch.full_like(cells, action)), chance / len(MOVES))
        chance = following
    return float(chance[CENTRE])
