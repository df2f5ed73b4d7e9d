"""The cells of the second recipe that do not reach their target, each with its ceiling and its learning curve."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from memsuite.runs.collection import read_collection
from render.common import Run, grouped, table
from render.second_recipe import FILE, NEAR, asked_for, key_of

QUARTERS = (0.25, 0.5, 0.75, 1.0)  # of the budget
RISES = 0.02  # in the last quarter of the budget: more than the error of an evaluation on 256 episodes, twice


def section(file: Path = FILE) -> str:
    """Lay out the cells whose runs by PPO do not all reach the target, a row a cell, after a sentence that counts them.

    Args:
        file: the collected runs; it may hold a part of the suite, or not be there.
    """
    found = read_collection(file) if file.is_file() else []
    order = {key: at for at, key in enumerate(asked_for())}
    known = sorted((run for run in found if key_of(run) in order), key=lambda run: order[key_of(run)])
    cells = grouped(known, lambda run: (run["difficulty"], run["task"], run["controller"]))
    short = {key: runs for key, runs in cells.items() if falls_short(runs)}
    if not short:
        return "No cell that was run falls short of its target."
    headings = ["task", "model", "success", "target", "ceiling", "at a quarter", "half", "three quarters", "all", ""]
    return table(headings, [row_of(key, runs) for key, runs in short.items()])


def of(runs: list[Run], objective: str) -> list[Run]:
    """Return the runs with an objective."""
    return [run for run in runs if run["objective"] == objective]


def falls_short(runs: list[Run]) -> bool:
    """Tell whether a cell has runs by PPO that do not all reach the target."""
    return not all(run["reached_target"] for run in of(runs, "ppo"))


def row_of(key: tuple[str, str, str], runs: list[Run]) -> list[str]:
    """Return the row of a cell: means over the seeds that are there."""
    tier, task, model = key
    by_ppo = of(runs, "ppo")
    success, target = mean(run["success"] for run in by_ppo), by_ppo[0]["target_success"]
    above = [run["success"] for run in of(runs, "supervised")]
    ceiling = mean(above) if above else None
    curve = [on_the_way(by_ppo, share) for share in QUARTERS]
    shown = ["" if value is None else f"{value:.2f}" for value in curve]
    name = task if tier == "easy" else f"{task}, {tier}"
    told = [f"{success:.3f}", f"{target:.2f}", "" if ceiling is None else f"{ceiling:.3f}"]
    return [name, f"`{model}`", *told, *shown, verdict(success, target, ceiling, curve)]


def on_the_way(runs: list[Run], share: float) -> float | None:
    """Return the mean success at the last evaluation within a share of the budget; None without curves."""
    found = []
    for run in runs:
        curve = run.get("curve") or {"env_steps": [], "success": []}
        points = zip(curve["env_steps"], curve["success"], strict=True)
        found += [value for steps, value in points if steps <= share * run["env_steps"]][-1:]
    return mean(found) if len(found) == len(runs) else None


def verdict(success: float, target: float, ceiling: float | None, curve: list[float | None]) -> str:
    """Say in a few words what holds a cell back, as far as its runs show it."""
    parts = []
    if ceiling is not None:
        if ceiling < target:
            parts.append("the ceiling is below the target")
        parts.append("at the ceiling" if success >= NEAR * ceiling else "below the ceiling")
    before, last = curve[-2:]
    if before is not None and last is not None:
        parts.append("still rising" if last - before > RISES else "flat")
    return ", ".join(parts)
