"""The table of what learning costs in CPU time, beside JAX."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from render.common import Run, content_of, grouped, table

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
