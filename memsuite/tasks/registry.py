"""The tasks by name, and the published presets of each: what one difficulty means, in numbers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from memsuite.errors import UsageError, unknown
from memsuite.tasks.base import Anchors, Task
from memsuite.tasks.delayed_cue import DelayedCue

DIFFICULTIES = ("easy", "medium", "hard", "extreme")
UPDATES = {"easy": 100, "medium": 1000, "hard": 2000, "extreme": 5000}
TASKS: dict[str, type[Task]] = {"delayed_cue": DelayedCue}


@dataclass(frozen=True)
class TaskConfig:
    """One cell of the benchmark.

    Attributes:
        task: name of the task.
        difficulty: one of easy, medium, hard, extreme.
        horizon: length of an episode in steps.
        args: the task's other arguments.
        target_success: the success that counts as solved, in [0, 1].
        updates: the budget in PPO iterations.
        discount: the discount of the published configuration. In a scripted task actions have no consequences, so the
            best policy is the same at every discount and 0 has the least variance.
        gae_lambda: lambda of the published configuration; immaterial at discount 0.
    """

    task: str
    difficulty: str
    horizon: int
    args: dict[str, Any] = field(default_factory=dict)
    target_success: float = 1.0
    updates: int = 1000
    discount: float = 0.0
    gae_lambda: float = 0.0

    def make(self, **overrides: Any) -> Task:
        """Build the task, with any argument replaced."""
        cls = TASKS[self.task]
        arguments = {"horizon": self.horizon, **self.args, **overrides}
        valid = list(inspect.signature(cls).parameters)
        for name, value in arguments.items():
            if name not in valid:
                raise unknown(f"argument of {self.task}", name, valid)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{self.task}: {name} must be a number, not {value!r}")
        return cls(**arguments)

    @property
    def anchors(self) -> Anchors:
        """Expected success at random, without memory, and at best."""
        return self.make().anchors()

    def as_dict(self) -> dict[str, Any]:
        """Return the entry with its anchors and what there is to remember, as plain values."""
        task = self.make()
        anchors = task.anchors()
        return {
            "task": self.task,
            "difficulty": self.difficulty,
            "horizon": self.horizon,
            **self.args,
            "target_success": self.target_success,
            "updates": self.updates,
            "discount": self.discount,
            "gae_lambda": self.gae_lambda,
            "bits_to_remember": task.bits_to_remember(),
            "steps_to_remember": task.steps_to_remember(),
            "random": anchors.random,
            "memoryless": anchors.memoryless,
            "oracle": anchors.oracle,
        }


def _presets(task: str, size: str, rows: list[tuple[int, int, float]]) -> dict[tuple[str, str], TaskConfig]:
    return {
        (task, difficulty): TaskConfig(task, difficulty, horizon, {size: value}, target, UPDATES[difficulty])
        for difficulty, (horizon, value, target) in zip(DIFFICULTIES, rows, strict=True)
    }


PRESETS: dict[tuple[str, str], TaskConfig] = {
    **_presets("delayed_cue", "num_cues", [(50, 4, 0.95), (200, 8, 0.90), (1000, 8, 0.80), (5000, 16, 0.70)]),
}


def get_task_config(task: str, difficulty: str) -> TaskConfig:
    """Return one preset; raises :class:`~memsuite.errors.UsageError` with the nearest names for an unknown one."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if difficulty not in DIFFICULTIES:
        raise unknown("difficulty", difficulty, DIFFICULTIES)
    return PRESETS[task, difficulty]


def get_benchmark_suite(difficulty: str, tasks: list[str] | None = None) -> list[TaskConfig]:
    """Return the presets of one difficulty, for all tasks or for those named."""
    return [get_task_config(task, difficulty) for task in (TASKS if tasks is None else tasks)]


def make_task(name: str, difficulty: str = "medium", **overrides: Any) -> Task:
    """Build a task from its preset, with any argument replaced: ``make_task("delayed_cue", "easy", horizon=80)``."""
    return get_task_config(name, difficulty).make(**overrides)
