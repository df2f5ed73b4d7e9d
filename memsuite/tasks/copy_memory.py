"""Copy memory: see a string of symbols, wait, reproduce it in the same order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import (
    add_noise_,
    blank,
    check_delay,
    integers,
    mean_over_jitter,
    shorten_delay,
    show_,
    token_at,
)
from memsuite.types import Script


class CopyMemory(ScriptedTask):
    """Repeat a string after a blank delay (Hochreiter & Schmidhuber 1997; the layout is Arjovsky et al. 2016's).

    Shown: ``seq_len`` random symbols out of 8, one per step, then blanks (all zeros), then a go flag, then ``seq_len``
    blanks.
    Asked: at each of the last ``seq_len`` steps, the symbol shown ``horizon - seq_len`` steps before.

    Observation ``[symbols + 1]``: the symbol's one-hot, then the go flag. Actions: ``symbols``. Unlike the original
    there is no action for a blank, because only the answers are scored.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``seq_len * log2(symbols)`` bits for ``horizon - seq_len`` steps.

    Args:
        horizon: length of an episode in steps, at least ``2 * seq_len + 1``; the remaining steps are the blank delay.
        seq_len: length of the string.
        symbols: size of the alphabet, the same at every difficulty.
        jitter: the go flag comes 0 to this many steps earlier, at random; blanks follow the answers.
        noise: probability that a step of the delay shows a random symbol that does not count.
    """

    memory_types = ("sequential", "capacity")

    def __init__(
        self, horizon: int = 200, seq_len: int = 20, symbols: int = 8, jitter: int = 0, noise: float = 0.0
    ) -> None:
        check_at_least("copy_memory", "seq_len", seq_len, 1)
        check_at_least("copy_memory", "symbols", symbols, 2)
        check_at_least("copy_memory", "horizon", horizon, 2 * seq_len + 1)
        check_delay("copy_memory", horizon - 2 * seq_len - 1, jitter, noise)
        self._define(horizon, {"symbol": symbols, "go": 1}, symbols)
        self.seq_len, self.symbols, self.jitter, self.noise = seq_len, symbols, jitter, noise

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        string = integers(self.symbols, (self.seq_len, num_envs), generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, generator.device)
        show_(observations[: self.seq_len], string)
        observations[-self.seq_len - 1, :, -1] = 1.0
        targets[-self.seq_len :] = string
        scored[-self.seq_len :] = True
        add_noise_(observations[self.seq_len : -self.seq_len - 1], self.symbols, self.noise, generator)
        return shorten_delay(Script(observations, targets, scored), self.seq_len, self.jitter, generator)

    def shown_at(self, script: Script) -> Tensor:
        """Return the position in the string, which was shown from the first step on."""
        return script.scored.cumsum(0) - 1

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Count the steps since the go flag, and name the symbol of that position if it is in the window."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        go = window_KBD[:, :, -1]
        first = step - len(go) + 1  # the number of the window's first step
        place = len(go) - 2 - go.argmax(0)
        row = torch.where(go.any(0), place - first, -1)
        return token_at(window_KBD[:, :, : self.symbols], row, guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return 1 when the window spans the constant gap between a symbol and its answer, else chance."""
        gap, chance = self.seq_len - 1, 1 / self.symbols
        return mean_over_jitter(lambda horizon: 1.0 if steps >= horizon - gap else chance, self.horizon, self.jitter)

    def bits_to_remember(self) -> float:
        """Return ``seq_len * log2(symbols)``."""
        return self.seq_len * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``horizon - seq_len``, the same for every symbol."""
        return self.horizon - self.seq_len
