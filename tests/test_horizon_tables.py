"""The tables of what a longer wait costs, and of samples beside the peers', are those of results/horizons.jsonl."""

import json
from pathlib import Path

import pytest

from memsuite.runs.collection import read_collection

ROOT = Path(__file__).parents[1]
RUNS = read_collection(ROOT / "results" / "horizons.jsonl")
PEER = json.loads((ROOT / "results" / "samples.json").read_text())["runs"]


def cells(difficulty: str) -> dict[tuple[str, int], list[dict]]:
    found: dict[tuple[str, int], list[dict]] = {}
    for run in RUNS:
        if run["difficulty"] == difficulty:
            found.setdefault((run["controller"], run["horizon"]), []).append(run)
    return dict(sorted(found.items()))


def cost_rows() -> list[str]:
    """Return the lines of steps to the target, in thousands, each seed's."""
    rows = []
    for (controller, horizon), runs in cells("extreme").items():
        steps = [run["steps_to_target"] for run in runs]
        thousands = " ".join("-" if one is None else f"{one / 1000:,.0f}" for one in steps)
        seconds = sorted(run["cpu_seconds"] for run in runs)[len(runs) // 2]
        success = " ".join(f"{run['success']:.2f}" for run in runs)
        rows.append(f"| `{controller}` | {horizon:,} | {thousands} | {success} | {seconds:,.1f} |")
    return rows


def sample_rows() -> list[str]:
    """Return the lines of samples until sampled actions are right nine times in ten, in thousands, each seed's."""
    rows = [sample_row(f"`{name}`", horizon, runs) for (name, horizon), runs in cells("medium").items()]
    for horizon in (50, 200):
        runs = [run for run in PEER if run["horizon"] == horizon]
        assert sorted(run["seed"] for run in runs) == list(range(5))
        rows.append(sample_row("JAX GRU, chrono gates", horizon, runs))
    return rows


def sample_row(name: str, horizon: int, runs: list[dict]) -> str:
    steps = " ".join(
        f"above {run['learn'] / 1000:.0f}"
        if run["steps_to_90_sampled"] is None
        else f"{run['steps_to_90_sampled'] / 1000:.0f}"
        for run in runs
    )
    return f"| {name} | {horizon} | {steps} |"


@pytest.mark.parametrize("rows", [cost_rows, sample_rows], ids=lambda rows: rows.__name__)
def test_the_guide_has_every_row(rows):
    lines = (ROOT / "docs" / "recipe.md").read_text().splitlines()
    missing = [row for row in rows() if row not in lines]
    assert not missing


def test_every_cell_has_all_its_seeds_and_one_commit():
    for tier in ("extreme", "medium"):
        assert all(sorted(run["seed"] for run in runs) == list(range(5)) for runs in cells(tier).values())
    assert len({run["commit"] for run in RUNS}) == 1
    assert not RUNS[0]["commit"].endswith("dirty")
