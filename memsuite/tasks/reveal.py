"""Twins without a memory problem: the same task with the answer shown when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from memsuite.errors import UsageError
from memsuite.tasks.actions import Discrete
from memsuite.tasks.base import Anchors, ScriptedTask, Task
from memsuite.types import Script, TimeStep

ANSWER = "answer"  # the channel, one for each action


def revealed(task: Task) -> Task:
    """Return the twin of a task that shows the right action at each scored decision, as a one-hot after the rest.

    Everything else stays: lengths, items, actions, rewards. What a model reaches there shows that it can read, act and
    be trained; what it loses without the answer is the price of memory, the observability gap (POPGym Arcade, arXiv
    2503.01450). In a task that is stepped the answer is shown where actions begin to matter for what is seen.

    Raises:
        UsageError: the task does not know the right action, or its action is not one of several.
    """
    if not isinstance(task.action_space, Discrete):
        raise UsageError(f"reveal shows one of several actions; those of {type(task).__name__} are {task.action_space}")
    return RevealedScript(task) if isinstance(task, ScriptedTask) else RevealedSteps(task)


class Revealed(Task):
    """What both kinds of twins share: the wider observation, and anchors of a policy that sees the answer."""

    def _twin_of(self, task: Task) -> None:
        self.inner = task
        self._define(task.horizon, {**task.layout, ANSWER: task.num_actions}, task.num_actions)
        self.memory_types = task.memory_types  # type: ignore[misc]

    def anchors(self) -> Anchors:
        """Return what random actions reach in the task itself, and 1 for whoever reads the answer."""
        return Anchors(random=self.inner.anchors().random, memoryless=1.0)

    def window_anchor(self, steps: int) -> float:
        """Return 1: every window contains the present observation."""
        return 1.0

    def best_guess(self, window_KBD: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Read the answer; where none is shown, act as the task's own policy does."""
        answer = window_KBD[-1][:, self.channel(ANSWER)]
        usual = self.inner.best_guess(window_KBD[:, :, : self.inner.observation_dim], step, generator)
        return torch.where(answer.any(-1), answer.argmax(-1), usual)

    def bits_to_remember(self) -> float:
        """Return the bits of the task itself, which the twin need not remember."""
        return self.inner.bits_to_remember()

    def steps_to_remember(self) -> int:
        """Return the steps of the task itself, so that both twins are trained from the same initialisation."""
        return self.inner.steps_to_remember()


class RevealedScript(Revealed, ScriptedTask):
    """The twin of a scripted task.

    Args:
        task: the task.
    """

    inner: ScriptedTask

    def __init__(self, task: ScriptedTask) -> None:
        self._twin_of(task)

    def script(self, num_envs: int, generator: torch.Generator) -> Script:
        """Draw the episodes of the task, and add the answers."""
        drawn = self.inner.script(num_envs, generator)
        answers = one_hot(drawn.targets, self.num_actions) * drawn.scored.unsqueeze(-1)
        observations = torch.cat([drawn.observations, answers.to(drawn.observations)], -1)
        return Script(observations, drawn.targets, drawn.scored)


class RevealedSteps(Revealed):
    """The twin of a task that is stepped.

    Args:
        task: the task; it must know the right action.
    """

    def __init__(self, task: Task) -> None:
        self._twin_of(task)
        self.passive_steps, self.open_steps, self.can_fork = task.passive_steps, task.open_steps, task.can_fork
        self._clock = 0

    def reset(self, num_envs: int, generator: torch.Generator) -> TimeStep:
        """Begin ``num_envs`` episodes."""
        self._clock = 0
        return self._shown(self.inner.reset(num_envs, generator))

    def step(self, actions_B: Tensor) -> TimeStep:
        """Take one step in every environment."""
        self._clock += 1
        return self._shown(self.inner.step(actions_B))

    def _shown(self, now: TimeStep) -> TimeStep:
        """Add the answer to a step."""
        self._clock = 0 if now.is_first.all() else self._clock
        answer = one_hot(self.inner.best_actions(), self.num_actions).to(now.observation)
        if self._clock < self.inner.known_steps:
            answer = torch.zeros_like(answer)
        last = now.final_observation
        wide = None if last is None else torch.cat([last, torch.zeros_like(answer)], -1)
        return replace(now, observation=torch.cat([now.observation, answer], -1), final_observation=wide)

    def fork(self, rows: Tensor) -> RevealedSteps:
        """Return copies of the given environments."""
        other = RevealedSteps(self.inner.fork(rows))
        other._clock = self._clock
        return other

    def best_actions(self) -> Tensor:
        """Return the right actions of the task."""
        return self.inner.best_actions()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the task."""
        return {**self.inner.state_dict(), "shown": self._clock}

    def load_state_dict(self, state: dict[str, Any], generator: torch.Generator) -> TimeStep:
        """Restore the batch."""
        self._clock = state["shown"]
        return self._shown(self.inner.load_state_dict({k: v for k, v in state.items() if k != "shown"}, generator))
