"""Tables of what learning costs in CPU time: beside JAX, and for the easy tier of the first reference."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from render.common import Run, content_of, grouped, runs_of, table

BESIDE = {"gru": ("gru",), "s5": ("lru", "s5")}  # ours beside each model in JAX; otherwise the one of its name


def learning() -> str:
    """Lay out the CPU time until delayed cue is learnt, ours beside each model in JAX with its best settings."""
    by_side = grouped(content_of("peers_learning")["runs"], lambda run: (run["side"], run["horizon"]))
    rows = []
    for (side, horizon), runs in by_side.items():
        if not side.startswith("jax "):
            continue
        cell = side.removeprefix("jax ")
        reported = [run for run in runs if run["seed"] < 1000]
        if not reported:
            continue
        settings = reported[0]["settings"].replace("--", "")
        for ours in BESIDE.get(cell, (cell,)):
            mine = by_side[f"memsuite {ours}", horizon]
            rows.append([f"{horizon:,}", ours, *taken(mine), cell, *taken(reported), settings])
    headings = ["steps", "ours", "CPU-s", "seeds", "in JAX", "CPU-s", "seeds", "its best settings"]
    return table(headings, rows)


def taken(runs: Sequence[Run]) -> list[str]:
    """Return the median CPU time of the seeds that learnt, or the success of the others, and how many learnt."""
    times = [run["cpu_seconds_to_90"] for run in runs if run["cpu_seconds_to_90"] is not None]
    spent, success = (median(run[key] for run in runs) for key in ("cpu_seconds", "success"))
    failed = f"not in {spent:.0f}: {success:.2f}"
    return [f"{median(times):.1f}" if 2 * len(times) > len(runs) else failed, f"{len(times)} of {len(runs)}"]


def whole_suite() -> str:
    """Lay out the CPU hours of the first reference's easy tier, as published and made again, by model."""
    rows, total = [], [0.0, 0.0]
    again = grouped(runs_of("reference_again"), lambda run: run["controller"])
    before = grouped(
        (run for run in runs_of("reference") if run["difficulty"] == "easy"), lambda run: run["controller"]
    )
    for name, runs in again.items():
        hours = [sum(run["cpu_seconds"] for run in side) / 3600 for side in (before[name], runs)]
        solved = [f"{sum(run['reached_target'] for run in side)} of {len(side)}" for side in (before[name], runs)]
        total = [one + other for one, other in zip(total, hours, strict=True)]
        rows.append([f"`{name}`", *(f"{one:.2f}" for one in hours), f"{hours[0] / hours[1]:.2f}", *solved])
    rows.append(["all", *(f"{one:.2f}" for one in total), f"{total[0] / total[1]:.2f}", "", ""])
    headings = ["model", "CPU hours, as published", "again", "ratio", "at target, as published", "again"]
    return table(headings, rows)
