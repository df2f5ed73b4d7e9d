"""No control scores above its ceiling: not without memory, with a window or without binding (results/controls*)."""

import math
from pathlib import Path

import pytest

from memsuite.runs.collection import read_collection
from memsuite.tasks import SECOND, SUITE, make_task

RESULTS = Path(__file__).parents[1] / "results"
FILES = {
    name: read_collection(RESULTS / f"{name}.jsonl") for name in ("controls", "controls_second", "controls_window")
}
RUNS = [run for runs in FILES.values() for run in runs]
# 330 runs are tested; by chance, one exceeds four standard errors once in 90 such sets.
ERRORS = 4
KINDS = {"pseudo_mamba": "unbound", "transformer": "window"}  # of controllers; all others have no memory


def kind(run: dict) -> str:
    return KINDS.get(run["controller"], "memoryless")


def ceiling(run: dict) -> float:
    task = make_task(run["task"], run["difficulty"])
    if kind(run) == "window":
        return task.window_anchor(run["config"]["controller_args"]["context_length"])
    return getattr(task.anchors(), kind(run))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{kind(run)}-{run['task']}-{run['difficulty']}-{run['seed']}")
def test_none_is_above_its_ceiling(run):
    most, episodes = ceiling(run), run["config"]["evaluation_episodes"]
    if kind(run) != "window":
        assert most == pytest.approx(run["unbound" if kind(run) == "unbound" else "chance"], rel=1e-12)
    # Decisions of one episode are not independent, so an episode counts once.
    assert run["success"] <= most + ERRORS * math.sqrt(most * (1 - most) / episodes)


@pytest.mark.parametrize(
    ("control", "tasks"),
    [("memoryless", [*SUITE, *SECOND]), ("window", [*SUITE, *SECOND]), ("unbound", ["assoc_recall"])],
)
def test_every_task_of_the_results_has_its_control_on_every_seed(control, tasks):
    found = sorted((run["task"], run["difficulty"], run["seed"]) for run in RUNS if kind(run) == control)
    assert found == sorted((task, tier, seed) for task in tasks for tier in ("easy", "medium") for seed in range(5))


def test_a_window_is_a_quarter_of_the_episode_and_of_one_layer():
    """With more layers a network would see more: each layer reads what the one before it has made of its own window."""
    for run in FILES["controls_window"]:
        given = run["config"]["controller_args"]
        quarter = make_task(run["task"], run["difficulty"]).horizon // 4
        assert (given["depth"], given["context_length"]) == (1, quarter)
