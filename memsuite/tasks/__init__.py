"""Memory tasks: vectorised, seeded, with the success every kind of policy is expected to reach."""

from memsuite.tasks.base import Anchors, ScriptedTask, Task
from memsuite.tasks.delayed_cue import DelayedCue
from memsuite.tasks.registry import (
    DIFFICULTIES,
    PRESETS,
    TASKS,
    TaskConfig,
    get_benchmark_suite,
    get_task_config,
    make_task,
)

__all__ = [
    "DIFFICULTIES",
    "PRESETS",
    "TASKS",
    "Anchors",
    "DelayedCue",
    "ScriptedTask",
    "Task",
    "TaskConfig",
    "get_benchmark_suite",
    "get_task_config",
    "make_task",
]
