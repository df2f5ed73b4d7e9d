"""What the README says is reached is what results/reference.json holds."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ("lru", "gru", "pseudo_mamba")


def test_the_readme_has_every_seed():
    lines = (ROOT / "README.md").read_text().splitlines()
    cells: dict[tuple, dict[str, list]] = {}
    for run in json.loads((ROOT / "results" / "reference.json").read_text())["runs"]:
        cell = cells.setdefault((run["task"], run["difficulty"], run["target_success"]), {})
        cell.setdefault(run["controller"], []).append((run["seed"], run["success"]))
    for (task, difficulty, target), by_model in cells.items():
        seeds = [" ".join(f"{success:.3f}" for _, success in sorted(by_model.get(model, []))) for model in MODELS]
        assert "| " + " | ".join([f"{task}, {difficulty}", f"{target:.2f}", *seeds]) + " |" in lines


def test_every_run_has_all_its_seeds_and_one_commit():
    runs = json.loads((ROOT / "results" / "reference.json").read_text())["runs"]
    assert {run["seed"] for run in runs} == set(range(5))
    assert len(runs) % 5 == 0
    assert len({run["commit"] for run in runs}) == 1
    assert not runs[0]["commit"].endswith("dirty")
