"""The common part of the built-in tasks that are stepped: episodes side by side on one clock, saved and copied."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from memsuite.tasks.base import Task
from memsuite.types import TimeStep

SteppedT = TypeVar("SteppedT", bound="SteppedTask")


class SteppedTask(Task):
    """A task whose running episodes are a clock and a few tensors, which no step changes in place.

    A subclass draws them in :meth:`_draw`, and implements :meth:`~memsuite.tasks.base.Task.step`.

    Attributes:
        held: names of the tensors, without the underscore of their attributes; the environments are their last
            dimension.
    """

    can_fork = True
    held: ClassVar[tuple[str, ...]]
    _generator: torch.Generator
    _num_envs: int
    _clock: int

    @abstractmethod
    def _draw(self) -> None:
        """Draw new episodes into the tensors, and set the clock to 0."""

    @abstractmethod
    def _show(self) -> TimeStep:
        """Return the present step, which ends no episode."""

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        self._generator, self._num_envs = generator, num_envs
        self._draw()
        return self._show()

    def fork(self: SteppedT, rows: Tensor) -> SteppedT:
        """Return copies of the given environments."""
        other = copy.copy(self)  # the attributes that differ are set below, and nothing is changed in place
        other._num_envs, other._generator = len(rows), torch.Generator(rows.device)
        for name in self.held:
            setattr(other, f"_{name}", getattr(self, f"_{name}").index_select(-1, rows))
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return the running episodes and the generator's state."""
        tensors = {name: getattr(self, f"_{name}") for name in self.held}
        return {"num_envs": self._num_envs, "clock": self._clock, "generator": self._generator.get_state(), **tensors}

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Continue the saved episodes; ``generator`` is restored to its saved state."""
        generator.set_state(state["generator"])
        self._generator, self._num_envs, self._clock = generator, state["num_envs"], state["clock"]
        for name in self.held:
            setattr(self, f"_{name}", state[name].to(generator.device))
        return self._show()
