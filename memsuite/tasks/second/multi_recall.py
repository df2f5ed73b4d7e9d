"""Multi-query recall: many keys with values in one stream, some written twice, and every key asked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import blank, integers, largest_share, matched
from memsuite.tasks.second.parts import some_of
from memsuite.types import Script


class MultiRecall(ScriptedTask):
    """Look up many values by their keys, where a key may be written again (MQAR, Arora et al. 2023, arXiv 2312.04927).

    Shown: a key together with a value, at random steps of the first half. Every one of the ``num_keys`` keys of the
    episode is written once, and every other one of them a second time; the newer value counts.
    Asked: in the last quarter, at random steps (the last step is one of them), every key once, with the query flag: its
    newest value.

    Observation ``[keys + values + 1]``: the key's one-hot, the value's, the query flag. Actions: ``values``.
    Chance: ``1 / values`` at random and without memory. A policy that knows the values that count but not their keys
    names the most frequent one: ``anchors().unbound``.
    To remember: ``num_keys * log2(values)`` bits (and which keys they belong to) for up to ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``4 * num_keys``.
        num_keys: number of keys in an episode, at most ``keys``.
        keys: number of different keys, the same at every difficulty.
        values: number of different values.
    """

    memory_types = ("object", "capacity")

    def __init__(self, horizon: int = 200, num_keys: int = 8, keys: int = 24, values: int = 8) -> None:
        if not 1 <= num_keys <= keys:
            raise UsageError(f"multi_recall: num_keys {num_keys} is outside 1 to keys = {keys}")
        check_at_least("multi_recall", "values", values, 2)
        check_at_least("multi_recall", "horizon", horizon, 4 * num_keys)
        self._define(horizon, {"key": keys, "value": values, "query": 1}, values)
        self.num_keys, self.keys, self.values = num_keys, keys, values
        self.twice, self.written, self.asked = num_keys // 2, horizon // 2, horizon // 4

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        count, twice, device = self.num_keys, self.twice, generator.device
        keys = some_of(count, self.keys, num_envs, generator)
        values = integers(self.values, (count + twice, num_envs), generator)
        steps = some_of(count + twice, self.written, num_envs, generator)
        env = torch.arange(num_envs, device=device)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, device)
        observations[steps, env, torch.cat([keys, keys[:twice]])] = 1.0
        observations[steps, env, self.keys + values] = 1.0
        newest = values[:count].clone()
        newest[:twice] = torch.where(steps[count:] > steps[:twice], values[count:], values[:twice])
        last = torch.full((1, num_envs), self.horizon - 1, device=device)
        quarter = self.horizon - self.asked + some_of(count - 1, self.asked - 1, num_envs, generator)
        order, queries = some_of(count, count, num_envs, generator), torch.cat([quarter, last])
        observations[queries, env, keys.gather(0, order)] = 1.0
        observations[queries, env, -1] = 1.0
        targets.scatter_(0, queries, newest.gather(0, order))
        return Script(observations, targets, scored.scatter_(0, queries, True))

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the asked key's newest value."""
        written = script.observations[: self.written, :, : self.keys]
        steps = torch.arange(self.written, device=written.device).view(-1, 1, 1)
        newest = (written * steps).amax(0).long()  # [B, keys]
        asked = script.observations[:, :, : self.keys].argmax(-1)
        return newest.T.gather(0, asked)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the value of the asked key's last writing in the window; guess if there is none."""
        guess = integers(self.values, (window_KBD.shape[1],), generator)
        now = window_KBD[-1, :, -1] > 0  # only few environments are asked at one step
        window = window_KBD[:, now]
        asked = window[-1, :, : self.keys].argmax(-1)
        values = window[:, :, self.channel("value")]
        key = window[:, :, : self.keys].gather(2, asked.view(1, -1, 1).expand(len(window), -1, 1))[:, :, 0]
        order = torch.arange(1, len(window) + 1, device=asked.device).unsqueeze(1)
        hits = key * values.sum(-1) * order
        guess[now] = matched((hits > 0) & (hits == hits.amax(0)), values.argmax(-1), guess[now])
        return guess

    def anchors(self) -> Anchors:
        """Return the chance level over the values, and the success of knowing all values without their keys."""
        chance = 1 / self.values
        return Anchors(random=chance, memoryless=chance, unbound=largest_share(self.num_keys, self.values))

    def window_anchor(self, steps: int) -> float:
        """Return the probability that the asked key's newest value is in the window, plus guesses otherwise."""
        last = self._seen(self.horizon - steps)
        early = [self._seen(query - steps + 1) for query in range(self.horizon - self.asked, self.horizon - 1)]
        mean = math.fsum(early) / len(early) if early else last
        seen = ((self.num_keys - 1) * mean + last) / self.num_keys
        return seen + (1 - seen) / self.values

    def _seen(self, first: int) -> float:
        """Return the probability that a key's newest writing is at step ``first`` or later."""
        steps, first = self.written, min(max(0, first), self.written)
        once, both = 1 - first / steps, 1 - first * (first - 1) / max(1, steps * (steps - 1))
        return ((self.num_keys - self.twice) * once + self.twice * both) / self.num_keys

    def bits_to_remember(self) -> float:
        """Return ``num_keys * log2(values)``."""
        return self.num_keys * math.log2(self.values)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from a key at the first step to the last query."""
        return self.horizon - 1
