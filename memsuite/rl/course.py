"""The task that a run trains on, its progress, its budget and its iterations: everything that a curriculum changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memsuite.rl.streams import count_iterations
from memsuite.tasks import Task, TaskConfig


class Course:
    """The task a run trains on, and its count of environment steps.

    The length of an iteration may change during a run (:meth:`train_on`), so steps are counted rather than computed.
    The budget is a number of steps: whole iterations at the rollout length of the full task.

    Args:
        preset: the preset of the task.
        task_args: arguments that replace those of the preset.
        num_envs: number of environments of all processes together.
        rollout_length: steps of a rollout; None for one whole episode of the current task.
        steps: largest number of environment steps to train for; None takes the preset's number.

    Attributes:
        preset: the preset of the task.
        full_task: the final task, on which a run is evaluated.
        task: the task of the current training.
        args: arguments of the current task that differ from the full task's; empty without a curriculum.
        curriculum: the settings of the curriculum as plain values, for the record of the run; None without one.
        episodes: number of episodes drawn; a part of an episode counts as a fraction.
        iteration: number of finished iterations.
        env_steps: number of finished environment steps.
        budget: largest number of environment steps.
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
        """Iterations of the whole run, if the rest of the budget is trained at the current length."""
        return self.iteration + (self.budget - self.env_steps) // self.per_iteration

    @property
    def left(self) -> float:
        """Share of the budget that remains, from 1 to 0."""
        return max(0.0, 1 - self.env_steps / self.budget)

    def full_arguments(self) -> dict[str, Any]:
        """Return every argument of the full task by name."""
        return self.preset.arguments(**self._task_args)

    def make_task(self, args: dict[str, int]) -> Task:
        """Build the full task with these arguments replaced."""
        return self.preset.make(**{**self._task_args, **args})

    def train_on(self, args: dict[str, int]) -> None:
        """Train on the task with these arguments from the next rollout on."""
        self.task.close()
        self.task, self.args = self.make_task(args) if args else self.full_task, dict(args)

    def count(self) -> None:
        """Count one iteration; call this before the task changes for the next one."""
        self.iteration, self.env_steps = self.iteration + 1, self.env_steps + self.per_iteration
        self.episodes += self.per_iteration / self.task.horizon

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the arguments of the current task, as plain values."""
        counts = {"iteration": self.iteration, "env_steps": self.env_steps, "episodes": self.episodes}
        return {**counts, "training_args": self.args, "curriculum": self.curriculum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts and the task; a checkpoint of an early version holds the iteration alone."""
        self.train_on(state.get("training_args", {}))
        self.curriculum, self.iteration = state.get("curriculum"), state["iteration"]
        self.env_steps = state.get("env_steps", self.iteration * self.per_iteration)
        self.episodes = state.get("episodes", self.env_steps / self.task.horizon)


class Iterations:
    """The numbers of the remaining iterations, as a sized iterable.

    It ends at the end of the budget: a Trainer that iterates again, in a second epoch, gets the remaining iterations,
    or none. The length is always that of the whole run, because Lightning counts the earlier iterations too.

    Args:
        course: knows the number of iterations. It is queried before each iteration, because fewer of them fit into the
            rest of the budget once they get longer.
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
