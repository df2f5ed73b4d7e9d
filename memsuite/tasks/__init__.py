"""Memory tasks: vectorised and seeded, with the expected success of every kind of policy."""

from memsuite.tasks.assoc_recall import AssocRecall
from memsuite.tasks.base import Anchors, ScriptedTask, Task
from memsuite.tasks.copy_memory import CopyMemory
from memsuite.tasks.delayed_cue import DelayedCue
from memsuite.tasks.gym_task import GymTask
from memsuite.tasks.mazes.distractor_nav import DistractorNav
from memsuite.tasks.mazes.t_maze import TMaze
from memsuite.tasks.multi_cue_delay import MultiCueDelay
from memsuite.tasks.n_back import NBack
from memsuite.tasks.named import SECOND, SETS, SUITE, TASKS
from memsuite.tasks.pattern_binding import PatternBinding
from memsuite.tasks.permuted_copy import PermutedCopy
from memsuite.tasks.registry import (
    PRESETS,
    TaskConfig,
    get_benchmark_suite,
    get_task_config,
    make_task,
)

__all__ = [
    "PRESETS",
    "SECOND",
    "SETS",
    "SUITE",
    "TASKS",
    "Anchors",
    "AssocRecall",
    "CopyMemory",
    "DelayedCue",
    "DistractorNav",
    "GymTask",
    "MultiCueDelay",
    "NBack",
    "PatternBinding",
    "PermutedCopy",
    "ScriptedTask",
    "TMaze",
    "Task",
    "TaskConfig",
    "get_benchmark_suite",
    "get_task_config",
    "make_task",
]
