"""No control scores above its ceiling, neither without memory nor without binding (results/controls.jsonl)."""

import math
from pathlib import Path

import pytest

from memsuite.runs.collection import read_collection
from memsuite.tasks import SECOND, SUITE, make_task

RESULTS = Path(__file__).parents[1] / "results"
FILES = {name: read_collection(RESULTS / f"{name}.jsonl") for name in ("controls", "controls_second")}
RUNS = [run for runs in FILES.values() for run in runs]
# 170 runs are tested; by chance, one exceeds four standard errors once in 180 such sets.
ERRORS = 4


def ceiling(run: dict) -> float:
    anchors = make_task(run["task"], run["difficulty"]).anchors()
    return anchors.unbound if run["controller"] == "pseudo_mamba" else anchors.memoryless


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['task']}-{run['difficulty']}-{run['seed']}")
def test_none_is_above_its_ceiling(run):
    most, episodes = ceiling(run), run["config"]["evaluation_episodes"]
    assert most == pytest.approx(run["unbound" if run["controller"] == "pseudo_mamba" else "chance"], rel=1e-12)
    # Decisions of one episode are not independent, so an episode counts once.
    assert run["success"] <= most + ERRORS * math.sqrt(most * (1 - most) / episodes)


def test_every_task_of_the_results_has_its_control_on_every_seed():
    memoryless = {(run["task"], run["difficulty"], run["seed"]) for run in RUNS if run["controller"] != "pseudo_mamba"}
    tasks = {*SUITE, *SECOND}
    assert memoryless == {(task, tier, seed) for task in tasks for tier in ("easy", "medium") for seed in range(5)}
    unbound = {(run["task"], run["difficulty"], run["seed"]) for run in RUNS if run["controller"] == "pseudo_mamba"}
    assert unbound == {("assoc_recall", tier, seed) for tier in ("easy", "medium") for seed in range(5)}
