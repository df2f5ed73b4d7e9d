"""The size of a run from its settings alone, without Lightning, so that a look at a thousand runs takes seconds.

A run that sets only what :class:`~memsuite.runs.RunConfig` holds is built here as ``memsuite fit`` would build it:
the same declarations, the same parser, the same task, controller and course; only the Trainer is left out.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from memsuite.imports import also_in
from memsuite.launch.arguments import Arguments
from memsuite.rl.course import Course
from memsuite.rl.resolve import model_of, plan, resolve
from memsuite.runs import PPOConfig, RunConfig
from memsuite.runs.config import NAMES
from memsuite.runs.ppo import ResolvedPPO
from memsuite.suite.estimate import Size
from memsuite.suite.grid import Run, option
from memsuite.tasks import ScriptedTask

PPO = "model.ppo."


def size_of(config: RunConfig, course: Course) -> Size:
    """Return how much work a run is.

    Args:
        config: its settings with every default filled in.
        course: of the run.
    """
    ppo, task = cast(ResolvedPPO, config.ppo), course.full_task
    return Size(course.budget, task.horizon, config.controller, isinstance(task, ScriptedTask), ppo.draws, ppo.epochs)


class Look:
    """Sizes of runs; what two runs have in common is parsed and built once."""

    def __init__(self) -> None:
        self.parser = Arguments(prog="memsuite fit", exit_on_error=False)
        self.parser.add_class_arguments(RunConfig, None, skip={"ppo"})
        self.parser.add_class_arguments(PPOConfig, "model.ppo")
        self._known = self.parser.known_keys()
        self._value = functools.cache(self._parsed)
        self._built: set[str] = set()

    def takes(self, run: Run) -> bool:
        """Tell whether every setting of the run is one of ``RunConfig``, so that no Trainer is asked for."""
        return not run.configs and all(key in self._known or key.split(".")[0] in NAMES for key in run.settings)

    def resolved(self, run: Run) -> tuple[RunConfig, Course]:
        """Return the settings of a run with every default filled in, and its course.

        Raises:
            UsageError: what ``memsuite fit`` would say.
        """
        if run.modules:
            also_in(run.modules)
        given, course = plan(self._config(run))
        return resolve(given, course), course

    def size(self, run: Run) -> Size:
        """Build the run, and see how much work it is.

        Raises:
            UsageError: what ``memsuite fit`` would say.
        """
        config, course = self.resolved(run)
        if (key := repr((config.task, config.task_args, config.controller, config.controller_args))) not in self._built:
            model_of(config, course.full_task)
            self._built.add(key)
        return size_of(config, course)

    def _config(self, run: Run) -> RunConfig:
        """Read the run's options, those of one name together, as a mapping may be given in parts."""
        together: dict[str, list[str]] = {}
        for key, value in run.settings.items():
            together.setdefault(key if key.startswith(PPO) else key.split(".")[0], []).extend(option(key, value))
        values = {name: self._value(name, tuple(words)) for name, words in together.items()}
        ppo = {name.removeprefix(PPO): value for name, value in values.items() if name.startswith(PPO)}
        return RunConfig(**{name: values[name] for name in values if name in NAMES}, ppo=PPOConfig(**ppo))

    def _parsed(self, name: str, words: tuple[str, ...]) -> Any:
        """Return the value of one setting, checked against its type."""
        return self.parser.parse_args(list(words))[name]
