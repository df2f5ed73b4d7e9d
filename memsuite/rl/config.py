"""PPO's settings, with their meanings and their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memsuite.errors import UsageError


@dataclass
class PPOConfig:
    """The optimiser's settings.

    Attributes:
        learning_rate: Adam's rate.
        recurrent_lr_scale: the rate of the controller's recurrent parameters, as a multiple of it. Small steps keep a
            memory at the fixed point where it holds.
        epochs: passes over a rollout.
        minibatches: parts each pass is cut into, along environments; time is never cut.
        clip: half-width of the ratio's trust interval.
        value_clip: half-width of the critic's; null for none.
        value_coefficient: weight of the critic's loss.
        entropy_coefficient: weight of the entropy bonus.
        max_grad_norm: global gradient norm above which the gradient is scaled down.
        discount: gamma in [0, 1]; null takes the task's published one.
        gae_lambda: lambda in [0, 1]; null takes the task's published one.
        normalise_advantages: scale the advantages of a rollout to mean 0 and deviation 1.
        target_kl: end the epochs of an iteration once the estimated KL exceeds it; null for never.
        anneal: let the learning rate fall linearly to 0 over the run.
        rollout_length: steps of a rollout; null for one whole episode.
        bptt_steps: cut backpropagation (never the memory) every so many steps; null for the whole rollout.
    """

    learning_rate: float = 3e-3
    recurrent_lr_scale: float = 0.03
    epochs: int = 8
    minibatches: int = 2
    clip: float = 0.2
    value_clip: float | None = None
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    max_grad_norm: float = 0.5
    discount: float | None = None
    gae_lambda: float | None = None
    normalise_advantages: bool = True
    target_kl: float | None = None
    anneal: bool = False
    rollout_length: int | None = None
    bptt_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches", "rollout_length", "bptt_steps"):
            self._require(name, "at least 1", lambda value: value >= 1)
        for name in ("discount", "gae_lambda"):
            self._require(name, "between 0 and 1", lambda value: 0 <= value <= 1)
        for name in ("learning_rate", "clip", "max_grad_norm", "value_clip", "target_kl"):
            self._require(name, "above 0", lambda value: value > 0)
        for name in ("recurrent_lr_scale", "value_coefficient", "entropy_coefficient"):
            self._require(name, "at least 0", lambda value: value >= 0)

    def _require(self, name: str, bound: str, holds: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise UsageError(f"ppo.{name} is {value}; it must be {bound}")
