"""``memsuite bench training``: how fast the controllers train, and which part of an iteration the time goes to.

One thread trains the work of :func:`memsuite.bench.measure.train_briefly` in 64 environments, through Lightning and
with everything that a run does.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import Cycles, parameter_count, spent, train_briefly

NUM_ENVS = 64
SECTIONS = ("rollout", "update", "logging", "lightning")


def measure(console: Console, controllers: list[str], horizons: list[int], repeats: int) -> list[dict[str, Any]]:
    """Measure every controller at every horizon.

    Args:
        console: shows which controller is being trained.
        controllers: their names.
        horizons: episode lengths in steps.
        repeats: number of iterations that count; at horizons below 400 steps, ``400 // horizon`` times as many.
    """
    rows = []
    for controller in controllers:
        for horizon in horizons:
            with console.status(f"training {controller} at horizon {horizon}"):
                rows.append(measure_one(controller, horizon, repeats))
    return rows


def measure_one(controller: str, horizon: int, repeats: int) -> dict[str, Any]:
    """Train one controller, and time whole iterations, from the start of one to the start of the next.

    Args:
        controller: name of the sequence model.
        horizon: episode length in steps.
        repeats: as for :func:`measure`.

    Returns:
        ``steps_per_cpu_second``, ``steps_per_second``, ``parameters``, and ``share``: the part of the CPU time that
        each of :data:`SECTIONS` takes, in [0, 1].
    """
    count = max(1, 400 // horizon) * repeats + 3  # two iterations warm up, and the last one has no successor
    cycles = Cycles()
    module = train_briefly(controller, NUM_ENVS, horizon, count, cycles, "cpu")
    steps = NUM_ENVS * horizon
    wall, cpu = (spent(cycles.marks, "total", clock) for clock in (0, 1))
    shares = {name: spent(cycles.marks, name, 1) / cpu for name in SECTIONS[:-1]}
    return {
        "controller": controller,
        "horizon": horizon,
        "parameters": parameter_count(module),
        "steps_per_cpu_second": steps / cpu,
        "steps_per_second": steps / wall,
        "share": shares | {"lightning": 1 - spent(cycles.marks, "training", 1) / cpu},
    }


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out the report: one row for each controller and horizon."""
    found = Table("controller", "horizon", "steps / CPU-s", "steps / s", *SECTIONS, title="Training steps")
    for row in report:
        speeds = [f"{row[key]:,.0f}" for key in ("steps_per_cpu_second", "steps_per_second")]
        shares = [f"{100 * row['share'][name]:.1f}%" for name in SECTIONS]
        found.add_row(row["controller"], str(row["horizon"]), *speeds, *shares)
    return found
