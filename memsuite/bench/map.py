"""``memsuite bench map``: which cells are solved, by which model, and what it took; and a picture of it.

A cell is solved if some model reaches its target on at least four of five seeds, in the evaluation at the end of a run.
Runs with a curriculum are a row of their own, and never a part of one without.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from memsuite.analysis.results import variant
from memsuite.bench.records import until_target
from memsuite.runs import RunResult
from memsuite.runs.collection import read_collection
from memsuite.runs.config import DIFFICULTIES
from memsuite.shipped import find
from memsuite.tasks import SUITE, get_task_config

SOLVED = 4  # seeds at the target, of five


def measure(console: Console, runs: str, plot: str | None = None) -> list[dict[str, Any]]:
    """Return a row for each cell of the first eight tasks and each model run in it, without or with a curriculum.

    Args:
        console: shows what is read.
        runs: a file of results, or the name of one that comes with memsuite.
        plot: a file to draw the map into; None for none.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    with console.status(runs):
        for run in read_collection(find("results", runs)):
            if run["task"] not in SUITE or run["objective"] != "ppo":
                continue
            result = RunResult.read(run, runs)
            if as_in_its_tier(result):
                place = SUITE.index(result.task), DIFFICULTIES.index(result.difficulty)
                groups.setdefault((*place, result.controller, *_experiment(result)), []).append(run)
    rows = [cell(found) for _, found in sorted(groups.items(), key=lambda item: item[0])]
    if plot:
        from memsuite.analysis.plots.canvas import save
        from memsuite.analysis.plots.cells import map_of_cells

        save(map_of_cells(rows), Path(plot))
    return rows


def as_in_its_tier(run: RunResult) -> bool:
    """Tell whether a run is of its tier's own horizon and arguments, so that the tier's target is its own."""
    preset, given = get_task_config(run.task, run.difficulty), run.config.get("task_args") or {}
    return run.horizon == preset.horizon and all(given.get(name) == value for name, value in preset.args.items())


def _experiment(run: RunResult) -> tuple[Any, ...]:
    """Return what seeds of one experiment share, beside the controller's name; those with a curriculum come last."""
    return run.curriculum is not None, *variant(run), run.config.get("steps") or 0, tuple(run.besides())


def cell(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of one model in one cell: its seeds, how many reach the target, and the medians of the cost."""
    first, runs = runs[0], sorted(runs, key=lambda run: run["seed"])
    target = get_task_config(first["task"], first["difficulty"]).target_success
    seeds = [{**until_target(run), "cpu_seconds": run["cpu_seconds"]} for run in runs]
    at_target = [run for run in seeds if run["success"] >= target]
    taken = [run["cpu_seconds_to_target"] for run in at_target if run["cpu_seconds_to_target"] is not None]
    return {
        **{name: first[name] for name in ("task", "difficulty", "horizon", "controller", "parameters")},
        "settings": ", ".join(part for part in variant(RunResult.read(first, "a result")) if part),
        "curriculum": first["curriculum"] and {name: first["curriculum"][name] for name in ("argument", "start")},
        "target": target,
        "solved_seeds": len(at_target),
        "solved": len(at_target) >= SOLVED and len(at_target) >= SOLVED / 5 * len(seeds),
        "cpu_seconds_to_target": statistics.median(taken) if taken else None,
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in seeds),
        "seeds": seeds,
    }


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out one row per cell and model, and count the cells that are solved."""
    cells = {(row["task"], row["difficulty"]) for row in report if row["solved"]}
    title = f"{len(cells)} of {len(SUITE) * len(DIFFICULTIES)} cells are solved on {SOLVED} of 5 seeds"
    found = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in (
        "task",
        "difficulty",
        "controller",
        "grown from",
        "target",
        "seeds at target",
        "success",
        "CPU s to target",
    ):
        found.add_column(heading, no_wrap=True)
    for row in report:
        taken = row["cpu_seconds_to_target"]
        successes = " ".join(f"{run['success']:.2f}" for run in row["seeds"])
        reached = f"{row['solved_seeds']} of {len(row['seeds'])}"
        numbers = [f"{row['target']:.2f}", reached, successes, "-" if taken is None else f"{taken:,.0f}"]
        grown = str(row["curriculum"]["start"]) if row["curriculum"] else "-"
        found.add_row(row["task"], row["difficulty"], f"{row['controller']} ({row['settings']})", grown, *numbers)
    return found
