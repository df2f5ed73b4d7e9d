"""``memsuite bench environments``: how fast the tasks draw whole scripts, or take steps, on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import rates
from memsuite.errors import UsageError
from memsuite.tasks import TASKS, ScriptedTask, Task, make_task

# (horizon, environments): the usual sizes, then blocks of about as many steps from the shortest horizon to the longest.
BLOCKS = ((200, 64), (200, 1024), (50, 4096), (1000, 205), (5000, 41), (20000, 10))


def measure(console: Console, tasks: list[str], repeats: int) -> list[dict[str, Any]]:
    """Measure every task in the blocks of :data:`BLOCKS`; an interactive task in the first two.

    A task has its medium size, or its easy one in a block whose horizon is too short for that.

    Args:
        console: shows which task is being measured.
        tasks: names of the tasks.
        repeats: number of measurements of each block.
    """
    rows = []
    for name in tasks:
        scripted = issubclass(TASKS[name], ScriptedTask)
        for horizon, num_envs in BLOCKS if scripted else BLOCKS[:2]:
            with console.status(f"{name}: {num_envs:,} environments of {horizon:,} steps"):
                task, difficulty = make_sized(name, horizon)
                steps, work = _work(task, num_envs, torch.Generator().manual_seed(0))
                row = {"task": name, "difficulty": difficulty, "num_envs": num_envs, "horizon": task.horizon}
                row["scripted"] = scripted
                rows.append(row | rates(steps, work, repeats))
    return rows


def make_sized(name: str, horizon: int) -> tuple[Task, str]:
    """Return the task of this horizon at its medium size, or at its easy one if that does not fit, and which it is."""
    with contextlib.suppress(UsageError):
        return make_task(name, "medium", horizon=horizon), "medium"
    return make_task(name, "easy", horizon=horizon), "easy"


def _work(task: Task, num_envs: int, generator: torch.Generator) -> tuple[int, Callable[[], Any]]:
    """Return the environment steps of one measurement, and the work: drawing a script, or taking a step."""
    if isinstance(task, ScriptedTask):
        scripted = task
        return num_envs * task.horizon, lambda: scripted.script(num_envs, generator)
    task.reset(num_envs, generator)
    return num_envs, lambda: task.step(torch.randint(task.num_actions, (num_envs,), generator=generator))


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out the report: one row for each task and block, in millions of steps."""
    found = Table("task", "environments", "horizon", "steps / CPU-s", "steps / s", title="Environment steps")
    for row in report:
        speeds = [f"{row[key] / 1e6:,.1f} M" for key in ("steps_per_cpu_second", "steps_per_second")]
        found.add_row(row["task"], str(row["num_envs"]), str(row["horizon"]), *speeds)
    return found
