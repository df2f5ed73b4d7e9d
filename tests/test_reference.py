"""The page of reference results says what results/reference.jsonl holds, and that is the suite, whole."""

from itertools import groupby
from pathlib import Path
from statistics import median

from published import commands_before_v2

from memsuite.analysis.results import variant
from memsuite.controllers import CONTROLLERS
from memsuite.runs import RunResult
from memsuite.runs.collection import read_collection

ROOT = Path(__file__).parents[1]
SEEDS = range(5)


def reference() -> list[dict]:
    return read_collection(ROOT / "results" / "reference.jsonl")


def cell(run: dict) -> tuple:
    """What the seeds of a cell have in common: the difficulty, the task, its budget, the model, its settings."""
    model = list(CONTROLLERS).index(run["controller"]), variant(RunResult.read(run, "reference"))[1]
    return run["difficulty"], run["task"], run["config"]["steps"], *model


def tables(runs: list[dict], difficulty: str) -> str:
    """Lay out a tier: a table a task and budget, a row a model with every seed, bold where all reach the target."""
    chosen = sorted((run for run in runs if run["difficulty"] == difficulty), key=lambda run: (cell(run), run["seed"]))
    lines = []
    for (_, task, steps), of_task in groupby(chosen, lambda run: cell(run)[:3]):
        rows = [list(of_cell) for _, of_cell in groupby(of_task, cell)]
        first = rows[0][0]
        chance, target = first["chance"], first["target_success"]
        lines += [f"### {task}, {difficulty}: {steps:,} steps, target {target:.2f}, chance {chance:.3f}", ""]
        lines += [
            f"| model | {' | '.join(f'seed {seed}' for seed in SEEDS)} | steps to target | CPU s |",
            "|---" * 8 + "|",
        ]
        for row in rows:
            solved = [run["steps_to_target"] for run in row if run["reached_target"]]
            scores = [f"{run['success']:.3f}" for run in row]
            if len(solved) == len(row):
                scores = [f"**{score}**" for score in scores]
            apart = cell(row[0])[-1]
            name = f"`{row[0]['controller']}`" + (f", {apart}" if apart else "")
            steps_to = f"{median(solved):,.0f}" if len(solved) == len(row) else f"{len(solved)} of {len(row)}"
            cpu = f"{median(run['cpu_seconds'] for run in row):.0f}"
            lines.append(f"| {name} | {' | '.join(scores)} | {steps_to} | {cpu} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_has_every_seed():
    page = (ROOT / "docs" / "reference.md").read_text()
    for difficulty in ("easy", "medium"):
        found = tables(reference(), difficulty)
        assert found in page, f"docs/reference.md lacks\n{found}"


def test_every_run_of_the_suite_is_there_and_no_other():
    assert sorted(run["command"] for run in reference()) == commands_before_v2("reference_v1")


def test_every_cell_has_all_its_seeds_and_one_commit():
    cells: dict[tuple, list[dict]] = {}
    for run in reference():
        difficulty, task, _, *model = cell(run)
        cells.setdefault((difficulty, task, *model), []).append(run)
    for at, runs in cells.items():
        assert sorted(run["seed"] for run in runs) == list(SEEDS), at
        assert len({(run["commit"], run["env_steps"]) for run in runs}) == 1, at
        assert not runs[0]["commit"].endswith("dirty"), at
