"""The built-in tasks by name, and the sets they come in."""

from __future__ import annotations

from memsuite.tasks.assoc_recall import AssocRecall
from memsuite.tasks.base import Task
from memsuite.tasks.copy_memory import CopyMemory
from memsuite.tasks.delayed_cue import DelayedCue
from memsuite.tasks.mazes.distractor_nav import DistractorNav
from memsuite.tasks.mazes.t_maze import TMaze
from memsuite.tasks.multi_cue_delay import MultiCueDelay
from memsuite.tasks.n_back import NBack
from memsuite.tasks.pattern_binding import PatternBinding
from memsuite.tasks.permuted_copy import PermutedCopy
from memsuite.tasks.second.count_recall import CountRecall
from memsuite.tasks.second.graph_recall import GraphRecall
from memsuite.tasks.second.growing_list import GrowingList
from memsuite.tasks.second.key_to_door import KeyToDoor
from memsuite.tasks.second.multi_recall import MultiRecall
from memsuite.tasks.second.rewrite import Rewrite
from memsuite.tasks.second.selective_copy import SelectiveCopy
from memsuite.tasks.second.state_tracking import StateTracking

# The eight tasks of the benchmark, and eight more.
FIRST_SET: dict[str, type[Task]] = {
    "delayed_cue": DelayedCue,
    "copy_memory": CopyMemory,
    "assoc_recall": AssocRecall,
    "n_back": NBack,
    "multi_cue_delay": MultiCueDelay,
    "permuted_copy": PermutedCopy,
    "pattern_binding": PatternBinding,
    "distractor_nav": DistractorNav,
}
SECOND_SET: dict[str, type[Task]] = {
    "rewrite": Rewrite,
    "state_tracking": StateTracking,
    "multi_recall": MultiRecall,
    "selective_copy": SelectiveCopy,
    "count_recall": CountRecall,
    "graph_recall": GraphRecall,
    "growing_list": GrowingList,
    "key_to_door": KeyToDoor,
}
# The T-maze belongs to neither: it is there to stand beside published work.
TASKS: dict[str, type[Task]] = {**FIRST_SET, "t_maze": TMaze, **SECOND_SET}
SUITE, SECOND = tuple(FIRST_SET), tuple(SECOND_SET)
SETS = {"first": SUITE, "second": SECOND, "all": tuple(TASKS)}
