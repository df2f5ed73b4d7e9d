"""What the README says is reached is what results/reference.json holds."""

import json
from pathlib import Path

from memsuite.analysis.results import variant
from memsuite.controllers import CONTROLLERS

ROOT = Path(__file__).parents[1]


def table(runs: list[dict]) -> str:
    """Lay out the runs: a row a task, tier and budget, a column a model, every seed's success; bold where all reach."""
    found_models = {(run["controller"], variant(run["config"])) for run in runs}
    models = sorted(found_models, key=lambda model: (list(CONTROLLERS).index(model[0]), model[1]))
    cells: dict[tuple, dict[str, list]] = {}
    for run in runs:
        cell = cells.setdefault((run["difficulty"], run["task"], run["target_success"], run["config"]["steps"]), {})
        model = run["controller"], variant(run["config"])
        cell.setdefault(model, []).append((run["seed"], run["success"]))
    names = [f"`{name}`" + (f", {setting}" if setting else "") for name, setting in models]
    lines = ["| task, tier | steps | target | " + " | ".join(names) + " |"]
    lines.append("|---" * (3 + len(models)) + "|")
    for (difficulty, task, target, steps), found in sorted(cells.items()):
        row = []
        for name in models:
            seeds = [success for _, success in sorted(found.get(name, []))]
            text = " ".join(f"{success:.3f}" for success in seeds)
            row.append(f"**{text}**" if seeds and min(seeds) >= target else text)
        lines.append("| " + " | ".join([f"{task}, {difficulty}", f"{steps:,}", f"{target:.2f}", *row]) + " |")
    return "\n".join(lines)


def test_the_readme_has_every_seed():
    runs = json.loads((ROOT / "results" / "reference.json").read_text())["runs"]
    assert table(runs) in (ROOT / "README.md").read_text(), f"README.md lacks\n{table(runs)}"


def test_every_cell_has_all_its_seeds_and_one_commit():
    cells: dict[tuple, list[dict]] = {}
    for run in json.loads((ROOT / "results" / "reference.json").read_text())["runs"]:
        cell = run["task"], run["difficulty"], run["controller"], variant(run["config"])
        cells.setdefault(cell, []).append(run)
    for cell, runs in cells.items():
        assert sorted(run["seed"] for run in runs) == list(range(5)), cell
        assert len({(run["commit"], run["env_steps"]) for run in runs}) == 1, cell
        assert not runs[0]["commit"].endswith("dirty"), cell
