"""Count recall: symbols are shown a few times each; how often was this one shown?"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, integers
from memsuite.tasks.second.parts import some_of
from memsuite.types import Script


class CountRecall(ScriptedTask):
    """Keep several counts side by side (CountRecall of POPGym, Morad et al. 2023, arXiv 2303.01859).

    Shown: each of ``num_symbols`` symbols 0 to ``most`` times, as often as any other number with equal probability, at
    random different steps of the first half; several symbols may share a step. Then blanks.
    Asked: in the last ``num_symbols`` steps every symbol once, in random order, with the query flag: its count. POPGym
    asks at every step, so that most answers are about what has just been shown.

    Observation ``[symbols + 1]``: which symbols are shown or asked, the query flag. Actions: ``most + 1`` counts.
    Chance: ``1 / (most + 1)`` at random and without memory.
    To remember: ``num_symbols * log2(most + 1)`` bits for up to ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``2 * most`` and ``2 * num_symbols``.
        num_symbols: number of symbols, at most ``symbols``.
        symbols: size of the alphabet, the same at every difficulty.
        most: the largest count.
    """

    memory_types = ("object", "capacity")

    def __init__(self, horizon: int = 200, num_symbols: int = 4, symbols: int = 12, most: int = 7) -> None:
        if not 1 <= num_symbols <= symbols:
            raise UsageError(f"count_recall: num_symbols {num_symbols} is outside 1 to symbols = {symbols}")
        check_at_least("count_recall", "most", most, 1)
        check_at_least("count_recall", "horizon", horizon, 2 * max(most, num_symbols))
        self._define(horizon, {"symbol": symbols, "query": 1}, most + 1)
        self.num_symbols, self.symbols, self.most, self.shown = num_symbols, symbols, most, horizon // 2

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count, device = self.num_symbols, generator.device
        counts = integers(self.most + 1, (count, num_envs), generator)
        steps = some_of(self.most, self.shown, count * num_envs, generator).view(self.most, count, num_envs)
        rank = torch.arange(self.most, device=device).view(-1, 1, 1)
        env, symbol = torch.arange(num_envs, device=device), torch.arange(count, device=device).unsqueeze(1)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        shown = (rank < counts).to(observations.dtype)
        observations[steps, env, symbol] = shown  # a symbol's steps differ, so none is overwritten
        order = some_of(count, count, num_envs, generator)
        observations[-count:].scatter_(2, order.unsqueeze(-1), 1.0)
        observations[-count:, :, -1] = 1.0
        targets[-count:] = counts.gather(0, order)
        scored[-count:] = True
        return Script(observations, targets, scored)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Count the asked symbol in the window, and name the count that makes this number most probable."""
        first = step - len(window_KBD) + 1
        visible = max(0, self.shown - first)
        asked = window_KBD[-1, :, : self.symbols].argmax(-1)
        shown = window_KBD[: min(visible, self.shown), :, : self.symbols].sum(0)
        seen = shown.gather(1, asked.unsqueeze(1))[:, 0].long()
        likely = [row.index(max(row)) for row in likelihoods(min(visible, self.shown), self.shown, self.most)]
        return torch.tensor(likely, device=seen.device)[seen]

    def anchors(self) -> Anchors:
        """Return the chance level over the counts."""
        return Anchors(random=1 / (self.most + 1), memoryless=1 / (self.most + 1))

    def window_anchor(self, steps: int) -> float:
        """Return the success of the most probable count, given how often the symbol is shown inside the window."""
        means = []
        for query in range(self.horizon - self.num_symbols, self.horizon):
            visible = min(max(0, self.shown - (query - steps + 1)), self.shown)
            best = [max(row) for row in likelihoods(visible, self.shown, self.most)]
            means.append(math.fsum(best) / (self.most + 1))
        return math.fsum(means) / len(means)

    def bits_to_remember(self) -> float:
        """Return ``num_symbols * log2(most + 1)``."""
        return self.num_symbols * math.log2(self.most + 1)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from a symbol at the first step to the last query."""
        return self.horizon - 1


@functools.cache
def likelihoods(visible: int, steps: int, most: int) -> list[list[float]]:
    """Return the probability of seeing a symbol ``seen`` times in ``visible`` of ``steps``, by its whole count.

    Returns:
        A row for each number seen, 0 to ``most``, with a column for each count, 0 to ``most`` (hypergeometric).
    """
    return [
        [
            math.comb(visible, seen) * math.comb(steps - visible, count - seen) / math.comb(steps, count)
            if seen <= count
            else 0.0
            for count in range(most + 1)
        ]
        for seen in range(most + 1)
    ]
