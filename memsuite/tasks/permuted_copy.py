"""Permuted copy: see a string of symbols, wait, give the symbol at each queried position."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import (
    add_noise_,
    blank,
    check_delay,
    distinct,
    integers,
    mean_over_jitter,
    shorten_delay,
    show_,
    token_at,
)
from memsuite.types import Script

PLACE_BITS = 6


class PermutedCopy(ScriptedTask):
    """Random access to a remembered string (copy memory with addresses, after Graves et al. 2014).

    Shown: ``seq_len`` random symbols out of 8, one per step, then blanks (all zeros), then ``seq_len`` queries, each
    with the code of a position in the string: every position once, in random order.
    Asked: at each query, the symbol at that position.

    Observation ``[symbols + 7]``: the symbol's one-hot, the position in binary (6 bits, lowest first, as +1 and
    -1), the query flag. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``seq_len * log2(symbols)`` bits for up to ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``2 * seq_len``; the remaining steps are the blank delay.
        seq_len: length of the string, at most 64.
        symbols: size of the alphabet, the same at every difficulty.
        jitter: the queries come 0 to this many steps earlier, at random; blanks follow them.
        noise: probability that a step of the delay shows a random symbol that does not count.
    """

    memory_types = ("sequential", "capacity")

    def __init__(
        self, horizon: int = 200, seq_len: int = 15, symbols: int = 8, jitter: int = 0, noise: float = 0.0
    ) -> None:
        if not 1 <= seq_len <= 2**PLACE_BITS:
            raise UsageError(f"permuted_copy: seq_len {seq_len} is outside 1 to {2**PLACE_BITS}")
        check_at_least("permuted_copy", "symbols", symbols, 2)
        check_at_least("permuted_copy", "horizon", horizon, 2 * seq_len)
        check_delay("permuted_copy", horizon - 2 * seq_len, jitter, noise)
        self._define(horizon, {"symbol": symbols, "place bit": PLACE_BITS, "query": 1}, symbols)
        self.seq_len, self.symbols, self.jitter, self.noise = seq_len, symbols, jitter, noise

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        string = integers(self.symbols, (self.seq_len, num_envs), generator)
        places = distinct(self.seq_len, self.seq_len, num_envs, generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, generator.device)
        show_(observations[: self.seq_len, :, : self.symbols], string)
        bits = places.unsqueeze(-1) >> torch.arange(PLACE_BITS, device=places.device) & 1
        observations[-self.seq_len :, :, self.channel("place bit")] = 2.0 * bits - 1.0
        observations[-self.seq_len :, :, -1] = 1.0
        targets[-self.seq_len :] = string.gather(0, places)
        scored[-self.seq_len :] = True
        add_noise_(observations[self.seq_len : -self.seq_len], self.symbols, self.noise, generator)
        return shorten_delay(Script(observations, targets, scored), self.seq_len, self.jitter, generator)

    def shown_at(self, script: Script) -> Tensor:
        """Return the asked position in the string, which was shown from the first step on."""
        return self._place(script.observations)

    def _place(self, observations: Tensor) -> Tensor:
        weights = 2 ** torch.arange(PLACE_BITS, device=observations.device)
        return ((observations[..., self.channel("place bit")] > 0) * weights).sum(-1)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Read the queried position, and name its symbol if it is in the window."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        row = self._place(window_KBD[-1]) - (step - len(window_KBD) + 1)
        # At a step without a query the code is not a position, so guess.
        return token_at(window_KBD[:, :, : self.symbols], torch.where(row < len(window_KBD), row, -1), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return the mean success: 1 for each queried position inside the window, chance for the others."""

        def success(horizon: int) -> float:
            firsts = range(horizon - self.seq_len - steps + 1, horizon - steps + 1)
            seen = sum(min(max(0, self.seq_len - first), self.seq_len) for first in firsts) / self.seq_len**2
            return seen + (1 - seen) / self.symbols

        return mean_over_jitter(success, self.horizon, self.jitter)

    def bits_to_remember(self) -> float:
        """Return ``seq_len * log2(symbols)``."""
        return self.seq_len * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, for a first symbol that is asked for last."""
        return self.horizon - 1
