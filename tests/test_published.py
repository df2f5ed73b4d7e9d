"""Published results are complete: every run of their suite and no other, all seeds, and one commit per cell."""

import functools
import json
import re
from pathlib import Path

import pytest
from published import commands_before_v2

from memsuite.analysis.results import CELL, read_results
from memsuite.analysis.retention import group_reports
from memsuite.runs.collection import read_collection
from memsuite.suite.grid import read_suite

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SEEDS = list(range(5))
# A file of results and the suite that made it.
SUITES = {"reference": "reference_v1", "controls": "controls_v1", "horizons": "horizons_v1", "beyond": "beyond_v1"}
REPORTS = json.loads((RESULTS / "beyond.json").read_text())["reports"]
UNFINISHED = (
    "reference_v2",
    "ceilings_v2",
    "to_target_v2",
    "longest_v2",
    "t_maze_v2",
    "map_v2",
    "second_easy_v1",
    "popgym_v1",
)
FEWER_SEEDS = {"zoo_v1": 3, "products_v1": 2, "minigrid_memory": 3, "recipe_v2": 3}
ONE_COMMIT = ["recipe", "controls", "horizons", "golden", "beyond", "reference_v1_again"]


@functools.cache
def runs_of(name):
    """Return the runs of a file; the runs of beyond.json are in its reports, with the measurements of them."""
    return [one["training"] for one in REPORTS] if name == "beyond" else read_collection(RESULTS / f"{name}.jsonl")


@pytest.mark.parametrize("name", SUITES)
def test_every_run_of_the_suite_is_there_and_no_other(name):
    assert sorted(run["command"] for run in runs_of(name)) == commands_before_v2(SUITES[name])


WHOLE = {"recipe_v1": "recipe", "controls_second_v1": "controls_second", "controls_window_v2": "controls_window"} | {
    name: name for name in ("zoo_v1", "map_v2", "products_v1", "recipe_v2")
}


@pytest.mark.parametrize(("suite", "name"), WHOLE.items())
def test_every_run_of_the_grid_is_there_and_no_other(suite, name):
    asked = {run.id for run in read_suite(ROOT / "configs" / "suites" / f"{suite}.yaml").runs}
    made = [re.search(rf"--out runs/{suite}/(\S+)", run["command"])[1] for run in runs_of(name)]
    assert sorted(made) == sorted(asked)


def test_the_easy_tier_again_is_whole():
    """All models of the first reference but Gated DeltaNet, which it was counted without."""
    suite = read_suite(ROOT / "configs" / "suites" / "reference_v1.yaml")
    asked = [run.id for run in suite.runs if "-easy/" in run.id and "gated_deltanet" not in run.id]
    made = [re.search(r"--out runs/reference_v1/(\S+)", run["command"])[1] for run in runs_of("reference_v1_again")]
    assert len(asked) == 240
    assert sorted(made) == sorted(asked)


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_is_there_of_an_unfinished_suite_is_of_it(name):
    """Such a suite takes long, so a part of it may be published; the pages show the part that exists."""
    file = RESULTS / f"{name}.jsonl"
    made = [run["command"] for run in read_collection(file)] if file.is_file() else []
    asked = {run.command.replace(f"{ROOT}/", "") for run in read_suite(ROOT / f"configs/suites/{name}.yaml").runs}
    assert set(made) <= asked


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_cell_has_all_its_seeds_and_one_commit(path):
    for cell, runs in read_results(path).groupby(CELL, dropna=False):
        seeds = SEEDS[: FEWER_SEEDS.get(path.stem, len(SEEDS))]
        assert path.stem in UNFINISHED or runs["seed"].tolist() == seeds, cell
        assert path.stem in UNFINISHED or runs["commit"].nunique() == 1, cell
        assert not runs["commit"].iloc[0].endswith("dirty"), cell


@pytest.mark.parametrize("name", ONE_COMMIT)
def test_what_is_compared_is_of_one_commit(name):
    assert len({run["commit"] for run in runs_of(name)}) == 1


def test_every_cell_of_the_first_reference_was_trained_for_as_many_steps():
    for cell, runs in read_results(RESULTS / "reference.jsonl").groupby(CELL, dropna=False):
        assert runs["env_steps"].nunique() == 1, cell


def test_every_model_was_measured_beyond_on_all_its_seeds_by_the_commit_that_trained_it():
    for runs in group_reports(REPORTS).values():
        assert sorted(run["seed"] for run in runs) == SEEDS
    assert {run["commit"] for run in REPORTS} == {run["commit"] for run in runs_of("beyond")}


def test_every_model_was_asked_through_every_delay_on_all_its_seeds():
    asked = {run.id for run in read_suite(ROOT / "configs" / "suites" / "contamination_v2.yaml").runs}
    reports = json.loads((RESULTS / "contamination.json").read_text())["reports"]
    for noise in (0, 0.01, 0.1):
        of_noise = [one for one in reports if one["task_args"]["noise"] == noise]
        assert sorted(one["run"].removeprefix("runs/contamination_v2/") for one in of_noise) == sorted(asked)
        for one in of_noise:
            assert [row["horizon"] for row in one["rows"]] == [200, 1000, 10_000, 100_000]
            assert not one["training"]["commit"].endswith("dirty")


def test_the_peer_has_all_its_seeds_at_every_horizon():
    peers = json.loads((RESULTS / "samples.json").read_text())["runs"]
    assert sorted((run["horizon"], run["seed"]) for run in peers) == [(h, seed) for h in (50, 200) for seed in SEEDS]
