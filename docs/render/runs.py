"""Tables of trained runs: the first reference, the recipe's parts, longer waits, controls, and the golden run."""

from __future__ import annotations

import re
from itertools import groupby
from statistics import median

from memsuite.analysis.results import variant
from memsuite.controllers import CONTROLLERS
from memsuite.runs import RunResult
from memsuite.tasks import make_task
from render.common import SEEDS, Run, content_of, each, grouped, heading_of, in_bold, runs_of, table

CHANGES = {
    "recipe": "the recipe",
    "entropy_0": "no entropy bonus",
    "entropy_uniform": "the usual entropy bonus, 0.03 at every step",
    "rate_0.003": "learning rate 0.003, not 0.001",
    "momentum_0.5": "Adam's momentum 0.5, not 0.9",
    "one_rate": "one rate for all parameters",
    "usual_initialisation": "the models' usual initialisation",
    "critic_memory": "a critic on the memory's features",
    "advantages_raw": "advantages as they are",
    "one_epoch": "one epoch, not four",
    "half_envs": "half as many environments",
    "generic_discount": "discount 0.99, lambda 0.95",
}
PARTS = {
    "recipe": "the recipe",
    "draws_1": "one draw, with a critic",
    "draws_8": "8 draws, not 32",
    "leave_one_out": "not divided by the mean",
    "group_std": "divided by the standard deviation",
    "one_rate": "recurrent parameters at the full rate",
    "memory_at_a_hundredth": "recurrent parameters at a hundredth of the rate",
    "rate_0.001": "learning rate 0.001, not 0.003",
    "four_passes": "four passes, not one",
    "adam": "Adam for the matrices too, not Muon",
    "adam_four_minibatches": "Adam, and four minibatches of 16 scripts",
    "four_minibatches": "four minibatches of 16 scripts, not one of 64",
    "entropy_0.1": "entropy bonus of 0.1",
    "usual_initialisation": "the model's usual initialisation",
    "one_layer": "one layer, not two",
    "decay": "matrix decay 0.3",
    "four_passes_decay": "four passes and matrix decay 0.3",
    "four_minibatches_decay": "four minibatches and matrix decay 0.3",
}
GOLDEN = {
    "published": "published (0, 0)",
    "generic": "generic (0.99, 0.95)",
    "tested": "generic, consequences tested",
}


def reference(difficulty: str) -> str:
    """Lay out a tier of the first reference: a table a task and budget, a row a model with every seed."""
    chosen = [run for run in runs_of("reference") if run["difficulty"] == difficulty]
    chosen.sort(key=lambda run: (cell(run), run["seed"]))
    headings = ["model", *(f"seed {seed}" for seed in SEEDS), "steps to target", "CPU s"]
    parts = []
    for _, of_task in groupby(chosen, lambda run: cell(run)[:2]):
        rows = [list(of_cell) for _, of_cell in groupby(of_task, cell)]
        parts += [heading_of(rows[0][0]), table(headings, map(reference_row, rows))]
    return "\n\n".join(parts)


def cell(run: Run) -> tuple[str, int, int, str]:
    """Return what the seeds of a cell of one tier have in common: the task, its budget, the model, its settings."""
    apart = variant(RunResult.read(run, "results/reference.jsonl"))[1]
    return run["task"], run["config"]["steps"], list(CONTROLLERS).index(run["controller"]), apart


def reference_row(runs: list[Run]) -> list[str]:
    """Return the row of a model: bold where all seeds reach the target."""
    solved = [run["steps_to_target"] for run in runs if run["reached_target"]]
    whole, apart = len(solved) == len(runs), cell(runs[0])[-1]
    name = f"`{runs[0]['controller']}`" + (f", {apart}" if apart else "")
    scores = in_bold([f"{run['success']:.3f}" for run in runs], whole)
    steps = f"{median(solved):,.0f}" if whole else f"{len(solved)} of {len(runs)}"
    return [name, *scores, steps, f"{median(run['cpu_seconds'] for run in runs):.0f}"]


def recipe(task: str) -> str:
    """Lay out what each part of the first recipe is worth on a task: a row a change, each seed and their mean."""
    chosen = [run for run in runs_of("recipe") if run["task"] == task]
    changes = grouped(sorted(chosen, key=lambda run: int(run["seed"])), change_of)
    rows = []
    for change, label in CHANGES.items():
        if change in changes:
            seeds = [run["success"] for run in changes[change]]
            rows.append([label, f"{sum(seeds) / len(seeds):.3f}", each(seeds)])
    return table(["", "mean", "each seed"], rows)


def second_recipe(task: str) -> str:
    """Lay out what each part of the second recipe is worth on a task: each seed, and the median CPU seconds."""
    chosen = [run for run in runs_of("recipe_v2") if run["task"] == task]
    changes = grouped(sorted(chosen, key=lambda run: int(run["seed"])), change_of)
    rows = []
    for change, label in PARTS.items():
        if change in changes:
            seeds = [run["success"] for run in changes[change]]
            seconds = median(run["cpu_seconds"] for run in changes[change])
            rows.append([label, f"{sum(seeds) / len(seeds):.3f}", each(seeds), f"{seconds:.0f}"])
    return table(["", "mean", "each seed", "CPU s"], rows)


def change_of(run: Run) -> str:
    """Return the name that the suite gives to what a run changes, from the folder in its command."""
    found = re.search(rf"/{run['controller']}-([^/]+)/seed", run["command"])
    assert found
    return found[1]


def golden() -> str:
    """Lay out the golden run: a row for each of its variants, a column a seed."""
    groups = grouped(runs_of("golden"), lambda run: run["group"])
    rows = [[label, *(f"{run['success']:.3f}" for run in groups[name])] for name, label in GOLDEN.items()]
    return table(["discount, lambda", *(f"seed {seed}" for seed in SEEDS)], rows)


def longer_waits(difficulty: str) -> dict[tuple[str, int], list[Run]]:
    """Return the cells of the suite of horizons, by controller and horizon."""
    chosen = [run for run in runs_of("horizons") if run["difficulty"] == difficulty]
    return dict(sorted(grouped(chosen, lambda run: (run["controller"], run["horizon"])).items()))


def cost_of_a_wait() -> str:
    """Lay out the steps to the target at each horizon, in thousands, each seed's."""
    rows = []
    for (controller, horizon), runs in longer_waits("extreme").items():
        steps = [run["steps_to_target"] for run in runs]
        thousands = " ".join("-" if one is None else f"{one / 1000:,.0f}" for one in steps)
        seconds = sorted(run["cpu_seconds"] for run in runs)[len(runs) // 2]
        success = each((run["success"] for run in runs), ".2f")
        rows.append([f"`{controller}`", f"{horizon:,}", thousands, success, f"{seconds:,.1f}"])
    success = "success on 1,024 fresh episodes afterwards"
    steps_to = "thousands of steps to the target, each seed"
    return table(["controller", "horizon", steps_to, success, "CPU seconds, median"], rows)


def samples() -> str:
    """Lay out samples until sampled actions are right nine times in ten, in thousands, ours and a peer's."""
    rows = [sample_row(f"`{name}`", horizon, runs) for (name, horizon), runs in longer_waits("medium").items()]
    peers = grouped(content_of("samples")["runs"], lambda run: run["horizon"])
    rows += [sample_row("JAX GRU, chrono gates", horizon, runs) for horizon, runs in peers.items()]
    return table(["model", "horizon", "thousands of steps, each seed"], rows)


def sample_row(name: str, horizon: int, runs: list[Run]) -> list[str]:
    """Return a row of the table of samples."""
    found = [run["steps_to_90_sampled"] for run in runs]
    steps = [
        f"above {run['learn'] / 1000:.0f}" if one is None else f"{one / 1000:.0f}"
        for one, run in zip(found, runs, strict=True)
    ]
    return [name, str(horizon), " ".join(steps)]


def controls(name: str = "controls") -> str:
    """Lay out the negative controls: a task and tier, the ceiling of its kind, and every seed."""
    cells = grouped(runs_of(name), lambda run: (run["controller"], run["task"], run["difficulty"]))
    rows = []
    for (controller, task, difficulty), runs in sorted(cells.items(), key=lambda item: item[0][1:]):
        if controller == "transformer":
            seen = runs[0]["config"]["controller_args"]["context_length"]
            control, ceiling = f"last {seen} steps", make_task(task, difficulty).window_anchor(seen)
        elif controller == "pseudo_mamba":
            control, ceiling = "`pseudo_mamba`, unbound", runs[0]["unbound"]
        else:
            control, ceiling = "no memory", runs[0]["chance"]
        rows.append([f"{task}, {difficulty}", control, f"{ceiling:.3f}", each(run["success"] for run in runs)])
    return table(["task", "control", "ceiling", "success, each seed"], rows)
