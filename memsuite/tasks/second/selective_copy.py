"""Selective copy: marked symbols at irregular steps among noise, then the marked ones in order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import check_delay, integers, matched, nth, stream_between, uniform_numbers
from memsuite.tasks.second.parts import chance_below, some_in_order
from memsuite.types import Script


class SelectiveCopy(ScriptedTask):
    """Copy what is marked and nothing else (Gu & Dao 2023; the noisy and fuzzy variants as in MAD, arXiv 2403.17844).

    Shown: ``seq_len`` symbols with a mark, at random steps of the first half. At any other step before the answers an
    unmarked symbol with probability ``noise``, else a blank. In the last ``seq_len`` steps a go flag.
    Asked: at the i-th go flag, the i-th marked symbol. The distance between a symbol and its answer is different for
    every symbol and episode, so that a fixed delay cannot do it, as it can in ``copy_memory``.

    Observation ``[symbols + 2]``: the symbol's one-hot, the mark, the go flag. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``seq_len * log2(symbols)`` bits for up to ``horizon - seq_len`` steps.

    Args:
        horizon: length of an episode in steps, at least ``2 * seq_len``, or ``2 * seq_len * (fuzzy + 1)`` if fuzzy.
        seq_len: number of marked symbols.
        symbols: size of the alphabet, the same at every difficulty.
        noise: probability of an unmarked symbol at a step without a marked one.
        fuzzy: a marked symbol stays for 1 to this many steps, at random, and counts once; with more than 1, at least
            one unmarked step follows it.
    """

    memory_types = ("object", "sequential", "capacity")

    def __init__(
        self, horizon: int = 200, seq_len: int = 12, symbols: int = 8, noise: float = 0.3, fuzzy: int = 1
    ) -> None:
        check_at_least("selective_copy", "seq_len", seq_len, 1)
        check_at_least("selective_copy", "symbols", symbols, 2)
        check_at_least("selective_copy", "fuzzy", fuzzy, 1)
        self.slot = 1 if fuzzy == 1 else fuzzy + 1
        check_at_least("selective_copy", "horizon", horizon, 2 * seq_len * self.slot)
        check_delay("selective_copy", horizon, 0, noise)
        self._define(horizon, {"symbol": symbols, "mark": 1, "go": 1}, symbols)
        self.seq_len, self.symbols, self.noise, self.fuzzy = seq_len, symbols, noise, fuzzy
        self.room = horizon // 2 - seq_len * (self.slot - 1)  # steps among which the marked ones are drawn

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count, device = self.seq_len, generator.device
        copied = integers(self.symbols, (count, num_envs), generator)
        gaps = (self.slot - 1) * torch.arange(count, device=device).unsqueeze(1)
        steps = gaps + some_in_order(count, self.room, num_envs, generator)
        lengths = 1 + integers(self.fuzzy, (count, num_envs), generator)
        stream = self._noise(num_envs, generator)
        for offset in range(self.fuzzy):
            here = (steps + offset).clamp(max=len(stream) - 1)
            shown = torch.where(offset < lengths, self.symbols + 1 + copied, stream.gather(0, here))
            stream.scatter_(0, here, shown)
        width = self.observation_dim
        table = torch.zeros(2 * self.symbols + 1, width, device=device)  # unmarked, blank, marked
        table[: self.symbols, : self.symbols] = table[self.symbols + 1 :, : self.symbols] = torch.eye(
            self.symbols, device=device
        )
        table[self.symbols + 1 :, self.symbols] = 1.0
        observations = stream_between(stream, table, 0, count)
        observations[-count:, :, -1] = 1.0
        targets = torch.zeros(self.horizon, num_envs, dtype=torch.int64, device=device)
        targets[-count:] = copied
        scored = torch.zeros_like(targets, dtype=torch.bool)
        scored[-count:] = True
        return Script(observations, targets, scored)

    def _noise(self, num_envs: int, generator: torch.Generator) -> Tensor:
        """Draw what is shown where nothing is marked, ``[horizon - seq_len, B]``: a symbol, or ``symbols`` for none."""
        shape = (self.horizon - self.seq_len, num_envs)
        if not self.noise:
            return torch.full(shape, self.symbols, device=generator.device)
        # One draw decides both: below the number of symbols it is the symbol, else a blank.
        drawn = uniform_numbers(shape, generator) * (self.symbols / self.noise)
        return drawn.clamp_(max=self.symbols).long()

    def shown_at(self, script: Script) -> Tensor:
        """Return the first step of the asked symbol."""
        return nth(self._begins(script.observations), script.scored.cumsum(0) - 1)

    def _begins(self, observations: Tensor) -> Tensor:
        """Return where a marked symbol begins, bool ``[T, B]``; one that is cut off by the first row begins there."""
        marked = observations[:, :, self.symbols] > 0
        begins = marked.clone()
        if self.fuzzy > 1:
            begins[1:] &= ~marked[:-1]
        return begins

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the asked symbol, counted from the last one, if it is in the window."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        begins = self._begins(window_KBD)
        asked = begins.sum(0) - (self.horizon - step)  # counted from the first one in the window
        hit = begins & (begins.cumsum(0) - 1 == asked)
        return matched(hit, window_KBD[:, :, : self.symbols].argmax(-1), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return the mean probability that the asked symbol is still in the window, plus guesses otherwise."""
        lost = []
        for index in range(self.seq_len):
            first = self.horizon - self.seq_len + index - steps + 1 - index * (self.slot - 1)
            lost += [chance_below(index, self.seq_len, self.room, first - more) for more in range(self.fuzzy)]
        seen = 1 - math.fsum(lost) / len(lost)
        return seen + (1 - seen) / self.symbols

    def bits_to_remember(self) -> float:
        """Return ``seq_len * log2(symbols)``."""
        return self.seq_len * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``horizon - seq_len``, for a first symbol at the first step."""
        return self.horizon - self.seq_len
