"""Multi-cue delay: pick a few cues from a stream of distractors, wait, repeat them in order."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.tasks.parts import integers, nth, one_hots, stream_between
from memsuite.types import Script


class MultiCueDelay(ScriptedTask):
    """Distinguish cues from distractors and keep their order (temporal order problem, Hochreiter & Schmidhuber 1997).

    Shown: a random symbol out of 8 at every step except the last ``num_cues``. All symbols carry the distractor flag
    except ``num_cues`` of them, the cues: the first half of the episode is divided into ``num_cues`` segments, and each
    segment has one cue at a random step. Then ``num_cues`` steps with the query flag.
    Asked: at the i-th query, the i-th cue.

    Observation ``[symbols + 2]``: the symbol's one-hot, the distractor flag, the query flag. Actions: ``symbols``.
    Chance: ``1 / symbols`` at random and without memory.
    To remember: ``num_cues * log2(symbols)`` bits for up to ``horizon - num_cues`` steps.

    Args:
        horizon: length of an episode in steps, at least ``4 * num_cues``, so that each segment has two steps.
        num_cues: number of cues.
        symbols: size of the alphabet, the same at every difficulty.
    """

    memory_types = ("sequential", "capacity")

    def __init__(self, horizon: int = 300, num_cues: int = 4, symbols: int = 8) -> None:
        check_at_least("multi_cue_delay", "num_cues", num_cues, 1)
        check_at_least("multi_cue_delay", "symbols", symbols, 2)
        check_at_least("multi_cue_delay", "horizon", horizon, 4 * num_cues)
        self._define(horizon, {"symbol": symbols, "distractor": 1, "query": 1}, symbols)
        self.num_cues, self.symbols, self.segment = num_cues, symbols, horizon // 2 // num_cues

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        device, count = generator.device, self.num_cues
        stream = integers(self.symbols, (self.horizon - count, num_envs), generator)
        starts = torch.arange(0, count * self.segment, self.segment, device=device).unsqueeze(1)
        steps = starts + integers(self.segment, (count, num_envs), generator)
        observations = stream_between(stream, one_hots(self.observation_dim, [self.symbols], device), 0, count)
        observations[:, :, self.symbols].scatter_(0, steps, 0.0)  # a cue is a symbol of the stream without the flag
        observations[-count:, :, -1] = 1.0
        targets = torch.zeros(self.horizon, num_envs, dtype=torch.int64, device=device)
        targets[-count:] = stream.gather(0, steps)
        scored = torch.zeros_like(targets, dtype=torch.bool)
        scored[-count:] = True
        return Script(observations, targets, scored)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the asked cue: a symbol without the distractor flag."""
        flags = script.observations[:, :, self.symbols :].any(-1)
        return nth(~flags, script.scored.cumsum(0) - 1)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Name the unmarked symbol in the asked cue's segment if it is in the window."""
        guess = integers(self.symbols, (window_KBD.shape[1],), generator)
        first = step - len(window_KBD) + 1
        begins = (step - self.horizon + self.num_cues) * self.segment - first
        segment = window_KBD[max(0, begins) : max(0, begins + self.segment)]
        cue = (segment[:, :, : self.symbols] * (1 - segment[:, :, self.symbols : self.symbols + 1])).sum(0)
        return torch.where(cue.any(-1), cue.argmax(-1), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the symbols."""
        return Anchors(random=1 / self.symbols, memoryless=1 / self.symbols)

    def window_anchor(self, steps: int) -> float:
        """Return the mean success: 1 for each cue inside the window when it is asked for, chance for the others."""
        seen = 0.0
        for index in range(self.num_cues):
            first = self.horizon - self.num_cues + index - steps + 1
            inside = (index + 1) * self.segment - first
            seen += min(max(0, inside), self.segment) / self.segment / self.num_cues
        return seen + (1 - seen) / self.symbols

    def bits_to_remember(self) -> float:
        """Return ``num_cues * log2(symbols)``."""
        return self.num_cues * math.log2(self.symbols)

    def steps_to_remember(self) -> int:
        """Return ``horizon - num_cues``, for a first cue at the first step."""
        return self.horizon - self.num_cues
