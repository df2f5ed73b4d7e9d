"""Delayed cue: see one of several cues, wait, name it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import (
    add_noise_,
    check_delay,
    integers,
    latest,
    mean_over_jitter,
    newest,
    shorten_delay,
    uniform_numbers,
)
from memsuite.types import Script


class DelayedCue(ScriptedTask):
    """Remember a symbol across a blank delay (the T-maze's memory, no corridor; Bakker 2001, Ni et al. 2023).

    Shown: at the first step one of ``num_cues`` cues as a one-hot, then blanks (all zeros), at the last step a query
    flag.
    Asked: at the query, the action with the cue's index. One scored decision per episode, reward 1 if right.

    Observation ``[vocabulary + 1]``: the cue's one-hot, then the query flag. Actions: ``vocabulary``.
    Chance: ``1 / vocabulary`` at random, ``1 / num_cues`` for the best policy without memory.
    To remember: ``log2(num_cues)`` bits for ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least 2; the delay is ``horizon - 2`` blanks.
        num_cues: number of cues to draw from, 2 to ``vocabulary``.
        vocabulary: width of the cue's code, the same at every difficulty.
        jitter: the query comes 0 to this many steps earlier, at random; blanks follow it.
        rewrite: probability that a cue, drawn anew, is shown once at a random step of the delay; the last cue counts.
        noise: probability that a step of the delay shows a random cue that does not count; the first cue counts.
    """

    memory_types = ("object",)

    def __init__(
        self,
        horizon: int = 200,
        num_cues: int = 8,
        vocabulary: int = 16,
        jitter: int = 0,
        rewrite: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        check_at_least("delayed_cue", "horizon", horizon, 2 if not rewrite else 3 + jitter)
        check_delay("delayed_cue", horizon - 2, jitter, noise)
        if not 2 <= num_cues <= vocabulary:
            raise UsageError(f"delayed_cue: num_cues {num_cues} is outside 2 to vocabulary = {vocabulary}")
        if not 0.0 <= rewrite <= 1.0:
            raise UsageError(f"delayed_cue: rewrite {rewrite} is outside 0 to 1")
        if rewrite and noise:
            raise UsageError("delayed_cue: rewrite and noise exclude each other: the last cue counts, or the first one")
        self._define(horizon, {"cue": vocabulary, "query": 1}, vocabulary)
        self.num_cues, self.vocabulary = num_cues, vocabulary
        self.jitter, self.rewrite, self.noise = jitter, rewrite, noise

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        device = generator.device
        cue = integers(self.num_cues, (num_envs,), generator)
        observations = torch.zeros(self.horizon, num_envs, self.observation_dim, device=device)
        observations[0].scatter_(1, cue.unsqueeze(1), 1.0)
        observations[-1, :, -1] = 1.0
        scored = torch.zeros(self.horizon, num_envs, dtype=torch.bool, device=device)
        scored[-1] = True
        if self.rewrite:
            cue = self._rewrite_(observations, cue, generator)
        add_noise_(observations[1:-1], self.num_cues, self.noise, generator)
        script = Script(observations, cue.expand(self.horizon, -1), scored)
        return shorten_delay(script, 1, self.jitter, generator)

    def one_a_cue(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return all possible episodes, one per cue and all equally likely: blanks between two observations.

        Returns:
            The first and the last observations, ``[num_cues, D]`` each, and the cues ``[num_cues]``; None if episodes
            differ in other ways too (``jitter``, ``rewrite``, ``noise``).
        """
        if self.jitter or self.rewrite or self.noise:
            return None
        cues = torch.arange(self.num_cues)
        shown, asked = torch.zeros(2, self.num_cues, self.observation_dim).unbind()
        shown[cues, cues], asked[:, -1] = 1.0, 1.0
        return shown, asked, cues

    def _rewrite_(self, observations: Tensor, cue: Tensor, generator: torch.Generator) -> Tensor:
        """Show a second cue in some environments, outside the steps of jitter; return the cues that count."""
        rewritten = uniform_numbers(tuple(cue.shape), generator) < self.rewrite
        step = 1 + self.jitter + integers(self.horizon - 2 - self.jitter, tuple(cue.shape), generator)
        second = integers(self.num_cues, tuple(cue.shape), generator)
        env = torch.arange(len(cue), device=cue.device)
        observations[step, env, second] = rewritten.to(observations.dtype)
        return torch.where(rewritten, second, cue)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the cue that counts."""
        cues = script.observations[:, :, : self.vocabulary].any(-1)
        return torch.zeros_like(script.targets) if self.noise else latest(cues)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the last cue in the window, or with noise the episode's first; guess if there is none."""
        guess = integers(self.num_cues, (window_KBD.shape[1],), generator)
        if self.noise:
            return window_KBD[0, :, : self.vocabulary].argmax(-1) if len(window_KBD) == step + 1 else guess
        return newest(window_KBD[:, :, : self.vocabulary], guess)

    def anchors(self) -> Anchors:
        """Return the chance level over all actions, and over the cues in use."""
        return Anchors(random=1 / self.vocabulary, memoryless=1 / self.num_cues)

    def window_anchor(self, steps: int) -> float:
        """Return 1 if the window reaches back to the cue that counts, otherwise the memoryless success."""
        chance = 1 / self.num_cues
        seen = 0.0
        if self.rewrite:
            room = self.horizon - 2 - self.jitter
            seen = self.rewrite * min(max(0, steps - 1), room) / room
        partial = seen + (1 - seen) * chance
        return mean_over_jitter(lambda horizon: 1.0 if steps >= horizon else partial, self.horizon, self.jitter)

    def bits_to_remember(self) -> float:
        """Return ``log2(num_cues)``."""
        return math.log2(self.num_cues)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first step to the last."""
        return self.horizon - 1
