"""Growing list: each round adds one symbol, and the whole list is recited from its beginning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, constant, integers, show_, token_at
from memsuite.types import Script


class GrowingList(ScriptedTask):
    """Recite a list that grows by one each round, as in "I packed my bag" (Pleines et al. 2023).

    Shown: in round i (from 1) a random symbol, then ``wait`` blanks, then i steps with a go flag. What the agent
    recites is not shown. The rounds follow each other without a reset; what they leave of the horizon comes first.
    Asked: at the j-th go flag of a round, the j-th symbol of the list. Success is the share of right symbols over all
    rounds; a memory that holds only the last m symbols has ``s = m (2 length - m + 1) / (length (length + 1))`` of
    them, and guesses the rest: half a list is about three quarters of the success. In the source (Memory Gym, arXiv
    2309.17207) an episode ends at the first mistake and the score is the length of the list by then.

    Observation ``[symbols + 1]``: the symbol's one-hot, the go flag. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``length * log2(symbols)`` bits, the first of them for nearly the whole episode.

    Args:
        horizon: length of an episode in steps, at least ``2 * length + length * (length + 1) / 2``.
        length: number of rounds, and of symbols in the end.
        symbols: size of the alphabet, the same at every difficulty.
    """

    memory_types = ("sequential", "capacity")

    def __init__(self, horizon: int = 200, length: int = 8, symbols: int = 8) -> None:
        check_at_least("growing_list", "length", length, 1)
        check_at_least("growing_list", "symbols", symbols, 2)
        recited = length * (length + 1) // 2
        check_at_least("growing_list", "horizon", horizon, 2 * length + recited)
        self._define(horizon, {"symbol": symbols, "go": 1}, symbols)
        self.length, self.symbols = length, symbols
        self.wait = (horizon - length - recited) // length
        begin = horizon - recited - length * (1 + self.wait)
        self._begins = [begin + index * (1 + self.wait) + index * (index + 1) // 2 for index in range(length)]
        # For every decision: its step, and which symbol of the list it asks for.
        self._asked = [
            (self._begins[last] + 1 + self.wait + index, index) for last in range(length) for index in range(last + 1)
        ]

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        device = generator.device
        symbols = integers(self.symbols, (self.length, num_envs), generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        shown = torch.zeros(self.length, num_envs, self.observation_dim, device=device)
        show_(shown, symbols)
        observations.index_copy_(0, constant(tuple(self._begins), device), shown)
        steps, indices = (constant(column, device) for column in zip(*self._asked, strict=True))
        observations[:, :, -1].index_fill_(0, steps, 1.0)
        targets.index_copy_(0, steps, symbols.index_select(0, indices))
        scored.index_fill_(0, steps, True)
        return Script(observations, targets, scored)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step at which the asked symbol joined the list."""
        steps = torch.zeros_like(script.targets)
        for step, index in self._asked:
            steps[step] = self._begins[index]
        return steps

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the asked symbol if it is in the window; otherwise guess."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        first = step - len(window_KBD) + 1
        row = self._begins[dict(self._asked).get(step, 0)] - first
        return token_at(window_KBD[:, :, : self.symbols], torch.full_like(guess, row), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return the share of the decisions whose symbol is in the window, plus guesses for the others."""
        seen = sum(step - self._begins[index] < steps for step, index in self._asked) / len(self._asked)
        return seen + (1 - seen) / self.symbols

    def bits_to_remember(self) -> float:
        """Return ``length * log2(symbols)``."""
        return self.length * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return the steps from the first symbol to its last recital."""
        return self._asked[-self.length][0] - self._begins[0]
