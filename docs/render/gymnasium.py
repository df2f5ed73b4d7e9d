"""The table of MiniGrid's MemoryS7 beside sb3-contrib at equal steps."""

from __future__ import annotations

from statistics import mean

from render.common import content_of, each, runs_of, table


def beside_sb3() -> str:
    """Lay out the size, the greedy return of each seed and the CPU time of sb3-contrib's agents and of ours."""
    rows = []
    for name, runs in (
        ("memsuite", runs_of("minigrid_memory")),
        ("sb3-contrib", content_of("peers_gymnasium")["runs"]),
    ):
        sizes = [f"{runs[0][key]:,}" for key in ("env_steps", "parameters")]
        returns = each((run["return_mean"] for run in runs), ".3g")
        rows.append([name, *sizes, returns, f"{mean(run['cpu_seconds'] for run in runs):.0f}"])
    return table(["library", "steps", "parameters", "greedy return of seeds 0, 1, 2", "CPU-s a run"], rows)
