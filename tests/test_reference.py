"""What the README says is reached is what results/reference.json holds."""

import json
from pathlib import Path

from memsuite.controllers import CONTROLLERS

ROOT = Path(__file__).parents[1]


def table(runs: list[dict]) -> str:
    """Lay out the runs: a row a task and tier, a column a controller, every seed's success; bold where all reach."""
    models = [name for name in CONTROLLERS if any(run["controller"] == name for run in runs)]
    cells: dict[tuple, dict[str, list]] = {}
    for run in runs:
        cell = cells.setdefault((run["difficulty"], run["task"], run["target_success"]), {})
        cell.setdefault(run["controller"], []).append((run["seed"], run["success"]))
    lines = ["| task, tier | target | " + " | ".join(f"`{name}`" for name in models) + " |"]
    lines.append("|---" * (2 + len(models)) + "|")
    for (difficulty, task, target), found in sorted(cells.items()):
        row = []
        for name in models:
            seeds = [success for _, success in sorted(found.get(name, []))]
            text = " ".join(f"{success:.3f}" for success in seeds)
            row.append(f"**{text}**" if seeds and min(seeds) >= target else text)
        lines.append("| " + " | ".join([f"{task}, {difficulty}", f"{target:.2f}", *row]) + " |")
    return "\n".join(lines)


def test_the_readme_has_every_seed():
    runs = json.loads((ROOT / "results" / "reference.json").read_text())["runs"]
    assert table(runs) in (ROOT / "README.md").read_text(), f"README.md lacks\n{table(runs)}"


def test_every_run_has_all_its_seeds_and_one_commit():
    runs = json.loads((ROOT / "results" / "reference.json").read_text())["runs"]
    assert {run["seed"] for run in runs} == set(range(5))
    assert len(runs) % 5 == 0
    assert len({run["commit"] for run in runs}) == 1
    assert not runs[0]["commit"].endswith("dirty")
