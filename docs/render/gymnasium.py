"""The tables of Gymnasium environments: MiniGrid's MemoryS7 beside sb3-contrib, and POPGym beside what is published."""

from __future__ import annotations

import re
from statistics import mean, stdev

import yaml

from render.common import ROOT, Run, content_of, each, grouped, runs_of, table

# Mean and standard deviation of the GRU after 15,000,000 steps: Table 3 in Appendix B of POPGym (Morad et al. 2023,
# arXiv 2303.01859), as far as a transcription of it could be found.
PUBLISHED_GRU = {
    "AutoencodeEasy": (-0.283, 0.029),
    "CountRecallEasy": (0.177, 0.005),
    "HigherLowerEasy": (0.529, 0.002),
    "MultiarmedBanditEasy": (0.619, 0.007),
    "NoisyPositionOnlyCartPoleEasy": (0.995, 0.0),
    "PositionOnlyCartPoleEasy": (1.0, 0.0),
    "RepeatFirstEasy": (1.0, 0.0),
    "RepeatPreviousEasy": (1.0, 0.0),
}
SEEDS = 3
PREFIX_OR_VERSION = re.compile("^gym:popgym:popgym-|-v0$")


def beside_sb3(ours: str = "minigrid_memory", theirs: str = "peers_gymnasium") -> str:
    """Lay out the size, the greedy return of each seed and the CPU time of sb3-contrib's agents and of ours.

    Args:
        ours: name of our file of results, of which the seeds count that both have.
        theirs: name of the other file.
    """
    rows, others = [], content_of(theirs)["runs"]
    seeds = {run["seed"] for run in others}
    for name, runs in (("memsuite", [run for run in runs_of(ours) if run["seed"] in seeds]), ("sb3-contrib", others)):
        sizes = [f"{runs[0][key]:,}" for key in ("env_steps", "parameters")]
        returns = each((run["return_mean"] for run in runs), ".3g")
        rows.append([name, *sizes, returns, f"{mean(run['cpu_seconds'] for run in runs):.0f}"])
    return table(["library", "steps", "parameters", "greedy return of seeds 0, 1, 2", "CPU-s a run"], rows)


def popgym() -> str:
    """Lay out the largest return that each model had while it trained, its mean over seeds and standard deviation."""
    found = grouped(runs_of("popgym_v1"), lambda run: (run["task"], run["controller"]))
    grid = yaml.safe_load((ROOT / "configs" / "suites" / "popgym_v1.yaml").read_text())["grid"]
    rows = []
    for task in sorted(grid["task"]):
        name = PREFIX_OR_VERSION.sub("", task)
        published = _with_spread(*PUBLISHED_GRU[name]) if name in PUBLISHED_GRU else "not found"
        rows.append([name, published, *(_cell(found.get((task, model), [])) for model in grid["controller"])])
    return table(["environment", "GRU, published", *grid["controller"]], rows)


def _cell(runs: list[Run]) -> str:
    """Write the runs of an environment by a model, and how many seeds they are where some are missing."""
    if not runs:
        return "not run"
    largest = [max([run["return_mean"], *run["curve"]["return"]]) for run in runs]
    if len(runs) == 1:
        return f"{largest[0]:.3f} (1 seed)"
    seeds = "" if len(runs) == SEEDS else f", {len(runs)} seeds"
    return _with_spread(mean(largest), stdev(largest)) + seeds


def _with_spread(value: float, spread: float) -> str:
    return f"{value:.3f} ± {spread:.3f}"
