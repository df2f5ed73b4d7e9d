"""Tables of Gymnasium's environments: beside sb3-contrib at equal steps, and beside what POPGym publishes."""

from __future__ import annotations

from statistics import mean, stdev

from render.common import Run, content_of, each, grouped, runs_of, table

OURS = {"pendulum": "pendulum_v1", "minigrid": "minigrid_memory"}  # the results of ours on each task of the peer
# POPGym's GRU, the mean and the standard deviation of three trials of 15,000,000 steps: Morad et al. 2023, arXiv
# 2303.01859, Table 3 of Appendix B. The numbers of the other environments could not be looked up.
PUBLISHED = {
    "Autoencode": (-0.283, 0.029),
    "CountRecall": (0.177, 0.005),
    "HigherLower": (0.529, 0.002),
    "MultiarmedBandit": (0.619, 0.007),
    "NoisyPositionOnlyCartPole": (0.995, 0.0),
    "PositionOnlyCartPole": (1.0, 0.0),
    "RepeatFirst": (1.0, 0.0),
    "RepeatPrevious": (1.0, 0.0),
}


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


def largest_mean(run: Run) -> float:
    """Return the largest of the mean returns that the evaluations on the way and at the end had."""
    return float(max(value for value in (*run["curve"]["return"], run["return_mean"]) if value is not None))


def popgym() -> str:
    """Lay out the largest mean return of every environment and model, over seeds, beside POPGym's own GRU."""
    runs = runs_of("popgym_v1")
    models = list(dict.fromkeys(run["controller"] for run in runs))
    rows = []
    for task, of_task in sorted(grouped(runs, lambda run: run["task"]).items()):
        name = task.removeprefix("gym:popgym:popgym-").removesuffix("Easy-v0")
        of_model = grouped(of_task, lambda run: run["controller"])
        cells = [_over_seeds([largest_mean(run) for run in of_model.get(model, [])]) for model in models]
        theirs = "{:.3f} ({:.3f})".format(*PUBLISHED[name]) if name in PUBLISHED else "-"
        rows.append([name, *cells, theirs])
    return table(["environment", *models, "POPGym's GRU, 15,000,000 steps"], rows)


def _over_seeds(values: list[float]) -> str:
    if not values:
        return "not run"
    spread = f"{stdev(values):.3f}" if len(values) > 1 else "one seed"
    return f"{mean(values):.3f} ({spread})"
