"""The tables of docs/recipe.md are what results/recipe.jsonl holds, and that is what the suite asks for."""

import re
from pathlib import Path

from memsuite.runs.collection import read_collection
from memsuite.suite.grid import read_suite

ROOT = Path(__file__).parents[1]
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


def tables(runs: list[dict]) -> list[str]:
    """Lay out a table a task: a row a change, the success of every seed and their mean."""
    cells: dict[str, dict[str, list]] = {}
    for run in runs:
        name = re.search(rf"/{run['controller']}-([^/]+)/seed", run["command"])
        assert name
        cells.setdefault(run["task"], {}).setdefault(name[1], []).append((run["seed"], run["success"]))
    found = []
    for changes in cells.values():
        lines = ["| | mean | each seed |", "|---|---|---|"]
        for change, label in CHANGES.items():
            if change in changes:
                seeds = [success for _, success in sorted(changes[change])]
                each = " ".join(f"{success:.3f}" for success in seeds)
                lines.append(f"| {label} | {sum(seeds) / len(seeds):.3f} | {each} |")
        found.append("\n".join(lines))
    return found


def test_the_page_has_every_seed():
    page = (ROOT / "docs" / "recipe.md").read_text()
    found = tables(read_collection(ROOT / "results" / "recipe.jsonl"))
    assert len(found) == 2
    for table in found:
        assert table in page, f"docs/recipe.md lacks\n{table}"


def test_the_results_are_the_suites_on_one_commit():
    runs = read_collection(ROOT / "results" / "recipe.jsonl")
    asked = {run.id for run in read_suite(ROOT / "configs" / "suites" / "recipe_v1.yaml").runs}
    made = {re.search(r"--out runs/recipe_v1/(\S+)", run["command"])[1] for run in runs}
    assert made == asked
    assert len({run["commit"] for run in runs}) == 1
    assert not runs[0]["commit"].endswith("dirty")
