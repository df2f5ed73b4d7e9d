"""Today's defaults in the form of a recipe file: ``python -m runs.snapshot`` in ``tests`` prints it."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from typing import Any

from memsuite.controllers import CONTROLLERS
from memsuite.controllers.memoryless import Memoryless
from memsuite.runs import PPOConfig, RunConfig
from memsuite.runs.recipes import NO_BONUS, THE_SAME
from memsuite.tasks import ScriptedTask
from memsuite.tasks.registry import PRESETS, TASKS

# A control is not a model to choose by name, but published results contain its runs.
BUILT_IN = {**CONTROLLERS, f"{Memoryless.__module__}.{Memoryless.__name__}": Memoryless}
OF_THE_RUN = ("input_dim", "memory_horizon")  # arguments that the task sets


def snapshot() -> dict[str, Any]:
    """Return every default that affects the result of a run."""
    tasks: dict[str, Any] = {}
    for (task, difficulty), preset in PRESETS.items():
        entry = {"args": preset.arguments(), "discount": preset.discount, "gae_lambda": preset.gae_lambda}
        if preset.entropy_coefficient:
            entry |= {name: getattr(preset, name) for name in NO_BONUS}
        cls = TASKS[task]
        kind = {"scripted": issubclass(cls, ScriptedTask), "can_share": issubclass(cls, ScriptedTask) or cls.can_fork}
        tasks.setdefault(task, kind)[difficulty] = entry
    controllers = {name: arguments(cls) for name, cls in BUILT_IN.items()}
    ppo = {name: value for name, value in asdict(PPOConfig()).items() if name not in THE_SAME}
    found = {"num_envs": RunConfig().num_envs, "ppo": ppo, "controllers": controllers, "tasks": tasks}
    found["matrix_factors"] = {name: cls.matrix_factor for name, cls in CONTROLLERS.items()}
    return json.loads(json.dumps(found))


def arguments(cls: type) -> dict[str, Any]:
    """Return the defaults of a controller's own arguments."""
    parameters = inspect.signature(cls).parameters.items()
    has = inspect.Parameter.empty
    return {name: one.default for name, one in parameters if name not in OF_THE_RUN and one.default is not has}


def as_text(value: Any, indent: int = 0) -> str:
    """Write nested mappings with one innermost mapping a line."""
    if not (isinstance(value, dict) and any(isinstance(one, dict) for one in value.values())):
        return json.dumps(value)
    pad = " " * (indent + 1)
    rows = [f"{pad}{json.dumps(key)}: {as_text(one, indent + 1)}" for key, one in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"


if __name__ == "__main__":
    print(as_text(snapshot()))
