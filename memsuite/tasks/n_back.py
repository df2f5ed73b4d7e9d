"""n-back: symbols keep coming; at each symbol, name the symbol that came n symbols before."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, integers, show_, token_at
from memsuite.types import Script


class NBack(ScriptedTask):
    """Keep the last n symbols, updated at each new one (Kirchner 1958; RepeatPrevious in Morad et al. 2023).

    Shown: a random symbol out of 8 every ``gap`` steps from the first step on, with blanks (all zeros) between, as in
    the experiment with people, where a pause follows each symbol.
    Asked: at every symbol from the ``n``-th on, the symbol that came ``n`` symbols before.

    Observation ``[symbols]``: the symbol's one-hot. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``n * log2(symbols)`` bits, each for ``n * gap`` steps.

    With a symbol at every step (``gap=1``) the task needs n steps of memory however long the episode is. The default
    spreads n symbols over a third of the episode, so that the difficulty comes from the horizon.

    Args:
        horizon: length of an episode in steps, at least ``n + 1`` and ``n * gap + 1``.
        n: how many symbols back.
        symbols: size of the alphabet, the same at every difficulty.
        gap: steps from one symbol to the next; 0 takes ``horizon // (3 * n)``, at least 1.
    """

    memory_types = ("sequential",)

    def __init__(self, horizon: int = 300, n: int = 3, symbols: int = 8, gap: int = 0) -> None:
        check_at_least("n_back", "n", n, 1)
        check_at_least("n_back", "symbols", symbols, 2)
        if gap < 0:
            raise UsageError(f"n_back: gap {gap} is negative; 0 derives it from the horizon")
        check_at_least("n_back", "horizon", horizon, n * max(1, gap) + 1)
        self._define(horizon, {"symbol": symbols}, symbols)
        self.n, self.symbols, self.gap = n, symbols, gap or max(1, horizon // (3 * n))

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count = (self.horizon - 1) // self.gap + 1
        shown = integers(self.symbols, (count, num_envs), generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.symbols, generator.device)
        show_(observations[:: self.gap], shown)
        targets[self.n * self.gap :: self.gap] = shown[: -self.n]
        scored[self.n * self.gap :: self.gap] = True
        return Script(observations, targets, scored)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step ``n * gap`` steps before."""
        steps = torch.arange(self.horizon, device=script.targets.device) - self.n * self.gap
        return steps.unsqueeze(1).expand_as(script.targets)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Look ``n * gap`` steps back, or guess."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        return token_at(window_KBD, torch.full_like(guess, len(window_KBD) - 1 - self.n * self.gap), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return 1 if the window spans n symbols, otherwise chance."""
        return 1.0 if steps > self.n * self.gap else 1 / self.symbols

    def bits_to_remember(self) -> float:
        """Return ``n * log2(symbols)``."""
        return self.n * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``n * gap``."""
        return self.n * self.gap
