"""The base classes of tasks: the interface, and how a scripted task is drawn, advanced and stepped."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.tasks.actions import ActionSpace, Continuous, Discrete, MultiDiscrete
from memsuite.types import Block, Image, Script, TimeStep

TaskT = TypeVar("TaskT", bound="Task")


@dataclass(frozen=True)
class Anchors:
    """Expected success of the reference policies that bound every score, each in [0, 1].

    Attributes:
        random: uniform over all actions.
        memoryless: the best policy that sees only the present observation.
        oracle: the best possible policy.
        unbound: in tasks that need binding, the best policy that knows all items but not which belong together.
    """

    random: float
    memoryless: float
    oracle: float = 1.0
    unbound: float | None = None

    def score(self, success: float) -> float:
        """Return ``(success - memoryless) / (oracle - memoryless)``: 0 without memory, 1 at best."""
        room = self.oracle - self.memoryless  # none where no memory is needed: NaN
        return (success - self.memoryless) / room if room else math.nan


class Task(ABC):
    """A batch of environments that share one definition.

    A task is built without a batch; :meth:`reset` starts one. Observations are ``[B, observation_dim]`` float32,
    actions ``[B]`` integers in ``[0, num_actions)``, or what else :attr:`action_space` says. All randomness comes from
    the generator given to :meth:`reset`.

    Attributes:
        horizon: the whole length of an episode in steps.
        observation_dim: width of an observation.
        num_actions: number of actions, where one of several is chosen; other tasks have no such attribute.
        images: the parts of an observation that are images.
        layout: the observation's channels in order, name to width; for pictures and for the anchors' policies.
        passive_steps: number of steps from the beginning of an episode whose actions change no observation or reward.
        open_steps: number of observations from the beginning of an episode that no action changes, though actions may
            change rewards and later observations. None of these steps is scored or ends an episode.
        can_fork: whether the task implements :meth:`fork`; all its episodes then end at the horizon.
        memory_types: which of MIKASA's types it asks for: object, spatial, sequential, capacity (arXiv 2502.10550).
    """

    memory_types: ClassVar[tuple[str, ...]] = ()
    passive_steps: int = 0
    open_steps: int = 0
    can_fork: bool = False
    _drawn_anew: ClassVar[tuple[str, ...]] = ()  # attributes that reset replaces, so a copy may share them
    horizon: int
    observation_dim: int
    num_actions: int
    images: tuple[Image, ...] = ()
    layout: dict[str, int]
    _space: ActionSpace | None = None

    @property
    def action_space(self) -> ActionSpace:
        """What the actions are: :class:`Discrete` unless the task says otherwise."""
        return self._space or Discrete(self.num_actions)

    @abstractmethod
    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes, on the generator's device."""

    @abstractmethod
    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment; a new episode begins at once where one ends."""

    @abstractmethod
    def anchors(self) -> Anchors:
        """Return the task's expected successes (random, memoryless, oracle)."""

    @abstractmethod
    def window_anchor(self, steps: int) -> float:
        """Return the expected success of the best policy that sees only the last ``steps`` observations.

        The policy may also know the number of the step, because a recurrent policy soon learns it.
        """

    @abstractmethod
    def bits_to_remember(self) -> float:
        """Return the information in bits that a perfect policy must carry across the delay."""

    @abstractmethod
    def steps_to_remember(self) -> int:
        """Return the largest number of steps between an item and the decision that needs it."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the batch's state as plain numbers and tensors, enough to continue with the same bits."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Restore the batch; later draws come from ``generator``. Return the current step."""

    def fork(self: TaskT, rows: Tensor) -> TaskT:
        """Return a separate batch whose environment ``i`` is a copy of environment ``rows[i]`` of this one.

        The copies differ once their actions differ. They share the drawn episode, and draw nothing from this task's
        generator until the episode ends.
        """
        raise UsageError(f"{type(self).__name__} cannot begin several environments with one script")

    @property
    def known_steps(self) -> int:
        """Number of observations from the beginning of an episode that can be read before any action is taken."""
        return max(self.passive_steps, self.open_steps) if self.can_fork else 0

    def look_ahead(self, now: TimeStep, steps: int) -> Tensor:
        """Return the observations of the next steps, which no action changes, ``[steps, B, D]``; nothing advances.

        Args:
            now: the present step, the first of an episode.
            steps: at most ``known_steps``.
        """
        other, seen = self.fork(torch.arange(len(now.is_first), device=now.is_first.device)), [now.observation]
        passive = torch.zeros_like(now.is_first, dtype=torch.int64)
        seen += [other.step(passive).observation for _ in range(steps - 1)]
        return torch.stack(seen)

    def walk(self, actions_TB: Tensor) -> tuple[Tensor, TimeStep]:
        """Take several of the first ``known_steps``; return the rewards ``[T, B]`` and the step that follows."""
        steps = [self.step(actions_B) for actions_B in actions_TB]
        return torch.stack([one.reward for one in steps]), steps[-1]

    def best_actions(self) -> Tensor:
        """Return the right actions ``[B]`` at the present step, which supervised training needs."""
        raise UsageError(f"{type(self).__name__} does not define the right action, so it cannot be supervised")

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Return the actions of the best policy that sees only the last ``K`` observations, ``window(K)``.

        Args:
            window_KBD: the last observations, the present one last; fewer than ``K`` only at an episode's beginning.
            step: the number of the present step, from 0.
            generator: source of the guesses if the window does not contain the answer.

        Returns:
            Actions ``[B]``; arbitrary at steps whose action has no effect.
        """
        raise UsageError(f"{type(self).__name__} has no anchor policy")

    def channel(self, name: str) -> slice:
        """Return the slice of an observation that holds the channel of that name."""
        start = sum(list(self.layout.values())[: list(self.layout).index(name)])
        return slice(start, start + self.layout[name])

    def _define(self, horizon: int, layout: dict[str, int], num_actions: int | ActionSpace) -> None:
        self.horizon, self.layout, self.observation_dim = horizon, layout, sum(layout.values())
        if isinstance(num_actions, MultiDiscrete | Continuous):
            self._space = num_actions
        else:
            self.num_actions = num_actions.n if isinstance(num_actions, Discrete) else num_actions

    def fresh(self: TaskT) -> TaskT:
        """Return a task of the same definition for a separate batch; neither affects the other.

        Raises:
            UsageError: an attribute cannot be copied; such a task must define this method itself.
        """
        running = {id(value): value for name in self._drawn_anew if (value := getattr(self, name, None)) is not None}
        try:
            return copy.deepcopy(self, running)
        except (TypeError, RuntimeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"task {type(self).__name__} cannot be copied for an evaluation: {error}; define its method fresh(), "
                "which returns a task of the same definition"
            ) from error

    def close(self) -> None:  # noqa: B027 (most tasks hold no resources)
        """Release the resources of the batch other than memory, such as simulators; only :meth:`reset` may follow."""


class ScriptedTask(Task):
    """A task whose observations do not depend on the actions: whole episodes are drawn at once.

    A subclass implements :meth:`script`. :meth:`advance` returns the next steps as one block; :meth:`step` returns them
    one at a time. Both go through the same episodes.
    """

    _script: Script
    _position: int
    _generator: torch.Generator
    _drawn_from: Tensor  # the generator's state when the running script was drawn
    _drawn_anew = ("_script", "_generator", "_drawn_from")

    @abstractmethod
    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` whole episodes of ``horizon`` steps, on the generator's device."""

    def shown_at(self, script: Script) -> Tensor | None:
        """Return when the item that each decision asks for was last shown, ``[T, B]``; None if it is not one item."""
        return None

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        self._generator, self._num_envs = generator, num_envs
        self._draw()
        return self._show()

    def _draw(self) -> None:
        self._drawn_from = self._generator.get_state()
        self._script = _as_declared(self.script(self._num_envs, self._generator))
        self._position = 0

    def step(self, actions_B: Tensor) -> TimeStep:
        """Score the actions and return the next step."""
        target, scored = self._script.targets[self._position], self._script.scored[self._position]
        correct = scored & (actions_B == target)
        self._position += 1
        if ended := self._position == self.horizon:
            self._draw()
        return self._show(scored, correct, ended)

    def _show(self, scored: Tensor | None = None, correct: Tensor | None = None, ended: bool = False) -> TimeStep:
        observation = self._script.observations[self._position]
        no = torch.zeros(self._num_envs, dtype=torch.bool, device=observation.device)
        return TimeStep(
            observation=observation,
            is_first=torch.full_like(no, self._position == 0),
            reward=(no if correct is None else correct).float(),
            terminated=torch.full_like(no, ended),
            truncated=no,
            final_observation=None,
            scored=no if scored is None else scored,
            correct=no if correct is None else correct,
        )

    def advance(self, steps: int) -> Block:
        """Return the next ``steps`` steps of every environment and advance past them; episodes may end inside."""
        parts: list[tuple[Tensor, Tensor, Tensor, int]] = []
        while steps > 0:
            if self._position == self.horizon:
                self._draw()
            begin, end = self._position, min(self._position + steps, self.horizon)
            s = self._script
            parts.append((s.observations[begin:end], s.targets[begin:end], s.scored[begin:end], begin))
            self._position, steps = end, steps - (end - begin)
        observations, targets, scored, begins = zip(*parts, strict=True)
        cat = torch.cat if len(parts) > 1 else lambda one: one[0]
        first, last = self._boundaries([len(part) for part in targets], list(begins))
        return Block(cat(observations), cat(targets), cat(scored), first, last)

    def _boundaries(self, lengths: list[int], begins: list[int]) -> tuple[Tensor, Tensor]:
        """Mark the steps that begin and that end an episode, ``[T, B]`` each."""
        pairs, device = zip(begins, lengths, strict=True), self._script.observations.device
        clock = torch.cat([torch.arange(b, b + n, device=device) for b, n in pairs]).unsqueeze(1)
        return tuple(clock.expand(-1, self._num_envs) == at for at in (0, self.horizon - 1))  # type: ignore[return-value]

    def peek(self) -> TimeStep:
        """Return the next step without advancing, as :meth:`step` would return it; draw new episodes if needed."""
        ended = self._position == self.horizon
        if ended:
            self._draw()
        return self._show(ended=ended)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the running script, and the generator state from which the script was drawn."""
        return {"num_envs": self._num_envs, "position": self._position, "drawn_from": self._drawn_from}

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Draw the running script again; afterwards ``generator`` is in the state after that draw."""
        self._generator, self._num_envs = generator, state["num_envs"]
        generator.set_state(state["drawn_from"])
        self._draw()
        self._position = state["position"]
        return self.peek()


def _as_declared(script: Script) -> Script:
    """Convert the dtypes of a user's script to the declared ones; the values are unchanged."""
    kinds = script.observations.dtype, script.targets.dtype, script.scored.dtype
    if kinds == (torch.float32, torch.int64, torch.bool):
        return script
    return Script(script.observations.float(), script.targets.long(), script.scored.bool())


def check_at_least(task: str, name: str, value: int, least: int) -> None:
    """Raise a usage error if ``value`` is below ``least``; the error names the smallest value that the task allows."""
    if value < least:
        raise UsageError(f"{task}: {name} {value} is too short; the shortest is {least}")
