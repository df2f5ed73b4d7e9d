"""PPO's settings, with their meanings and their bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from memsuite.errors import UsageError, unknown
from memsuite.runs.hints import settle

Critic = Literal["memory", "observation", "none"]
Advantage = Literal["gae", "leave_one_out", "group_mean", "group_std"]
GroupAdvantage = Literal["leave_one_out", "group_mean", "group_std"]
Optimizer = Literal["muon", "adam"]
EntropyWeighting = Literal["advantages", "uniform"]
Consequences = Literal["assumed", "tested"]
GradientClip = Literal["global", "by_group"]
Products = Literal["float32", "bfloat16"]
CHOICES = {
    "critic": get_args(Critic),
    "advantage": get_args(Advantage),
    "entropy_weighting": get_args(EntropyWeighting),
    "consequences": get_args(Consequences),
    "optimizer": get_args(Optimizer),
    "gradient_clip": get_args(GradientClip),
    "products": get_args(Products),
}
OPEN = ("critic", "advantage", "optimizer", "entropy_weighting", "gradient_clip")  # where null stands for a rule
PRECISIONS = ("32-true", "64-true", "bf16-mixed")  # as Lightning names them


@dataclass(frozen=True)
class PPOConfig:
    """The optimiser's settings.

    Attributes:
        learning_rate: Adam's rate, of which the other rates are multiples.
        optimizer: ``adam`` for all parameters; or ``muon``, which orthogonalises the updates of the controller's
            matrices (:class:`~memsuite.rl.optimizer.Muon`) and takes Adam for everything else. Null takes ``muon``
            where environments share scripts and ``adam`` elsewhere.
        matrix_lr_scale: the rate of the matrices under ``muon``, as a multiple of ``learning_rate``; null takes the
            controller's own factor.
        matrix_decay: under ``muon``, how strongly the matrices are drawn back to what they were when training began:
            each step takes off this share, times the rate of the matrices, of their distance from there (Kumar et al.
            2023, arXiv 2308.11958). An orthogonalised step is as long for a gradient that has exploded as for any
            other, so without it a recurrence that is trained for long, or in several passes, may lose all that it has
            learnt. 0 draws nothing back.
        recurrent_lr_scale: the rate of the controller's recurrent parameters, as a multiple of the rate that they would
            have otherwise; null takes (40 / steps to remember) ** 1.25, at most 1. Small steps keep a memory at the
            fixed point where it holds, and the longer it must hold, the smaller.
        adam_beta1: Adam's momentum. Once a step is clipped its gradient is gone, but momentum goes on; less overshoots
            less.
        draws: environments that share a script: the memory reads the script once, and each of them draws its own
            actions. num_envs counts environments, so num_envs / draws scripts are read. 1 shares nothing. Null takes
            the largest divisor of num_envs up to 32 that leaves at least as many scripts as draws, and 1 where a task
            cannot share.
        advantage: what a draw is compared with. ``gae`` is Schulman et al. 2016, with a critic; ``leave_one_out``,
            ``group_mean`` and ``group_std`` compare the draws of one script with each other, without a critic
            (:func:`~memsuite.rl.groups.group_advantages`). Null takes ``group_mean`` with draws, ``gae`` without.
        epochs: passes over a rollout. With one pass and shared scripts every minibatch is acted in by the policy that
            learns from it, so that all ratios are 1 and nothing is clipped.
        minibatches: parts each pass is cut into, along environments; time is never cut. Null takes 64 scripts a part.
        clip: half-width of the ratio's trust interval.
        value_clip: half-width of the critic's; null for none.
        value_coefficient: weight of the critic's loss; without a critic it means nothing.
        entropy_coefficient: weight of the entropy bonus; null takes the task's published one, 0 in most.
        entropy_weighting: null takes the task's published one. ``advantages`` gives each step a bonus in proportion to
            its absolute advantage: none where nothing is at stake, whose bonus would disturb the memory through every
            blank step, and more the more is. ``uniform`` gives every step the same, as in Schulman et al. 2017.
        max_grad_norm: gradient norm above which the gradient is scaled down.
        gradient_clip: ``global`` takes the norm over all parameters; ``by_group`` scales the recurrent parameters, the
            controller's others, an encoder and the heads each by their own norm, because the gradient that comes
            through a recurrence grows with the time it spans and would scale the heads' below what Adam resolves. Null
            takes ``by_group`` if more than 20,000 steps are to be remembered.
        discount: gamma in [0, 1]; null takes the task's published one.
        gae_lambda: lambda in [0, 1], of ``gae`` alone; null takes the task's published one.
        consequences: ``assumed`` credits actions with later rewards as discount and lambda say; ``tested`` not until
            actions are seen to change what is seen or rewarded later (:class:`~memsuite.rl.credit.Credit`).
        reward_scale: factor on the rewards that PPO learns from, for tasks whose returns are far from 1; what is
            reported is not scaled.
        critic: ``observation`` makes the baseline a function of the present observation alone, ``memory`` of the
            controller's features; null takes ``observation`` at discount 0, where no baseline can bias the gradient,
            and ``memory`` otherwise, where it is also bootstrapped from. ``none`` where draws are compared with each
            other.
        normalise_advantages: divide the advantages by their root mean square, of this rollout or of the last ones,
            whichever is larger: a solved task's leftover noise is not blown up, and an advantage of 0 stays 0.
        target_kl: end the epochs of an iteration once the estimated KL exceeds it; null for never.
        anneal: let the learning rate fall linearly to 0 over the run.
        rollout_length: steps of a rollout; null for one whole episode.
        bptt_steps: cut backpropagation (never the memory) every so many steps; null for the whole rollout.
        recompute: keep the intermediate values of so many steps at a time, and compute those of each such block again
            in the backward pass. The gradient is the same; it costs another forward pass, and the memory of a long
            rollout is little more than its observations, and the features of its decisions. Null keeps everything.
        products: precision in which a CPU multiplies by weights in training: ``bfloat16`` rounds the factors, and is
            faster for block models on a processor that has AVX-512 BF16 (:mod:`memsuite.ops.products`). Evaluations
            are in float32.
        max_skipped_updates: end the run after so many updates in a row whose loss or gradient was not finite; each of
            them is skipped.
    """

    learning_rate: float = 3e-3
    optimizer: Optimizer | None = None
    matrix_lr_scale: float | None = None
    matrix_decay: float = 0.0
    recurrent_lr_scale: float | None = None
    adam_beta1: float = 0.9
    draws: int | None = None
    advantage: Advantage | None = None
    epochs: int = 1
    minibatches: int | None = None
    clip: float = 0.2
    value_clip: float | None = None
    value_coefficient: float = 0.5
    entropy_coefficient: float | None = None
    entropy_weighting: EntropyWeighting | None = None
    max_grad_norm: float = 0.5
    gradient_clip: GradientClip | None = None
    discount: float | None = None
    gae_lambda: float | None = None
    consequences: Consequences = "assumed"
    reward_scale: float = 1.0
    critic: Critic | None = None
    normalise_advantages: bool = False
    target_kl: float | None = None
    anneal: bool = True
    rollout_length: int | None = None
    bptt_steps: int | None = None
    recompute: int | None = None
    products: Products = "float32"
    max_skipped_updates: int = 20

    def __post_init__(self) -> None:
        settle(self, "ppo.")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name in OPEN and value is None):
                raise unknown(f"ppo.{name}", value, choices)
        if self.advantage not in (None, "gae") and self.draws is not None and self.draws < 2:
            raise UsageError(
                f"ppo.advantage {self.advantage} compares the draws of a script; ppo.draws is {self.draws}, "
                "the least is 2"
            )
        counts = ("draws", "epochs", "minibatches", "rollout_length", "bptt_steps", "recompute", "max_skipped_updates")
        for name in counts:
            self._require(name, "at least 1", lambda value: value >= 1)
        for name in ("discount", "gae_lambda"):
            self._require(name, "between 0 and 1", lambda value: 0 <= value <= 1)
        self._require("adam_beta1", "at least 0 and below 1", lambda value: 0 <= value < 1)
        for name in ("learning_rate", "clip", "max_grad_norm", "value_clip", "target_kl", "reward_scale"):
            self._require(name, "above 0", lambda value: value > 0)
        for name in (
            "matrix_lr_scale",
            "matrix_decay",
            "recurrent_lr_scale",
            "value_coefficient",
            "entropy_coefficient",
        ):
            self._require(name, "at least 0", lambda value: value >= 0)

    def _require(self, name: str, bound: str, holds: Callable[[float], bool]) -> None:
        value = getattr(self, name)
        if value is not None and not (math.isfinite(value) and holds(value)):
            raise UsageError(
                f"ppo.{name} is {value}; it must be {'' if math.isfinite(value) else 'finite and '}{bound}"
            )


@dataclass(frozen=True)
class ResolvedPPO(PPOConfig):
    """The settings with every rule applied (:func:`~memsuite.rl.resolve.resolve`): what a run computes with."""

    optimizer: Optimizer = "adam"
    matrix_lr_scale: float = 1.0
    recurrent_lr_scale: float = 1.0
    draws: int = 1
    advantage: Advantage = "gae"
    minibatches: int = 1
    entropy_coefficient: float = 0.0
    entropy_weighting: EntropyWeighting = "advantages"
    discount: float = 0.0
    gae_lambda: float = 0.0
    critic: Critic = "memory"
    gradient_clip: GradientClip = "global"


def check_precision(precision: object) -> None:
    """Raise a usage error for a precision of Lightning's that training would not survive.

    Half precision of 16 bits needs its losses scaled, which clipping and the skipping of bad updates would not see;
    weights of 16 bits lose the small steps on a memory's parameters. Under ``bf16-mixed`` the weights have 32.
    """
    known = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}
    if precision is not None and known.get(str(precision), precision) not in PRECISIONS:
        raise UsageError(f"trainer.precision is {precision}; it must be one of {', '.join(PRECISIONS)}")
