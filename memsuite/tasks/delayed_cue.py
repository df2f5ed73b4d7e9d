"""Delayed cue: see one of several cues, wait, say which it was."""

from __future__ import annotations

import math

import torch

from memsuite.errors import UsageError
from memsuite.tasks.base import Anchors, ScriptedTask, check_at_least
from memsuite.types import Script


class DelayedCue(ScriptedTask):
    """Remember one symbol across a blank delay (the T-maze's memory without its corridor; Bakker 2001, Ni et al. 2023).

    Shown: at the first step one of ``num_cues`` cues as a one-hot, then blanks (all zeros), at the last step a query flag.
    Asked: at the query, the action with the cue's index. One scored decision an episode, reward 1 if right.

    Observation ``[vocabulary + 1]``: the cue's one-hot, then the query flag. Actions: ``vocabulary``.
    Chance: ``1 / vocabulary`` at random, ``1 / num_cues`` for the best policy without memory.
    To remember: ``log2(num_cues)`` bits for ``horizon - 1`` steps.

    Args:
        horizon: length of an episode in steps, at least 2; the delay is ``horizon - 2`` blanks.
        num_cues: number of cues drawn from, 2 to ``vocabulary``.
        vocabulary: width of the cue's code, the same at every difficulty.
    """

    def __init__(self, horizon: int = 200, num_cues: int = 8, vocabulary: int = 16) -> None:
        check_at_least("delayed_cue", "horizon", horizon, 2)
        if not 2 <= num_cues <= vocabulary:
            raise UsageError(f"delayed_cue: num_cues {num_cues} is outside 2 to vocabulary = {vocabulary}")
        self.horizon, self.num_cues, self.vocabulary = horizon, num_cues, vocabulary
        self.observation_dim, self.num_actions = vocabulary + 1, vocabulary

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` episodes."""
        device = generator.device
        cue = torch.randint(self.num_cues, (num_envs,), generator=generator, device=device)
        observations = torch.zeros(self.horizon, num_envs, self.observation_dim, device=device)
        observations[0].scatter_(1, cue.unsqueeze(1), 1.0)
        observations[-1, :, -1] = 1.0
        scored = torch.zeros(self.horizon, num_envs, dtype=torch.bool, device=device)
        scored[-1] = True
        return Script(observations, cue.expand(self.horizon, -1), scored)

    def anchors(self) -> Anchors:
        """Return chance over all actions, and over the cues in use."""
        return Anchors(random=1 / self.vocabulary, memoryless=1 / self.num_cues)

    def window_anchor(self, steps: int) -> float:
        """Return 1 when the window reaches back to the cue, else the memoryless success."""
        return 1.0 if steps >= self.horizon else 1 / self.num_cues

    def bits_to_remember(self) -> float:
        """Return ``log2(num_cues)``."""
        return math.log2(self.num_cues)

    def steps_to_remember(self) -> int:
        """Return ``horizon - 1``, from the first step to the last."""
        return self.horizon - 1
