"""Tables of Gymnasium's environments: beside sb3-contrib at equal steps."""

from __future__ import annotations

from statistics import mean

from render.common import content_of, each, grouped, runs_of, table

OURS = {"minigrid": "minigrid_memory"}  # the results of ours on each task of the peer


def beside_sb3() -> str:
    """Lay out the greedy return of each seed, the CPU time and the size of sb3-contrib's agents and of ours."""
    rows = []
    for task, theirs in grouped(content_of("peers_gymnasium")["runs"], lambda run: run["task"]).items():
        seeds = [run["seed"] for run in theirs]
        ours = [run for run in runs_of(OURS[task]) if run["seed"] in seeds]
        for name, runs in (("memsuite", ours), ("sb3-contrib", theirs)):
            returns, spent = each((run["return_mean"] for run in runs), ".3g"), mean(run["cpu_seconds"] for run in runs)
            sizes = [f"{runs[0][key]:,}" for key in ("env_steps", "parameters")]
            rows.append([task, name, *sizes, returns, f"{spent:.0f}"])
    return table(
        ["environment", "library", "steps", "parameters", "greedy return of seeds 0, 1, 2", "CPU-s a run"], rows
    )
