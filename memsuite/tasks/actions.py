"""What the actions of a task are: one number of several, several such numbers, or a vector of real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Discrete:
    """One whole number in ``[0, n)``; a batch of actions is ``[..]`` int64.

    Attributes:
        n: number of actions.
    """

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """Kind of the numbers of an action."""
        return torch.int64

    @property
    def outputs(self) -> int:
        """Numbers that a policy computes at each step."""
        return self.n

    @property
    def width(self) -> int:
        """Numbers of an action as a part of an observation: a one-hot."""
        return self.n

    def as_observation(self, actions: Tensor) -> Tensor:
        """Return actions ``[..]`` as one-hots ``[.., width]`` float32."""
        return torch.nn.functional.one_hot(actions, self.n).float()

    def random(
        self, *shape: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Draw actions uniformly, ``[*shape]``."""
        return torch.randint(self.n, shape, generator=generator, device=device)


@dataclass(frozen=True)
class MultiDiscrete:
    """Several whole numbers, the i-th in ``[0, nvec[i])``; a batch of actions is ``[.., N]`` int64.

    Attributes:
        nvec: how many values each component has.
    """

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (len(self.nvec),)

    @property
    def dtype(self) -> torch.dtype:
        """Kind of the numbers of an action."""
        return torch.int64

    @property
    def outputs(self) -> int:
        """Numbers that a policy computes at each step: the logits of all components."""
        return sum(self.nvec)

    @property
    def width(self) -> int:
        """Numbers of an action as a part of an observation: a one-hot of each component."""
        return sum(self.nvec)

    def as_observation(self, actions: Tensor) -> Tensor:
        """Return actions ``[.., N]`` as one-hots ``[.., width]`` float32."""
        each = zip(actions.unbind(-1), self.nvec, strict=True)
        return torch.cat([torch.nn.functional.one_hot(part, n) for part, n in each], dim=-1).float()

    def random(
        self, *shape: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Draw actions uniformly, ``[*shape, N]``."""
        each = [torch.randint(n, shape, generator=generator, device=device) for n in self.nvec]
        return torch.stack(each, dim=-1)


@dataclass(frozen=True)
class Continuous:
    """A vector of real numbers; a batch of actions is ``[.., N]`` float32.

    A policy may give any numbers; the task takes them as clipped to the bounds.

    Attributes:
        low: smallest value of each number; minus infinity for none.
        high: largest value of each number; infinity for none.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (len(self.low),)

    @property
    def dtype(self) -> torch.dtype:
        """Kind of the numbers of an action."""
        return torch.float32

    @property
    def outputs(self) -> int:
        """Numbers that a policy computes at each step: the means."""
        return len(self.low)

    @property
    def width(self) -> int:
        """Numbers of an action as a part of an observation."""
        return len(self.low)

    def as_observation(self, actions: Tensor) -> Tensor:
        """Return actions ``[.., N]`` as float32, clipped to the bounds."""
        low, high = (actions.new_tensor(bound) for bound in (self.low, self.high))
        return torch.clamp(torch.nan_to_num(actions), low, high).float()

    def random(
        self, *shape: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Draw actions from a standard normal distribution, ``[*shape, N]``."""
        return torch.randn((*shape, len(self.low)), generator=generator, device=device)


ActionSpace: TypeAlias = Discrete | MultiDiscrete | Continuous
"""The kinds of actions: every task has one of them as its ``action_space``."""
