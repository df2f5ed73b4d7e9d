"""The tasks by name, and the published presets of each: the numbers behind every difficulty."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from memsuite.blame import blamed_on, home_of
from memsuite.errors import UsageError, unknown
from memsuite.imports import class_at, parameters_of
from memsuite.reading import plain_number
from memsuite.runs.config import DIFFICULTIES, is_plain
from memsuite.runs.ppo import EntropyWeighting
from memsuite.tasks.base import Anchors, ScriptedTask, Task
from memsuite.tasks.declared import check_declared
from memsuite.tasks.gym_task import UNLIMITED, GymTask, limit_of
from memsuite.tasks.named import SUITE, TASKS
from memsuite.tasks.reveal import revealed

GYM = "gym:"
USUAL_ENVS = 64  # environments of the original suite, which convert budgets in iterations to steps
UPDATES = {"easy": 100, "medium": 1000, "hard": 2000, "extreme": 5000}

# Million environment steps of a run without an explicit number, for easy, medium, hard and extreme; published results
# have these budgets. Environments that share a script count separately: with 32, one script read counts 32 times.
BUDGETS: dict[str, tuple[int, int, int, int]] = {
    "delayed_cue": (20, 40, 100, 500),
    "copy_memory": (150, 500, 1500, 4000),
    "assoc_recall": (150, 500, 1500, 4000),
    "n_back": (100, 300, 1000, 4000),
    "multi_cue_delay": (300, 900, 1500, 5000),
    "permuted_copy": (150, 500, 1500, 4000),
    "pattern_binding": (150, 500, 1500, 5000),
    "distractor_nav": (30, 100, 300, 1000),  # smaller, because a stepped environment step costs more
    "t_maze": (30, 100, 300, 1000),
    "rewrite": (100, 300, 1000, 4000),
    "state_tracking": (150, 500, 1500, 5000),
    "multi_recall": (150, 500, 1500, 4000),
    "selective_copy": (150, 500, 1500, 4000),
    "count_recall": (150, 500, 1500, 5000),
    "graph_recall": (150, 500, 1500, 4000),
    "growing_list": (150, 500, 1500, 5000),
    "key_to_door": (30, 100, 300, 1000),
}

REVEAL = "reveal"  # an argument of every task: show the answer (:func:`~memsuite.tasks.reveal.revealed`)
MOST = 10**9  # largest value of any argument of a task: a script of so many steps fits no memory


@dataclass(frozen=True)
class TaskConfig:
    """One cell of the benchmark.

    Attributes:
        task: name of the task.
        difficulty: one of easy, medium, hard, extreme.
        horizon: length of an episode in steps.
        args: the task's other arguments.
        target_success: the success that counts as solved, in [0, 1].
        updates: the original suite's budget, in PPO iterations of 64 environments.
        budget: environment steps of a run without an explicit number; None for ``updates`` iterations.
        discount: the discount of the published configuration. In a scripted task actions have no consequences, so the
            best policy is the same at every discount, and 0 has the least variance.
        gae_lambda: lambda of the published configuration; without effect at discount 0.
        entropy_coefficient: weight of the entropy bonus of the published configuration.
        entropy_weighting: which steps have it (:class:`~memsuite.runs.ppo.PPOConfig`).
    """

    task: str
    difficulty: str
    horizon: int
    args: dict[str, Any] = field(default_factory=dict)
    target_success: float = 1.0
    updates: int = 1000
    budget: int | None = None
    discount: float = 0.0
    gae_lambda: float = 0.0
    entropy_coefficient: float = 0.0
    entropy_weighting: EntropyWeighting = "advantages"

    @property
    def steps(self) -> int:
        """Environment steps of a run without an explicit number."""
        return self.budget or self.updates * USUAL_ENVS * self.horizon

    def arguments(self, **overrides: Any) -> dict[str, Any]:
        """Return every argument of the task by name, with the given ones replaced."""
        found = {"horizon": self.horizon, **self.args, **overrides}
        if self.task.startswith(GYM):
            return found
        parameters = parameters_of(task_class(self.task))
        return {name: one.default for name, one in parameters.items() if is_plain(one.default)} | found

    def make(self, **overrides: Any) -> Task:
        """Build the task, with the given arguments replaced."""
        if self.task.startswith(GYM):
            return self._make_gym(**overrides)
        cls = task_class(self.task)
        given = {name: plain_number(value) for name, value in overrides.items()}
        arguments = {"horizon": self.horizon, **self.args, **given}
        parameters = parameters_of(cls)
        if REVEAL in arguments and REVEAL not in parameters:
            return self._twin(arguments.pop(REVEAL), arguments)
        for name, value in arguments.items():
            if name not in parameters:
                raise unknown(f"argument of {self.task}", name, (*parameters, REVEAL))
            self._check_argument(name, value, parameters[name])
        if self.task in TASKS:
            return cls(**arguments)
        with blamed_on(who := f"task {self.task}{home_of(cls)} with {arguments}"):
            task = cls(**arguments)
            check_declared(who, task)
        return task

    def _twin(self, reveal: Any, arguments: dict[str, Any]) -> Task:
        if not isinstance(reveal, bool):
            raise UsageError(f"{self.task}: {REVEAL} is {reveal!r}; it must be true or false")
        task = self.make(**arguments)
        return revealed(task) if reveal else task

    def _check_argument(self, name: str, value: Any, parameter: inspect.Parameter) -> None:
        """Refuse a value that is not a number where one is needed; a user's class may also take other types."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        default, usual = parameter.default, parameter.annotation in (int, float, "int", "float")
        built_in = self.task in TASKS and parameter.annotation not in (str, "str")  # the task checks its texts itself
        wanted = built_in or usual or (isinstance(default, int | float) and not isinstance(default, bool))
        if wanted and not number:
            raise UsageError(f"{self.task}: {name} must be a number, not {value!r}")
        if parameter.annotation in ("int", int) and not isinstance(value, int):
            raise UsageError(f"{self.task}: {name} must be a whole number, not {value!r}")
        if number and not abs(value) <= MOST:
            most = "it must be finite" if math.isnan(value) else f"the largest value is {MOST}"
            raise UsageError(f"{self.task}: {name} is {value}; {most}")

    def _make_gym(self, **overrides: Any) -> Task:
        _, *valid = parameters_of(GymTask)
        for name in overrides:
            if name not in valid:
                raise unknown(f"argument of {self.task}", name, valid)
        return GymTask(self.task[len(GYM) :], **overrides)

    @property
    def anchors(self) -> Anchors:
        """Expected success at random, without memory, and of the best policy."""
        return self.make().anchors()

    def as_dict(self) -> dict[str, Any]:
        """Return the entry with its anchors and its memory requirements, as plain values."""
        task = self.make()
        anchors = task.anchors()
        return {
            "task": self.task,
            "difficulty": self.difficulty,
            "horizon": self.horizon,
            **self.args,
            "target_success": self.target_success,
            "updates": self.updates,
            "steps": self.steps,
            "memory_types": list(task.memory_types),
            "discount": self.discount,
            "gae_lambda": self.gae_lambda,
            "bits_to_remember": task.bits_to_remember(),
            "steps_to_remember": task.steps_to_remember(),
            "random": anchors.random,
            "memoryless": anchors.memoryless,
            "oracle": anchors.oracle,
            "unbound": anchors.unbound,
        }


def _presets(
    task: str, size: str, rows: list[tuple[int, Any, float]], **settings: Any
) -> dict[tuple[str, str], TaskConfig]:
    return {
        (task, difficulty): TaskConfig(
            task,
            difficulty,
            horizon,
            {size: value},
            target,
            UPDATES[difficulty],
            millions * 10**6,
            **settings,
        )
        for difficulty, (horizon, value, target), millions in zip(DIFFICULTIES, rows, BUDGETS[task], strict=True)
    }


# fmt: off
PRESETS: dict[tuple[str, str], TaskConfig] = {
    # task, size: (horizon, size, target success) for easy, medium, hard, extreme
    **_presets("delayed_cue", "num_cues", [(50, 4, 0.95), (200, 8, 0.90), (1000, 8, 0.80), (5000, 16, 0.70)]),
    **_presets("copy_memory", "seq_len", [(50, 10, 0.90), (200, 20, 0.85), (500, 30, 0.75), (2000, 50, 0.60)]),
    **_presets("assoc_recall", "num_pairs", [(50, 4, 0.90), (200, 8, 0.85), (800, 12, 0.75), (3000, 20, 0.65)]),
    **_presets("n_back", "n", [(100, 2, 0.85), (300, 3, 0.80), (1000, 4, 0.70), (5000, 5, 0.60)]),
    **_presets("multi_cue_delay", "num_cues", [(100, 2, 0.85), (300, 4, 0.80), (1000, 6, 0.70), (5000, 10, 0.60)]),
    **_presets("permuted_copy", "seq_len", [(50, 8, 0.85), (200, 15, 0.75), (500, 25, 0.65), (2000, 40, 0.50)]),
    **_presets("pattern_binding", "num_patterns", [(100, 3, 0.85), (300, 5, 0.75), (1000, 8, 0.65), (5000, 12, 0.55)]),
    # Here actions do have consequences, over the four steps of the walk, so a discount is needed. Its horizon is about
    # four steps: a longer one would credit the steps before the walk, whose actions change nothing.
    **_presets(
        "distractor_nav", "num_distractors", [(50, 2, 0.90), (200, 5, 0.80), (500, 10, 0.70), (2000, 20, 0.60)],
        discount=0.9, gae_lambda=0.9,
    ),
    # In the passive maze each step has its own penalty and the turn its own reward, so no later reward needs credit.
    # The bonus keeps the turn open while walking is learnt; without it the agent walks on at the junction, too.
    **_presets(
        "t_maze", "variant",
        [(50, "passive", 0.95), (200, "passive", 0.90), (1000, "passive", 0.80), (10000, "passive", 0.70)],
        entropy_coefficient=0.1, entropy_weighting="uniform",
    ),
    **_presets("rewrite", "cues", [(50, 2, 0.95), (200, 3, 0.90), (1000, 4, 0.80), (5000, 6, 0.70)]),
    **_presets("state_tracking", "moves", [(50, 6, 0.90), (200, 12, 0.85), (1000, 16, 0.75), (5000, 24, 0.65)]),
    **_presets("multi_recall", "num_keys", [(50, 4, 0.90), (200, 8, 0.85), (800, 12, 0.75), (3000, 20, 0.65)]),
    **_presets("selective_copy", "seq_len", [(50, 6, 0.90), (200, 12, 0.85), (500, 20, 0.75), (2000, 40, 0.60)]),
    **_presets("count_recall", "num_symbols", [(50, 2, 0.85), (200, 4, 0.75), (1000, 6, 0.65), (5000, 10, 0.55)]),
    **_presets("graph_recall", "num_nodes", [(50, 5, 0.85), (200, 8, 0.75), (800, 12, 0.65), (3000, 20, 0.55)]),
    **_presets("growing_list", "length", [(50, 4, 0.90), (200, 8, 0.85), (1000, 12, 0.75), (5000, 16, 0.65)]),
    # The door rewards what was done at the start, so nothing may be discounted on the way.
    **_presets(
        "key_to_door", "num_apples", [(50, 2, 0.90), (200, 5, 0.80), (500, 10, 0.70), (2000, 20, 0.60)],
        discount=1.0, gae_lambda=1.0,
    ),
}
# fmt: on


def get_task_config(task: str, difficulty: str) -> TaskConfig:
    """Return one preset; raise :class:`~memsuite.errors.UsageError` with the nearest names for an unknown one.

    ``gym:<id>`` is any Gymnasium environment (:class:`~memsuite.tasks.gym_task.GymTask`). It has its own horizon (1000
    for the budget if it has no limit), the difficulty sets only the budget of updates, and no success is defined.
    ``my_module.MyTask`` is a class of your own. The difficulty sets only the budget, and the target is a success of 1.
    """
    if difficulty not in DIFFICULTIES:
        raise unknown("difficulty", difficulty, DIFFICULTIES)
    if isinstance(task, str) and task.startswith(GYM):
        horizon = limit_of(task[len(GYM) :]) or UNLIMITED
        return TaskConfig(task, difficulty, horizon, {}, math.nan, UPDATES[difficulty], discount=0.99, gae_lambda=0.95)
    if (task, difficulty) in PRESETS:
        return PRESETS[task, difficulty]
    return _config_of_own(task, task_class(task), difficulty)


def task_class(name: str) -> type[Task]:
    """Find a task by its name (``delayed_cue``) or by the path of your own class (``my_module.MyTask``)."""
    if not isinstance(name, str):
        raise UsageError(f"task is {name!r}; give its name, or the path of your class as a text: 'my_module.MyTask'")
    if name in TASKS:
        return TASKS[name]
    if not name.rpartition(".")[0]:
        raise unknown("task", name, TASKS)
    return class_at(name, Task, "task")  # type: ignore[type-abstract]


def _config_of_own(name: str, cls: type[Task], difficulty: str) -> TaskConfig:
    """Build the preset of a user's task: the default arguments, and a discount only if actions may need one."""
    parameter = parameters_of(cls).get("horizon")
    if parameter is None or not isinstance(parameter.default, int):
        raise UsageError(f"task {name!r}: its __init__ needs an argument horizon with a default")
    discount, gae_lambda = (0.0, 0.0) if issubclass(cls, ScriptedTask) else (0.99, 0.95)
    budget = UPDATES[difficulty]
    return TaskConfig(name, difficulty, parameter.default, updates=budget, discount=discount, gae_lambda=gae_lambda)


def get_benchmark_suite(difficulty: str, tasks: Iterable[str] | str | None = None) -> list[TaskConfig]:
    """Return the presets of one difficulty, for the first eight tasks or for the named ones (``SECOND``)."""
    named = [tasks] if isinstance(tasks, str) else SUITE if tasks is None else tasks
    return [get_task_config(task, difficulty) for task in named]


def make_task(name: str, difficulty: str = "medium", **overrides: Any) -> Task:
    """Build a task from its preset, with any argument replaced: ``make_task("delayed_cue", "easy", horizon=80)``."""
    return get_task_config(name, difficulty).make(**overrides)
