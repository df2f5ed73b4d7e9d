"""The cells whose ceiling lies below the target: whether more steps or more layers change that."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from memsuite.runs.collection import read_collection
from render.common import ROOT, Run, grouped, table
from render.second_recipe import FILE as REFERENCE
from render.second_recipe import asked_for, key_of
from render.short_cells import RISES, of, on_the_way

FILE = ROOT / "results" / "ceilings_v2.jsonl"
LOST = 0.1  # of success: far more than two evaluations of the same model differ by


def section(file: Path = FILE, reference: Path = REFERENCE) -> str:
    """Lay out the easy cells whose ceiling is below the target, a row a cell.

    Args:
        file: the collected runs with more layers and with more steps; it may hold a part of them, or not be there.
        reference: the collected runs of the suite that the ceilings are of.
    """
    tried = read_collection(file) if file.is_file() else []
    order = {key: at for at, key in enumerate(asked_for())}
    found = read_collection(reference) if reference.is_file() else []
    easy = [run for run in of(found, "supervised") if run["difficulty"] == "easy" and key_of(run) in order]
    cells = grouped(sorted(easy, key=lambda run: order[key_of(run)]), lambda run: (run["task"], run["controller"]))
    rows = []
    for (task, model), runs in cells.items():
        ceiling, target = mean(run["success"] for run in runs), runs[0]["target_success"]
        if ceiling < target:
            own = [run for run in tried if (run["task"], run["controller"]) == (task, model)]
            budget = runs[0]["config"]["steps"]
            deep, longer = ([run for run in own if (run["config"]["steps"] > budget) == more] for more in (False, True))
            long, drawn_back = ([run for run in longer if has_decay(run) == has] for has in (False, True))
            with_decay = f"; with matrix decay {success_of(drawn_back)}" if drawn_back else ""
            shown = [f"{target:.2f}", f"{ceiling:.3f}", success_of(deep), success_of(long) + with_decay]
            rows.append([task, f"`{model}`", *shown, steps_of(long), verdict(deep, drawn_back or long, ceiling)])
    headings = [
        "task",
        "model",
        "target",
        "ceiling",
        "twice the layers",
        "ten times the steps",
        "target reached after",
        "",
    ]
    return table(headings, rows) if rows else "No ceiling that was trained lies below its target."


def has_decay(run: Run) -> bool:
    """Tell whether the matrices of a run were drawn back to where they began."""
    return bool(run["config"]["ppo"].get("matrix_decay"))


def success_of(runs: list[Run]) -> str:
    """Return the mean success of the runs there are, in bold where all of them reach the target."""
    if not runs:
        return ""
    shown = f"{mean(run['success'] for run in runs):.3f}"
    return f"**{shown}**" if all(run["reached_target"] for run in runs) else shown


def steps_of(runs: list[Run]) -> str:
    """Return the mean number of steps at which runs first reached the target; nothing unless all did."""
    reached = [run["steps_to_target"] for run in runs if run["reached_target"]]
    return f"{mean(reached):,.0f}" if reached and len(reached) == len(runs) else ""


def verdict(deep: list[Run], long: list[Run], ceiling: float) -> str:
    """Say what kept the ceiling below the target, as far as the runs show it; nothing until both kinds are there."""
    if not deep or not long:
        return ""
    causes = ["depth"] if all(run["reached_target"] for run in deep) else []
    if all(run["reached_target"] for run in long):
        return " or ".join(["time", *causes])
    before, last = (on_the_way(long, share) for share in (0.75, 1.0))
    if mean(run["success"] for run in long) < ceiling - LOST:
        causes.append("not known: longer training loses what it had learnt")
    elif before is not None and last is not None and last - before > RISES:
        causes.append("perhaps time: still rising")
    return ", ".join(causes) or "the model"
