"""Tables of what learning costs in CPU time: beside JAX, and with products in either precision."""

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


def products() -> str:
    """Lay out training with products in float32 and in bfloat16, one after the other."""
    rows = []
    for name, found in grouped(content_of("products")["training"], lambda row: row["controller"]).items():
        rates = {row.get("products", "float32"): row["steps_per_cpu_second"] for row in found}
        ratio = rates["bfloat16"] / rates["float32"]
        rows.append([name, *(f"{rates[one]:,.0f}" for one in ("float32", "bfloat16")), f"{ratio:.2f}"])
    return table(["controller, H = 200", "float32, steps / CPU-s", "bfloat16", "ratio"], rows)


def products_learning() -> str:
    """Lay out what reaching the target takes in either precision."""
    cells = grouped(runs_of("products_v1"), lambda run: (run["task"], run["controller"]))
    rows = []
    for (task, controller), found in cells.items():
        row = [task, controller]
        for key, unit in (("steps_to_target", 1e6), ("cpu_seconds_to_target", 1)):
            for precision in ("float32", "bfloat16"):
                taken_by = [run[key] for run in found if run["config"]["ppo"]["products"] == precision]
                row.append(" ".join("-" if one is None else f"{one / unit:.1f}" for one in taken_by))
        rows.append(row)
    return table(["task, easy", "controller", "M steps, float32", "bfloat16", "CPU-s, float32", "bfloat16"], rows)


def easy_tier() -> str:
    """Lay out what the easy tier of the first reference takes, when it was published and now, by controller."""
    again = runs_of("reference_v1_again")
    cells = {(run["task"], run["controller"], run["seed"]) for run in again}
    first = [
        run
        for run in runs_of("reference")
        if (run["task"], run["controller"], run["seed"]) in cells and run["difficulty"] == "easy"
    ]
    rows = []
    for name in [*dict.fromkeys(run["controller"] for run in again), "all"]:
        of_it = [[run for run in runs if name in ("all", run["controller"])] for runs in (first, again)]
        minutes = [sum(run["cpu_seconds"] for run in runs) / 60 for runs in of_it]
        success = [sum(run["success"] for run in runs) / len(runs) for runs in of_it]
        told = [*(f"{spent:.1f}" for spent in minutes), f"{minutes[0] / minutes[1]:.2f}"]
        rows.append([name, *told, *(f"{mean:.3f}" for mean in success)])
    headings = ["controller", "CPU-minutes, published", "now", "ratio", "mean success, published", "now"]
    return table(headings, rows)
