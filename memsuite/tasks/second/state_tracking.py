"""State tracking: elements of a group are shown one by one, and what they make together is asked at random steps."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from memsuite.errors import UsageError, unknown
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, constant, integers
from memsuite.tasks.second.parts import some_of
from memsuite.types import Script

GROUPS = ("parity", "z5", "s3", "s5")


class StateTracking(ScriptedTask):
    """Compose the elements of a group (Grazzi et al. 2025, arXiv 2411.12537; the word problem of Barrington 1989).

    Shown: an element of the group as a one-hot, at the first step and at ``moves - 1`` random ones, blanks between.
    Each multiplies the state from the left; the state begins as the identity.
    Asked: the state, at the last step and at ``questions - 1`` random ones, with the query flag.

    Which models can do it is known: ``parity`` (two elements) needs a recurrence whose eigenvalues may be negative or
    recurrent weights, ``s3`` (the permutations of three things) is the smallest group whose order of factors matters,
    and ``s5`` needs a depth that grows with the number of moves unless the recurrence is not diagonal. Short products
    are trained on, too, because the first questions come early.

    Observation ``[elements + 1]``: the element's one-hot, the query flag. Actions: the elements.
    Chance: ``1 / elements`` at random and without memory: whoever misses one uniform factor knows nothing.
    To remember: ``log2(elements)`` bits for ``horizon - 1`` steps, changed at every move.

    Args:
        horizon: length of an episode in steps, at least ``moves + questions``.
        moves: number of elements to compose.
        group: ``parity``, ``z5`` (sums modulo 5), ``s3`` or ``s5`` (permutations of 3 and of 5 things); decides the
            sizes of observations and actions.
        questions: number of questions in an episode.
    """

    memory_types = ("sequential",)

    def __init__(self, horizon: int = 200, moves: int = 12, group: str = "s3", questions: int = 8) -> None:
        if group not in GROUPS:
            raise unknown("state_tracking: group", group, GROUPS)
        check_at_least("state_tracking", "moves", moves, 1)
        if questions < 1:
            raise UsageError(f"state_tracking: questions {questions} is too few; the least is 1")
        check_at_least("state_tracking", "horizon", horizon, moves + questions)
        self.group, self.elements = group, len(table_of(group))
        self._define(horizon, {"element": self.elements, "query": 1}, self.elements)
        self.moves, self.questions = moves, questions

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        moved, device = integers(self.elements, (self.moves, num_envs), generator), generator.device
        steps = 1 + some_of(self.moves + self.questions - 2, self.horizon - 2, num_envs, generator)
        first, last = torch.zeros_like(steps[:1]), torch.full_like(moved[:1], self.horizon - 1)
        at = torch.cat([first.new_zeros(1, num_envs), steps[: self.moves - 1].sort(0).values])
        asked = torch.cat([steps[self.moves - 1 :], last])
        states, table = [moved[0]], constant(table_of(self.group), device)
        for element in moved[1:]:
            states.append(table[element, states[-1]])
        before = (at.unsqueeze(1) < asked.unsqueeze(0)).sum(0) - 1  # [Q, B], the last move before each question
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        env = torch.arange(num_envs, device=device)
        observations[at, env, moved] = 1.0
        observations[asked, env, -1] = 1.0
        targets.scatter_(0, asked, torch.stack(states).gather(0, before))
        return Script(observations, targets, scored.scatter_(0, asked, True))

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Multiply all moves if the window reaches back to the first; otherwise guess."""
        guess = integers(self.elements, (window_KBD.shape[1],), generator)
        if len(window_KBD) <= step:
            return guess
        asked = window_KBD[-1, :, -1] > 0  # only few environments are asked at one step
        table, elements = constant(table_of(self.group), guess.device), window_KBD[:, asked, : self.elements]
        shown, element = elements.any(-1), elements.argmax(-1)
        state = element[0]
        for at in shown[1:].any(1).nonzero().flatten().tolist():
            state = torch.where(shown[at + 1], table[element[at + 1], state], state)
        guess[asked] = state
        return guess

    def anchors(self) -> Anchors:
        """Return the chance level over the elements."""
        return Anchors(random=1 / self.elements, memoryless=1 / self.elements)

    def window_anchor(self, steps: int) -> float:
        """Return the share of the questions that come while the first move is in the window, plus guesses."""
        early = min(max(0, steps - 1), self.horizon - 2) / max(1, self.horizon - 2)
        seen = ((self.questions - 1) * early + (steps >= self.horizon)) / self.questions
        return seen + (1 - seen) / self.elements

    def bits_to_remember(self) -> float:
        """Return ``log2(elements)``."""
        return math.log2(self.elements)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first move to the last question."""
        return self.horizon - 1


@functools.cache
def table_of(group: str) -> tuple[tuple[int, ...], ...]:
    """Return the multiplication table of a group: ``[a][b]`` is the element ``a b``, and element 0 is the identity."""
    if group in ("parity", "z5"):
        size = 2 if group == "parity" else 5
        return tuple(tuple((a + b) % size for b in range(size)) for a in range(size))
    permutations = list(itertools.permutations(range(int(group[1:]))))
    number = {permutation: index for index, permutation in enumerate(permutations)}
    return tuple(tuple(number[tuple(a[i] for i in b)] for b in permutations) for a in permutations)
