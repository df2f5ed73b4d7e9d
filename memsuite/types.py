"""The containers that are passed between rooms, with their shapes. No maths here.

``T`` is time, ``B`` environments, ``D`` features. Every container is frozen: collected data is never edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, Union

from torch import Tensor

State: TypeAlias = Union[Tensor, "tuple[State, ...]", "dict[str, State]"]
"""A controller's memory: a tree of tensors, each with the batch in dimension 0."""


@dataclass(frozen=True)
class Image:
    """A part of an observation that is an image, flattened.

    Attributes:
        start: index of its first number in the observation.
        shape: its shape before it was flattened: (height, width, channels), or (channels, height, width).
        channels_last: whether the channels are the last of the three.
    """

    start: int
    shape: tuple[int, int, int]
    channels_last: bool

    @property
    def size(self) -> int:
        """Number of its numbers."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class Script:
    """A batch of whole episodes of a scripted task, drawn at once.

    Attributes:
        observations: ``[T, B, D]`` float32, the observation at each step.
        targets: ``[T, B]`` int64, the right action; meaningful only where ``scored``.
        scored: ``[T, B]`` bool, the steps whose action is judged.
    """

    observations: Tensor
    targets: Tensor
    scored: Tensor


@dataclass(frozen=True)
class TimeStep:
    """The data of every environment after a reset or a step.

    An environment whose episode ended has already begun the next one (same-step autoreset): ``observation`` belongs
    to the new episode, ``final_observation`` to the old.

    Attributes:
        observation: ``[B, D]`` the observation to act on next.
        is_first: ``[B]`` bool, ``observation`` begins an episode.
        reward: ``[B]`` reward of the action just taken (0 after a reset).
        terminated: ``[B]`` bool, the action just taken ended the episode; the value of its successor is 0.
        truncated: ``[B]`` bool, the episode was cut short; the value of ``final_observation`` continues its return.
        final_observation: ``[B, D]`` the successor in the old episode, valid where ``truncated``; None if no row is.
        scored: ``[B]`` bool, the action just taken was a scored decision.
        correct: ``[B]`` bool, it was scored and right.
    """

    observation: Tensor
    is_first: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_observation: Tensor | None
    scored: Tensor
    correct: Tensor


@dataclass(frozen=True)
class Block:
    """The next ``T`` steps of a scripted task; episodes may begin and end inside.

    Attributes:
        observations: ``[T, B, D]``.
        targets: ``[T, B]`` int64.
        scored: ``[T, B]`` bool.
        is_first: ``[T, B]`` bool, the step begins an episode.
        terminated: ``[T, B]`` bool, the step ends an episode.
    """

    observations: Tensor
    targets: Tensor
    scored: Tensor
    is_first: Tensor
    terminated: Tensor


@dataclass(frozen=True)
class Trajectory:
    """One rollout, as PPO reads it. Made by :func:`memsuite.rl.rollout.collect`; holds no gradients.

    Attributes:
        observations: ``[T, B, D]``.
        is_first: ``[T, B]`` bool; the controller's state is reset before such a step.
        actions: ``[T, B]`` int64; ``[T, B, N]`` where an action is several numbers, int64 or float32.
        log_probs: ``[T, B]`` log-probability of each action when it was taken.
        values: ``[T, B]`` the critic's estimate at each step.
        next_values: ``[T, B]`` the estimate at each step's successor. It is 0 after ``terminated``. After ``truncated``
            and at the end of the rollout it is the value of the final observation under the memory that led to it.
        rewards: ``[T, B]``.
        terminated: ``[T, B]`` bool.
        truncated: ``[T, B]`` bool.
        scored: ``[T, B]`` bool.
        correct: ``[T, B]`` bool.
        initial_state: the controller's state before the first step.
        draws: the uniform random numbers that drew the actions, of the shape of ``actions``; None for actions that were
            not drawn.
    """

    observations: Tensor
    is_first: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    next_values: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    scored: Tensor
    correct: Tensor
    initial_state: State
    draws: Tensor | None = None
