"""What a task is, and how a scripted one is drawn, advanced and stepped."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from memsuite.errors import UsageError
from memsuite.types import Block, Script, TimeStep

TaskT = TypeVar("TaskT", bound="Task")


@dataclass(frozen=True)
class Anchors:
    """Expected success of policies that bracket every score, each in [0, 1].

    Attributes:
        random: uniform over all actions.
        memoryless: the best policy that sees only the present observation.
        oracle: the best policy there is.
        unbound: in tasks that bind, the best policy that knows all that was shown but not what goes with what.
    """

    random: float
    memoryless: float
    oracle: float = 1.0
    unbound: float | None = None

    def score(self, success: float) -> float:
        """Return ``(success - memoryless) / (oracle - memoryless)``: 0 without memory, 1 at best."""
        return (success - self.memoryless) / (self.oracle - self.memoryless)


class Task(ABC):
    """A batch of environments that share one definition.

    A task is made without a batch; :meth:`reset` starts one. Observations are ``[B, observation_dim]`` float32, actions
    ``[B]`` integers in ``[0, num_actions)``. All randomness comes from the generator given to :meth:`reset`.

    Attributes:
        horizon: the whole length of an episode in steps.
        observation_dim: width of an observation.
        num_actions: number of actions.
        layout: the observation's channels in order, name to width; for pictures and for the anchors' policies.
        passive_steps: how many steps from the beginning of an episode actions change nothing that is seen or rewarded.
        can_fork: whether :meth:`fork` is there.
    """

    passive_steps: int = 0
    can_fork: bool = False
    _drawn_anew: ClassVar[tuple[str, ...]] = ()  # what reset replaces, so that a copy need not have its own
    horizon: int
    observation_dim: int
    num_actions: int
    layout: dict[str, int]

    @abstractmethod
    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes, on the generator's device."""

    @abstractmethod
    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment; an episode that ends is followed by a new one at once."""

    @abstractmethod
    def anchors(self) -> Anchors:
        """Return the task's expected successes (random, memoryless, oracle)."""

    @abstractmethod
    def window_anchor(self, steps: int) -> float:
        """Return the expected success of the best policy that sees only the last ``steps`` observations.

        The policy may also know the number of the step, as a recurrent one soon does: no task is easier for it.
        """

    @abstractmethod
    def bits_to_remember(self) -> float:
        """Return the information in bits that a perfect policy must carry across the delay."""

    @abstractmethod
    def steps_to_remember(self) -> int:
        """Return the most steps that pass between something shown and the decision that needs it."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the batch's state as plain numbers and tensors, enough to go on with the same bits."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Restore the batch; later draws come from ``generator``. Returns the step that was current."""

    def fork(self: TaskT, rows: Tensor) -> TaskT:
        """Return a batch of its own in which environment ``i`` stands where environment ``rows[i]`` of this one does.

        The copies part when their actions differ. They share what was drawn, and draw nothing from this task's
        generator until the episode ends.
        """
        raise UsageError(f"{type(self).__name__} cannot begin several environments with one script")

    def best_actions(self) -> Tensor:
        """Return the actions ``[B]`` of the best policy at the present step, which supervision asks for."""
        raise UsageError(f"{type(self).__name__} does not tell which action is right, so nothing can supervise it")

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Act as the best policy that sees only the last ``K`` observations, ``window(K)``.

        Args:
            window_KBD: the last observations, the present one last; fewer than ``K`` only at an episode's beginning.
            step: the number of the present step, from 0.
            generator: source of the guesses where the window does not tell.

        Returns:
            Actions ``[B]``; immaterial at steps whose action has no effect.
        """
        raise UsageError(f"{type(self).__name__} has no anchor policy")

    def channel(self, name: str) -> slice:
        """Return where the channel of that name lies in an observation."""
        start = sum(list(self.layout.values())[: list(self.layout).index(name)])
        return slice(start, start + self.layout[name])

    def _define(self, horizon: int, layout: dict[str, int], num_actions: int) -> None:
        self.horizon, self.layout, self.num_actions = horizon, layout, num_actions
        self.observation_dim = sum(layout.values())

    def fresh(self: TaskT) -> TaskT:
        """Return a task of the same definition, to run a batch of its own: neither changes anything of the other.

        Raises:
            UsageError: an attribute cannot be copied; such a task defines this method itself.
        """
        running = {id(value): value for name in self._drawn_anew if (value := getattr(self, name, None)) is not None}
        try:
            return copy.deepcopy(self, running)
        except (TypeError, RuntimeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"task {type(self).__name__} cannot be copied for an evaluation: {error}; define its method fresh(), "
                "which returns a task of the same definition"
            ) from error

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """Let go of what the batch holds besides memory, such as simulators; only :meth:`reset` may follow."""


class ScriptedTask(Task):
    """A task whose observations do not depend on the actions: whole episodes are drawn at once.

    A subclass implements :meth:`script`. :meth:`advance` gives the next steps as one block; :meth:`step` gives them one
    at a time. Both walk through the same episodes.
    """

    _script: Script
    _position: int
    _generator: torch.Generator
    _drawn_from: Tensor  # the generator's state when the running script was drawn
    _drawn_anew = ("_script", "_generator", "_drawn_from")

    @abstractmethod
    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw ``num_envs`` whole episodes of ``horizon`` steps, on the generator's device."""

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
        """Judge the actions and show the next step."""
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
        """Return the next ``steps`` steps of every environment and move past them; episodes may end inside."""
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
        clock = torch.cat([torch.arange(b, b + n) for b, n in zip(begins, lengths, strict=True)])
        clock = clock.to(self._script.observations.device).unsqueeze(1).expand(-1, self._num_envs)
        return clock == 0, clock == self.horizon - 1

    def peek(self) -> TimeStep:
        """Return the step that comes next, as :meth:`step` would have shown it; draws the next episodes if need be."""
        ended = self._position == self.horizon
        if ended:
            self._draw()
        return self._show(ended=ended)

    def state_dict(self) -> dict[str, Any]:
        """Return the running script as the generator state it was drawn from, and the position in it."""
        return {"num_envs": self._num_envs, "position": self._position, "drawn_from": self._drawn_from}

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Draw the running script once more; ``generator`` is left as it was after that draw."""
        self._generator, self._num_envs = generator, state["num_envs"]
        generator.set_state(state["drawn_from"])
        self._draw()
        self._position = state["position"]
        return self.peek()


def _as_declared(script: Script) -> Script:
    """Return a script of a user's whole numbers or 64 bits in the kinds that are declared, each value as it was."""
    kinds = script.observations.dtype, script.targets.dtype, script.scored.dtype
    if kinds == (torch.float32, torch.int64, torch.bool):
        return script
    return Script(script.observations.float(), script.targets.long(), script.scored.bool())


def check_declared(who: str, task: Task) -> None:
    """Raise a usage error for sizes of a user's task that are no whole numbers above 0.

    Args:
        who: names the task, and where it stands.
        task: was made a moment ago.
    """
    for name in ("horizon", "observation_dim", "num_actions"):
        value = getattr(task, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{who}: {name} is {value!r}; its __init__ must call self._define, with whole numbers")
    steps = task.steps_to_remember()
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UsageError(f"{who}: steps_to_remember() returns {steps!r}; it must be a whole number of steps")


def check_at_least(task: str, name: str, value: int, least: int) -> None:
    """Raise a usage error that names the shortest (or smallest) value the task can take."""
    if value < least:
        raise UsageError(f"{task}: {name} {value} is too short; the shortest is {least}")
