"""Rewrite: a cue that is replaced again and again, a wait, a query, and the same once more without a reset."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, integers, latest, newest
from memsuite.tasks.second.parts import chance_below, some_in_order
from memsuite.types import Script

SHARE = (
    5  # the cues come in the first fifth of a round, so the last one is still more than a quarter of an episode away
)


class Rewrite(ScriptedTask):
    """Name the newest cue, many times in one episode (Endless T-Maze, Cherepanov et al. 2026, arXiv 2601.15086).

    An episode is ``rounds`` rounds of ``horizon // rounds`` steps. In each, ``cues`` cues are shown at random steps of
    the first fifth, the first of them at once; each differs from the one before. Then blanks, and at the last step of
    the round a query flag.
    Asked: at each query the newest cue. A memory that adds up what it sees, or that keeps the first cue, is wrong.

    Observation ``[symbols + 1]``: the cue's one-hot, the query flag. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``log2(symbols)`` bits for up to ``horizon // rounds - cues`` steps, and nothing of what came before.

    Args:
        horizon: length of an episode in steps, at least ``rounds * (cues + 1)``; what the rounds leave comes first.
        cues: number of cues in a round.
        rounds: number of rounds. With more than 3, a window of a quarter of the episode contains whole rounds.
        symbols: number of different cues, the same at every difficulty.
    """

    memory_types = ("object", "sequential")

    def __init__(self, horizon: int = 200, cues: int = 3, rounds: int = 3, symbols: int = 8) -> None:
        check_at_least("rewrite", "cues", cues, 1)
        check_at_least("rewrite", "rounds", rounds, 1)
        check_at_least("rewrite", "symbols", symbols, 2)
        check_at_least("rewrite", "horizon", horizon, rounds * (cues + 1))
        self._define(horizon, {"cue": symbols, "query": 1}, symbols)
        self.cues, self.rounds, self.symbols = cues, rounds, symbols
        self.length = horizon // rounds
        self.shown = max(cues, self.length // SHARE)  # steps of a round in which cues come

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count, device = self.rounds * num_envs, generator.device
        steps = torch.zeros(self.cues, count, dtype=torch.int64, device=device)
        steps[1:] = 1 + some_in_order(self.cues - 1, self.shown - 1, count, generator)
        changes = 1 + integers(self.symbols - 1, (self.cues, count), generator)
        changes[0] = integers(self.symbols, (count,), generator)
        cues = (changes.cumsum(0) % self.symbols).view(self.cues, self.rounds, num_envs)
        first = self.horizon - self.rounds * self.length
        begins = torch.arange(first, self.horizon, self.length, device=device)
        steps = (steps.view(self.cues, self.rounds, num_envs) + begins.view(1, -1, 1)).flatten(0, 1)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        observations[steps, torch.arange(num_envs, device=device), cues.flatten(0, 1)] = 1.0
        queries = begins + self.length - 1
        observations[queries, :, -1] = 1.0
        targets[queries] = cues[-1]
        scored[queries] = True
        return Script(observations, targets, scored)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the newest cue."""
        return latest(script.observations[:, :, : self.symbols].any(-1))

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the newest cue in the window; guess if there is none."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        return newest(window_KBD[:, :, : self.symbols], guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return the probability that the newest cue is in the window, plus the success of guessing otherwise."""
        first = self.length - steps
        if first <= 0:
            return 1.0
        lost = chance_below(self.cues - 2, self.cues - 1, self.shown - 1, first - 1) if self.cues > 1 else 1.0
        return 1 - lost * (1 - 1 / self.symbols)

    def bits_to_remember(self) -> float:
        """Return ``log2(symbols)``."""
        return math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``horizon // rounds - 1``, a round; the newest of several cues is nearer by ``cues - 1`` steps."""
        return self.length - 1
