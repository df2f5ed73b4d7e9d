"""Policies over each kind of actions, as functions of what the network computes at a step, its ``logits``.

An action is drawn by inverting the distribution function at uniform random numbers, one for each number of the action.
The draws of the actions are therefore the same whatever the distribution, and :class:`~memsuite.rl.credit.Credit` can
test them for consequences.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from memsuite.ops import log_prob
from memsuite.rl.policy.loss import LossTerms, ppo_loss, ppo_objective
from memsuite.tasks.actions import ActionSpace, Continuous, Discrete, MultiDiscrete

HALF_STEP = 2.0**-25  # half the distance between two uniform random numbers of 32 bits, which may be 0 but not 1


def sample(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw actions ``[..]`` from logits ``[.., A]`` by inverting the distribution function at ``uniform`` ``[..]``."""
    cumulative = torch.softmax(logits, dim=-1).cumsum(-1)
    below = cumulative[..., :-1] <= uniform.unsqueeze(-1) * cumulative[..., -1:]
    return below.sum(-1)


def choose(logits: Tensor, uniform: Tensor | None) -> Tensor:
    """Sample with the given uniform numbers, or take the most likely action if ``uniform`` is None."""
    return logits.argmax(-1) if uniform is None else sample(logits, uniform)


class Policy(ABC):
    """The distribution of the actions given the ``logits`` ``[.., width]`` of each step; holds no parameters.

    Args:
        space: what the actions are.

    Attributes:
        shape: shape of one action.
        width: number of ``logits`` of a step.
        levels: how many values a number of an action has, at most; 0 for real numbers.
    """

    width: int
    levels: int

    def __init__(self, space: ActionSpace) -> None:
        self.shape = space.shape

    @abstractmethod
    def choose(self, logits: Tensor, uniform: Tensor | None) -> Tensor:
        """Draw actions by uniform random numbers of their shape; the most likely ones if ``uniform`` is None."""

    @abstractmethod
    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probability, or its density, of each action, ``[..]``."""

    @abstractmethod
    def entropy(self, logits: Tensor) -> Tensor:
        """Return the entropy at each step in nats, ``[..]``; of real numbers, the differential entropy."""

    def log_prob_taken(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return :meth:`log_prob` without a gradient, for rollouts."""
        return self.log_prob(logits.detach(), actions)

    def loss(self, logits: Tensor, values: Tensor, actions: Tensor, *rest: Tensor, **settings: Any) -> LossTerms:
        """Return PPO's loss of a minibatch (:func:`~memsuite.rl.policy.loss.ppo_formula`), with its arguments."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        logits = logits.to(wide)
        found = self.log_prob(logits, actions), self.entropy(logits)
        return ppo_objective(*found, *(each.to(wide) for each in (values, *rest)), **settings)


class Categorical(Policy):
    """One of several actions; ``logits`` are unnormalised log-probabilities. Its loss is one fused pass."""

    def __init__(self, space: Discrete) -> None:
        super().__init__(space)
        self.width = self.levels = space.n

    def choose(self, logits: Tensor, uniform: Tensor | None) -> Tensor:
        """Draw actions ``[..]``."""
        return choose(logits, uniform)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probabilities ``[..]``."""
        return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the entropy ``[..]``."""
        log_probs = logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def log_prob_taken(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return the log-probabilities in one pass."""
        return log_prob(logits, actions)

    def loss(self, logits: Tensor, values: Tensor, actions: Tensor, *rest: Tensor, **settings: Any) -> LossTerms:
        """Return PPO's loss by the fused pass over the steps."""
        return ppo_loss(logits, values, actions, *rest, **settings)


class Categoricals(Policy):
    """Several independent choices; ``logits`` are those of all components, one component after another."""

    def __init__(self, space: MultiDiscrete) -> None:
        super().__init__(space)
        self.sizes = list(space.nvec)
        self.width, self.levels = space.outputs, max(space.nvec)

    def choose(self, logits: Tensor, uniform: Tensor | None) -> Tensor:
        """Draw actions ``[.., N]`` by ``uniform`` ``[.., N]``."""
        drawn = [None] * len(self.sizes) if uniform is None else uniform.unbind(-1)
        parts = torch.split(logits, self.sizes, dim=-1)
        return torch.stack([choose(part, each) for part, each in zip(parts, drawn, strict=True)], dim=-1)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return the sum of the components' log-probabilities, ``[..]``."""
        parts = zip(torch.split(logits, self.sizes, dim=-1), torch.split(actions, 1, dim=-1), strict=True)
        return torch.cat([part.log_softmax(-1).gather(-1, chosen) for part, chosen in parts], dim=-1).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the sum of the components' entropies, ``[..]``."""
        each = [part.log_softmax(-1) for part in torch.split(logits, self.sizes, dim=-1)]
        return torch.stack([-(log_p.exp() * log_p).sum(-1) for log_p in each], dim=-1).sum(-1)


class Gaussian(Policy):
    """Independent normal distributions; ``logits`` are the means and the logarithms of the standard deviations.

    The task clips what leaves its bounds. The log-probability is that of the action before it is clipped, as in other
    implementations of PPO.
    """

    levels = 0

    def __init__(self, space: Continuous) -> None:
        super().__init__(space)
        self.width = 2 * space.outputs

    def choose(self, logits: Tensor, uniform: Tensor | None) -> Tensor:
        """Draw actions ``[.., N]`` float32 by ``uniform`` ``[.., N]``, or return the means."""
        mean, log_std = logits.chunk(2, dim=-1)
        if uniform is not None:
            mean = mean + log_std.exp() * torch.special.ndtri(uniform.double() + HALF_STEP).to(mean.dtype)
        return mean.float()

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Return the log-density of the actions, ``[..]``."""
        mean, log_std = logits.chunk(2, dim=-1)
        scaled = (actions.to(mean.dtype) - mean) * (-log_std).exp()
        return -(0.5 * scaled.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the differential entropy, ``[..]``; it may be negative."""
        return (logits.chunk(2, dim=-1)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def policy_of(space: ActionSpace) -> Policy:
    """Return the policy over a kind of actions."""
    if isinstance(space, Discrete):
        return Categorical(space)
    return Categoricals(space) if isinstance(space, MultiDiscrete) else Gaussian(space)
