"""The T-maze of the literature: a cue, a corridor that the agent walks, and a junction where the cue says the way."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from memsuite.errors import unknown
from memsuite.tasks.base import Anchors, check_at_least
from memsuite.tasks.parts import constant, integers
from memsuite.tasks.stepped import SteppedTask
from memsuite.types import TimeStep

RIGHT, UP, LEFT, DOWN = range(4)
CHOICES = {"variant": ("passive", "active"), "layout": ("ni", "bakker"), "corridor": ("walked", "carried")}
# Two channels as Ni et al. have them, and the three symbols of Bakker.
LAYOUTS = {"ni": {"junction": 1, "side": 1}, "bakker": {"up": 1, "corridor": 1, "down": 1}}
CORRIDOR, JUNCTION, CUE_UP, CUE_DOWN = (1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0)
STILL, BAKKER_REWARD = -0.1, 4.0  # of Bakker: a step that ends where it began or a wrong turn, and the right turn
FAR = 64  # steps after which random moves arrive less than once in 1e30 walks, and a carried corridor changes nothing
AWAY = 1  # cells from the start back to the oracle in the active variant, as in Ni et al.


class TMaze(SteppedTask):
    """Walk along a corridor to a junction, and turn to the side that a cue told (Bakker 2001, Ni et al. 2023).

    Passive: the cue is shown at the start, at the left end of the corridor. Active: the cue is at an oracle cell one
    step to the left of the start, so it must be fetched first. It is shown once, at the first visit. The episode has
    exactly the steps that the best policy needs, so an agent that wastes one never reaches its goal: the corridor has
    ``horizon - 1`` steps (passive) or ``horizon - 3`` (active). The side is drawn for each episode.
    Asked: to stand in the right arm at the end. One scored decision per episode.

    ``layout="ni"`` (arXiv 2307.03864): the observation is ``[at the junction or in an arm, side]``, where side is the
    cue (1 up, -1 down) or the arm the agent is in. The reward is 1 at the end in the right arm, and before that
    -1 / (length of the corridor) for every step after which the agent is behind a walk without a pause.
    ``layout="bakker"`` (Bakker 2001): three symbols, 011 and 110 for the cue, 101 in the corridor, 010 at the junction
    and in the arms. The reward is 4 in the right arm at the end, -0.1 in another place, and -0.1 for every earlier step
    that leaves the agent where it was. Bakker's episodes last until a turn; here they have ``horizon`` steps.

    Actions: right, up, left, down; a move into a wall has no effect.
    Chance: 1/2 without memory; almost nothing at random, except in a carried corridor.
    To remember: 1 bit, for ``horizon - 1`` steps (passive) or ``horizon - 2`` (active).

    Args:
        horizon: length of an episode in steps, at least 2 (passive) or 4 (active).
        variant: ``passive`` or ``active``.
        layout: ``ni`` or ``bakker``: what is observed and rewarded.
        corridor: ``walked`` as in both sources, or ``carried``: in the corridor, every action moves the agent to the
            right (not in the sources; what is left is memory alone). In the active variant the first two steps are
            free.
    """

    memory_types = ("object",)
    held = ("side", "x", "y", "told")
    _side: Tensor  # [B], 1 up or -1 down
    _x: Tensor  # [B], steps to the right of the cell with the cue
    _y: Tensor  # [B], -1, 0 or 1; other than 0 only in the arms
    _told: Tensor  # [B] bool, the cue has been shown

    def __init__(
        self, horizon: int = 50, variant: str = "passive", layout: str = "ni", corridor: str = "walked"
    ) -> None:
        for name, value in (("variant", variant), ("layout", layout), ("corridor", corridor)):
            if value not in CHOICES[name]:
                raise unknown(f"t_maze: {name}", value, CHOICES[name])
        self.away = AWAY if variant == "active" else 0
        check_at_least("t_maze", "horizon", horizon, 2 + 2 * self.away)
        self._define(horizon, LAYOUTS[layout], 4)
        self.variant, self.layout_name, self.corridor = variant, layout, corridor
        self.length = horizon - 1 - 2 * self.away
        # No observation before the junction depends on the actions in the passive variant; rewards do if one must walk.
        self.open_steps = horizon - 1 if variant == "passive" else 0
        self.passive_steps = self.open_steps if corridor == "carried" else 0

    def _draw(self) -> None:
        self._side = 2 * integers(2, (self._num_envs,), self._generator) - 1
        self._x, self._y = torch.full_like(self._side, self.away), torch.zeros_like(self._side)
        self._told, self._clock = torch.zeros_like(self._side, dtype=torch.bool), 0

    def step(self, actions_B: Tensor) -> TimeStep:
        """Move, and return the next step; the last one scores the arm the agent is in."""
        before, junction = (self._x, self._y), self.away + self.length
        self._told = self._told | (self._x == 0)
        self._x, self._y = self._moved(actions_B, junction)
        self._clock += 1
        ended = self._clock == self.horizon
        correct = (self._y == self._side) & (self._x == junction) & ended
        reward = self._reward(before, correct, ended)
        if ended:
            self._draw()
        return self._show(reward, correct, ended)

    def look_ahead(self, now: TimeStep, steps: int) -> Tensor:
        """Return the cue and the corridor after it, ``[steps, B, D]``."""
        shown = (0.0,) * self.observation_dim if self.layout_name == "ni" else CORRIDOR
        corridor = constant(shown, now.observation.device, torch.float32).expand(steps - 1, self._num_envs, -1)
        return torch.cat([now.observation.unsqueeze(0), corridor])

    def walk(self, actions_TB: Tensor) -> tuple[Tensor, TimeStep]:
        """Take several steps before the junction of a passive maze at once; the wall is at 0."""
        taken = (actions_TB == RIGHT).long() - (actions_TB == LEFT).long()
        if self.corridor == "carried":
            taken = torch.ones_like(taken)
        free = self._x + taken.cumsum(0)  # without the wall
        x = free - free.cummin(0).values.clamp(max=0)
        clock = self._clock + torch.arange(1, len(x) + 1, device=x.device).unsqueeze(1)
        before = torch.cat([self._x.unsqueeze(0), x[:-1]])
        rewards = -(x < clock).float() / self.length if self.layout_name == "ni" else STILL * (x == before).float()
        self._x, self._told, self._clock = x[-1], torch.ones_like(self._told), self._clock + len(x)
        return rewards, self._show(rewards[-1])

    def _moved(self, actions_B: Tensor, junction: int) -> tuple[Tensor, Tensor]:
        inside = (self._x < junction) & (self._y == 0)
        if self.corridor == "carried" and self._clock >= 2 * self.away:
            actions_B = torch.where(inside, RIGHT, actions_B)
        sideways = (actions_B == RIGHT).long() - (actions_B == LEFT).long()
        upwards = (actions_B == UP).long() - (actions_B == DOWN).long()
        x = torch.where(self._y == 0, self._x + sideways, self._x).clamp(0, junction)
        return x, torch.where(self._x == junction, self._y + upwards, self._y).clamp(-1, 1)

    def _reward(self, before: tuple[Tensor, Tensor], correct: Tensor, ended: bool) -> Tensor:
        if self.layout_name == "ni":
            behind = (self._x < self._clock - self.away) & (not ended)
            return correct.float() - behind.float() / self.length
        still = (self._x == before[0]) & (self._y == before[1]) & (not ended)
        missed = ~correct & ended
        return BAKKER_REWARD * correct.float() + STILL * (still | missed).float()

    def _show(self, reward: Tensor | None = None, correct: Tensor | None = None, ended: bool = False) -> TimeStep:
        no = torch.zeros_like(self._told)
        return TimeStep(
            observation=self._observe(),
            is_first=torch.full_like(no, self._clock == 0),
            reward=no.float() if reward is None else reward,
            terminated=torch.full_like(no, ended),
            truncated=no,
            final_observation=None,
            scored=torch.full_like(no, ended),
            correct=no if correct is None else correct,
        )

    def _observe(self) -> Tensor:
        cue, arrived = (self._x == 0) & ~self._told, self._x == self.away + self.length
        if self.layout_name == "ni":
            side = torch.where(cue, self._side, torch.where(arrived, self._y, 0))
            return torch.stack([arrived.float(), side.float()], 1)
        code = constant((CORRIDOR, JUNCTION, CUE_UP, CUE_DOWN), cue.device, torch.float32)
        return code[torch.where(cue, torch.where(self._side > 0, 2, 3), arrived.long())]

    def best_actions(self) -> Tensor:
        """Return the moves of a shortest way: to the oracle first where it must be asked, then to the goal."""
        turn = torch.where(self._side > 0, UP, DOWN)
        way = torch.where(self._x == self.away + self.length, turn, RIGHT)
        return torch.full_like(way, LEFT) if self._clock < self.away else way

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Walk; at the junction turn to the side of the cue if it is in the window, and to either side otherwise."""
        if step < self.horizon - 1:
            return torch.full(window_KBD.shape[1:2], LEFT if step < self.away else RIGHT, device=window_KBD.device)
        up = integers(2, (window_KBD.shape[1],), generator) > 0
        if len(window_KBD) >= self.horizon - self.away:
            cue = window_KBD[len(window_KBD) - self.horizon + self.away]
            up = cue[:, self.channel("side")][:, 0] > 0 if self.layout_name == "ni" else cue[:, 0] == 0
        return torch.where(up, UP, DOWN)

    def anchors(self) -> Anchors:
        """Return the success of a random walk, and of one that walks straight on and guesses."""
        random = chance_of_goal(min(self.horizon, FAR), self.variant, self.corridor)
        return Anchors(random=random, memoryless=0.5)

    def window_anchor(self, steps: int) -> float:
        """Return 1 if the window reaches back to the cue, otherwise the memoryless success."""
        return 1.0 if steps >= self.horizon - self.away else 0.5

    def bits_to_remember(self) -> float:
        """Return 1: one of two sides."""
        return 1.0

    def steps_to_remember(self) -> int:
        """Return the steps from the cue to the turn."""
        return self.horizon - 1 - self.away


@functools.cache
def chance_of_goal(horizon: int, variant: str, corridor: str) -> float:
    """Return the probability that random moves end in the right arm, from the distribution over cells at each step."""
    maze = TMaze(horizon, variant, corridor=corridor)
    junction = maze.away + maze.length
    cells = torch.arange(3 * (junction + 1))
    maze._x, maze._y = cells // 3, cells % 3 - 1
    chance = ((maze._x == maze.away) & (maze._y == 0)).double()
    for maze._clock in range(horizon):
        following = torch.zeros_like(chance)
        for action in range(maze.num_actions):
            x, y = maze._moved(torch.full_like(cells, action), junction)
            following.index_add_(0, 3 * x + y + 1, chance / maze.num_actions)
        chance = following
    return float(chance[maze._y != 0].sum()) / 2
