"""Pattern binding: see labelled patterns that share their parts, wait, give the label of the queried pattern."""

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
    largest_share,
    matched,
    mean_over_jitter,
    shorten_delay,
    show_,
)
from memsuite.types import Script

PARTS = 4
LABELS = 8


class PatternBinding(ScriptedTask):
    """Bind a label to a pair of parts, not to one of them (configural learning, Sutherland & Rudy 1989).

    Shown: ``num_patterns`` pairs A -> B, one per step. A is a pattern of two parts, called shape and colour, and B is a
    label. The patterns A are distinct, but are drawn from so few shapes and colours that they share some; the labels B
    are independent. Then blanks (all zeros), and at the last step one of the shown patterns A, drawn at random, with
    the query flag.
    Asked: at the query, the label B of the pattern A.

    Observation ``[17]``: one-hots of shape (4), colour (4) and label (8), the query flag. Actions: 8, the labels.
    Chance: 1/8 at random and without memory. A policy that knows all labels but not their patterns names the most
    frequent label: ``anchors().unbound``. Some patterns have a shape or a colour of their own, so a memory that binds
    labels to shapes alone reaches more: 0.71 with 3 patterns, 0.63 with 5, 0.48 with 8 and 0.46 with 12.
    To remember: the labels, ``3 * num_patterns`` bits (and enough of the patterns to distinguish them), for ``horizon
    - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least ``num_patterns + 1``; the remaining steps are the blank delay.
        num_patterns: number of pairs, 2 to 15. The numbers of shapes and of colours in use are equal, and the smallest
            that allow more patterns than this.
        jitter: the query comes 0 to this many steps earlier, at random; blanks follow it.
        noise: probability that a step of the delay shows a random part or label alone.
    """

    memory_types = ("object", "capacity")

    def __init__(self, horizon: int = 300, num_patterns: int = 5, jitter: int = 0, noise: float = 0.0) -> None:
        if not 2 <= num_patterns < PARTS**2:
            raise UsageError(f"pattern_binding: num_patterns {num_patterns} is outside 2 to {PARTS**2 - 1}")
        check_at_least("pattern_binding", "horizon", horizon, num_patterns + 1)
        check_delay("pattern_binding", horizon - num_patterns - 1, jitter, noise)
        self._define(horizon, {"shape": PARTS, "colour": PARTS, "label": LABELS, "query": 1}, LABELS)
        self.num_patterns, self.jitter, self.noise = num_patterns, jitter, noise
        self.parts = math.isqrt(num_patterns) + 1  # number of parts of each kind: parts ** 2 > num_patterns

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        patterns = distinct(self.num_patterns, self.parts**2, num_envs, generator)
        labels = integers(LABELS, (self.num_patterns, num_envs), generator)
        asked = integers(self.num_patterns, (1, num_envs), generator)
        observations, targets, scored = blank(self.horizon, num_envs, self.observation_dim, generator.device)
        self._show_pattern_(observations[: self.num_patterns], patterns)
        show_(observations[: self.num_patterns, :, self.channel("label")], labels)
        self._show_pattern_(observations[-1:], patterns.gather(0, asked))
        observations[-1, :, -1] = 1.0
        targets[-1:] = labels.gather(0, asked)
        scored[-1] = True
        add_noise_(observations[self.num_patterns : -1], 2 * PARTS + LABELS, self.noise, generator)
        return shorten_delay(Script(observations, targets, scored), self.num_patterns, self.jitter, generator)

    def _show_pattern_(self, observations: Tensor, patterns: Tensor) -> None:
        show_(observations[:, :, :PARTS], patterns // self.parts)
        show_(observations[:, :, PARTS : 2 * PARTS], patterns % self.parts)

    def shown_at(self, script: Script) -> Tensor:
        """Return the step of the asked pattern."""
        patterns = script.observations[: self.num_patterns, :, : 2 * PARTS]
        asked = (script.observations[:, :, : 2 * PARTS] * script.scored.unsqueeze(-1)).sum(0)
        return (patterns == asked).all(-1).int().argmax(0).expand(self.horizon, -1)

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Find the asked pattern among those in the window, or guess."""
        guess = integers(LABELS, (window_KBD.shape[1],), generator)
        first = step - len(window_KBD) + 1
        shown = window_KBD[: max(0, self.num_patterns - first)]
        parts = slice(0, 2 * PARTS)
        match = (shown[:, :, parts] == window_KBD[-1, :, parts]).all(-1)
        return matched(match, shown[:, :, self.channel("label")].argmax(-1), guess)

    def anchors(self) -> Anchors:
        """Return the chance level over the labels, and the success of knowing all labels without their patterns."""
        return Anchors(random=1 / LABELS, memoryless=1 / LABELS, unbound=largest_share(self.num_patterns, LABELS))

    def window_anchor(self, steps: int) -> float:
        """Return the success: 1 if the asked pattern is in the window, chance otherwise, in expectation."""

        def success(horizon: int) -> float:
            seen = min(max(0, self.num_patterns - (horizon - steps)), self.num_patterns) / self.num_patterns
            return seen + (1 - seen) / LABELS

        return mean_over_jitter(success, self.horizon, self.jitter)

    def bits_to_remember(self) -> float:
        """Return ``3 * num_patterns``."""
        return self.num_patterns * math.log2(LABELS)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first pattern to the query."""
        return self.horizon - 1
