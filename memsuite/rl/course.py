"""What a run trains on, how far it has come, how far it may go, and its iterations; all that a curriculum changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memsuite.rl.streams import count_iterations
from memsuite.tasks import Task, TaskConfig


class Course:
    """The task a run trains on, and its count of environment steps.

    The length of an iteration may change on the way (:meth:`train_on`), so steps are counted, not computed, and the
    budget is one of steps: of whole iterations at the length the run is to end with.

    Args:
        preset: the task's.
        task_args: arguments of the task in place of the preset's.
        num_envs: environments of all processes together.
        rollout_length: steps of a rollout; None for one whole episode of what is trained on.
        steps: environment steps to train for at most; None takes the preset's number.

    Attributes:
        preset: the task's.
        full_task: the task that is to be learnt in the end, on which a run is evaluated.
        task: the one trained on now.
        args: its arguments that are not the full task's; empty if none ever were.
        curriculum: what decides them, as plain values for the record of the run; None if nothing does.
        episodes: episodes drawn, a part of one counted as its share.
        iteration: iterations done.
        env_steps: environment steps done.
        budget: environment steps to do at most.
    """

    def __init__(
        self,
        preset: TaskConfig,
        task_args: dict[str, Any],
        num_envs: int,
        rollout_length: int | None,
        steps: int | None,
    ) -> None:
        self.preset, self._task_args = preset, task_args
        self._num_envs, self._rollout_length = num_envs, rollout_length
        self.full_task = self.task = preset.make(**task_args)
        self.args: dict[str, int] = {}
        self.curriculum: dict[str, Any] | None = None
        self.iteration = self.env_steps = 0
        self.episodes = 0.0
        self.budget = self.per_iteration * count_iterations(steps, num_envs, self.rollout_length, preset.steps)

    @property
    def rollout_length(self) -> int:
        """Steps of the next rollout."""
        return self._rollout_length or self.task.horizon

    @property
    def per_iteration(self) -> int:
        """Environment steps of the next iteration."""
        return self._num_envs * self.rollout_length

    @property
    def iterations(self) -> int:
        """Iterations of the whole run, if what is left of the budget is trained at the present length."""
        return self.iteration + (self.budget - self.env_steps) // self.per_iteration

    @property
    def left(self) -> float:
        """Share of the budget that is left, from 1 to 0."""
        return max(0.0, 1 - self.env_steps / self.budget)

    def full_arguments(self) -> dict[str, Any]:
        """Return every argument of the full task by name."""
        return self.preset.arguments(**self._task_args)

    def make_task(self, args: dict[str, int]) -> Task:
        """Build the full task with these arguments in place of its own."""
        return self.preset.make(**{**self._task_args, **args})

    def train_on(self, args: dict[str, int]) -> None:
        """Train on the task with these arguments from the next rollout on."""
        self.task.close()
        self.task, self.args = self.make_task(args) if args else self.full_task, dict(args)

    def count(self) -> None:
        """Count one iteration, before anything is changed for the next."""
        self.iteration, self.env_steps = self.iteration + 1, self.env_steps + self.per_iteration
        self.episodes += self.per_iteration / self.task.horizon

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and what is trained on, as plain values."""
        counts = {"iteration": self.iteration, "env_steps": self.env_steps, "episodes": self.episodes}
        return {**counts, "training_args": self.args, "curriculum": self.curriculum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them; a checkpoint from before there were curricula holds the iteration alone."""
        self.train_on(state.get("training_args", {}))
        self.curriculum, self.iteration = state.get("curriculum"), state["iteration"]
        self.env_steps = state.get("env_steps", self.iteration * self.per_iteration)
        self.episodes = state.get("episodes", self.env_steps / self.task.horizon)


class Iterations:
    """The numbers of the iterations still to run, as a sized iterable.

    It ends where the budget does: a Trainer that asks once more, in a second epoch, is given what is left, or nothing.
    The length stays the whole run's: Lightning counts what was run before.

    Args:
        course: tells how many iterations there are, and were. It is asked before each one, as fewer fit into what is
            left of a budget once they get longer.
    """

    def __init__(self, course: Course) -> None:
        self.course = course

    def __len__(self) -> int:
        return self.course.iterations

    def __iter__(self) -> Iterator[int]:
        number = self.course.iteration
        while number < self.course.iterations:
            yield number
            number += 1
