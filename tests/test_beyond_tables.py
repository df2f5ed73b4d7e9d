"""The tables of what was trained at 200 steps, and of what is left at a million, are those of results/beyond.json."""

import json
from pathlib import Path

import pytest
from published import commands_before_v2

from memsuite.analysis.retention import group_reports

ROOT = Path(__file__).parents[1]
REPORTS = json.loads((ROOT / "results" / "beyond.json").read_text())["reports"]
HORIZONS = (1000, 10_000, 100_000, 1_000_000)


def learning_rows() -> list[str]:
    """Return the lines of what every controller of the results reaches at 200 steps, and after how many steps."""
    rows = []
    for name in dict.fromkeys(one["controller"] for one in REPORTS):
        runs = [one["training"] for one in REPORTS if one["controller"] == name and not special(one)]
        success = " ".join(f"{run['success']:.3f}" for run in runs)
        steps = " ".join(f"{run['steps_to_target'] / 1000:.0f}" for run in runs)
        rows.append(f"| `{name}` | {runs[0]['parameters']:,} | {runs[0]['state_floats']:,} | {success} | {steps} |")
    return rows


def special(report: dict) -> bool:
    return bool(report["curriculum"] or report["controller_args"])


def beyond_rows() -> list[str]:
    """Return the lines of what is left far beyond: cues that are right over all seeds, and each seed at the end."""
    rows = []
    for name, runs in group_reports(REPORTS).items():
        found = [{row["horizon"]: row["success"] for row in run["rows"]} for run in runs]
        means = [f"{sum(one[horizon] for one in found) / len(found):.3f}" for horizon in HORIZONS]
        each = " ".join(f"{8 * one[HORIZONS[-1]]:.0f}" for one in found)
        rows.append((sum(one[HORIZONS[-1]] for one in found), "| " + " | ".join([name, *means, each]) + " |"))
    return [text for _, text in sorted(rows, key=lambda row: -row[0])]


@pytest.mark.parametrize(("rows", "page"), [(learning_rows, "controllers"), (beyond_rows, "probes")])
def test_the_guide_has_every_row(rows, page):
    lines = (ROOT / "docs" / f"{page}.md").read_text().splitlines()
    missing = [row for row in rows() if row not in lines]
    assert not missing


def test_every_run_of_the_suite_is_there_and_no_other():
    assert sorted(one["training"]["command"] for one in REPORTS) == commands_before_v2("beyond_v1")


def test_every_model_has_all_its_seeds_and_one_commit():
    for runs in group_reports(REPORTS).values():
        assert sorted(run["seed"] for run in runs) == list(range(5))
    commits = {run["training"]["commit"] for run in REPORTS} | {run["commit"] for run in REPORTS}
    assert len(commits) == 1
    assert not commits.pop().endswith("dirty")
