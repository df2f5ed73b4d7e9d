"""Associative recall: see keys, each followed by a value, wait among lures, give the value of the queried key."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import (
    check_delay,
    distinct,
    integers,
    largest_share,
    matched,
    mean_over_jitter,
    one_hots,
    shorten_delay,
    show_,
    stream_between,
)
from memsuite.types import Script


class AssocRecall(ScriptedTask):
    """Look a value up by its key (Graves et al. 2014; keys and values alternate as in Arora et al. 2023).

    Shown: ``num_pairs`` times a key, then its value; keys are drawn without replacement, values independently.
    During the delay, random keys and values with the lure flag, which are never asked for. At the last step one of
    the shown keys, drawn at random, with the query flag.
    Asked: at the query, the value that followed the key.

    Observation ``[keys + values + 2]``: the key's one-hot, the value's, the lure flag, the query flag. Actions:
    ``values``.
    Chance: ``1 / values`` at random and without memory. A policy that knows all values but not their keys names the
    most frequent value: ``anchors().unbound``.
    To remember: the values, ``num_pairs * log2(values)`` bits (and enough of the keys to distinguish them), for
    ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``2 * num_pairs + 1``; the remaining steps are the delay.
        num_pairs: number of pairs, at most ``keys``.
        keys: number of different keys, the same at every difficulty.
        values: number of different values.
        jitter: the query comes 0 to this many steps earlier, at random; blanks follow it.
    """

    memory_types = ("object", "capacity")

    def __init__(
        self, horizon: int = 200, num_pairs: int = 8, keys: int = 24, values: int = 8, jitter: int = 0
    ) -> None:
        if not 2 <= num_pairs <= keys:
            raise UsageError(f"assoc_recall: num_pairs {num_pairs} is outside 2 to keys = {keys}")
        check_at_least("assoc_recall", "values", values, 2)
        check_at_least("assoc_recall", "horizon", horizon, 2 * num_pairs + 1)
        check_delay("assoc_recall", horizon - 2 * num_pairs - 1, jitter)
        self._define(horizon, {"key": keys, "value": values, "lure": 1, "query": 1}, values)
        self.num_pairs, self.keys, self.values, self.jitter = num_pairs, keys, values, jitter

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        begins, width = 2 * self.num_pairs, self.observation_dim
        keys = distinct(self.num_pairs, self.keys, num_envs, generator)
        values = integers(self.values, (self.num_pairs, num_envs), generator)
        asked = integers(self.num_pairs, (1, num_envs), generator)
        lures = integers(self.keys + self.values, (self.horizon - begins - 1, num_envs), generator)
        table = one_hots(width, [width - 2], generator.device)
        observations = stream_between(lures, table, begins, 1)
        show_(observations[0:begins:2, :, : self.keys], keys)
        show_(observations[1:begins:2, :, self.channel("value")], values)
        show_(observations[-1:, :, : self.keys], keys.gather(0, asked))
        observations[-1, :, -1] = 1.0
        scored = torch.zeros(self.horizon, num_envs, dtype=torch.bool, device=generator.device)
        scored[-1] = True
        targets = values.gather(0, asked).expand(self.horizon, -1)
        return shorten_delay(Script(observations, targets, scored), begins, self.jitter, generator)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the asked key."""
        keys = script.observations[:, :, : self.keys]
        pairs, asked = keys[0 : 2 * self.num_pairs : 2], (keys * script.scored.unsqueeze(-1)).sum(0)
        return 2 * (pairs * asked).sum(-1).argmax(0).expand(self.horizon, -1)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Find the asked key among the pairs in the window; else name a value whose key was cut off; else guess."""
        guess = integers(self.values, (window_KBD.shape[1],), generator)
        first = step - len(window_KBD) + 1
        shown = window_KBD[: max(0, 2 * self.num_pairs - first)]  # the part of the pairs inside the window
        keys, values = shown[:, :, : self.keys], shown[:, :, self.channel("value")]
        if len(shown) % 2:
            guess, keys, values = values[0].argmax(-1), keys[1:], values[1:]
        asked = window_KBD[-1, :, : self.keys].argmax(-1)
        return matched(keys[0::2].argmax(-1) == asked, values[1::2].argmax(-1), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the values, and the success of knowing all values without their keys."""
        chance = 1 / self.values
        return Anchors(random=chance, memoryless=chance, unbound=largest_share(self.num_pairs, self.values))

    def window_anchor(self, steps: int) -> float:
        """Return the probability that the asked pair is in the window, plus the success of guessing otherwise."""
        return mean_over_jitter(lambda horizon: self._within(horizon - steps), self.horizon, self.jitter)

    def _within(self, first: int) -> float:
        """Return the success of seeing everything from step ``first`` on."""
        left = min(max(0, 2 * self.num_pairs - first), 2 * self.num_pairs)
        whole, half = left // 2, left % 2
        hidden = self.num_pairs - whole
        # A value whose key was cut off belongs to the asked key with probability 1 / hidden.
        guess = 1 / self.values if not half else 1 / hidden + (1 - 1 / hidden) / self.values
        return (whole + hidden * guess) / self.num_pairs

    def bits_to_remember(self) -> float:
        """Return ``num_pairs * log2(values)``."""
        return self.num_pairs * math.log2(self.values)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first key to the query."""
        return self.horizon - 1
