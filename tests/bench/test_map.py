"""The map of solved cells: what counts as solved, what it cost, and its picture."""

from memsuite.bench.map import cell, measure, table
from memsuite.launch.plain import console
from memsuite.runs.collection import read_collection
from memsuite.shipped import find
from memsuite.tasks import SUITE, get_task_config


def runs_of(successes, seconds):
    (one, *_) = [run for run in read_collection(find("results", "reference_v2")) if run["task"] == "n_back"]
    return [
        one
        | {"seed": seed, "success": success, "success_low": success, "success_high": success}
        | {"cpu_seconds_to_target": took}
        for seed, (success, took) in enumerate(zip(successes, seconds, strict=True))
    ]


def test_four_seeds_of_five_at_the_end_solve_a_cell():
    target = get_task_config("n_back", "easy").target_success
    above, below = target, target - 0.01
    four = cell(runs_of([above, above, below, above, above], [9.0, 1.0, 0.5, 3.0, 2.0]))
    assert (four["solved_seeds"], four["solved"]) == (4, True)
    assert four["cpu_seconds_to_target"] == 2.5  # the median of those at the target
    three = cell(runs_of([above, below, below, above, above], [1.0] * 5))
    assert (three["solved_seeds"], three["solved"]) == (3, False)
    assert cell(runs_of([below] * 5, [None] * 5))["cpu_seconds_to_target"] is None


def test_runs_with_a_curriculum_are_apart_and_marked(tmp_path, monkeypatch):
    target = get_task_config("n_back", "easy").target_success
    plain = runs_of([target] * 5, [9.0] * 5)
    stages = [{"horizon": 20, "env_steps": 0}]
    grown = [
        run | {"curriculum": {"argument": "horizon", "start": 20, "factor": 1.5, "stages": stages}} for run in plain
    ]
    monkeypatch.setattr("memsuite.bench.map.read_collection", lambda _: [*plain, *grown])
    without, with_one = measure(console(), "reference_v2", str(tmp_path / "map.png"))
    assert (without["curriculum"], with_one["curriculum"]) == (None, {"argument": "horizon", "start": 20})
    assert [len(row["seeds"]) for row in (without, with_one)] == [5, 5]
    assert {run["updates_to_target"] for run in with_one["seeds"]} == {None}  # its episodes have several lengths


def test_published_runs_make_a_map_and_a_picture(tmp_path):
    rows = measure(console(), "reference_v2", str(tmp_path / "map.png"))
    assert {row["task"] for row in rows} == set(SUITE)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert table(rows).row_count == len(rows)
    assert [SUITE.index(row["task"]) for row in rows] == sorted(SUITE.index(row["task"]) for row in rows)


def test_other_settings_are_another_row_and_other_horizons_none(monkeypatch):
    """Their runs together would be more seeds than there are, and some at another target than theirs."""
    plain = runs_of([1.0] * 3, [9.0] * 3)
    config = plain[0]["config"]
    deep = [run | {"config": config | {"controller_args": {**config["controller_args"], "gain": 0.5}}} for run in plain]
    far = [run | {"horizon": 2 * run["horizon"]} for run in plain]
    monkeypatch.setattr("memsuite.bench.map.read_collection", lambda _: [*plain, *deep, *far])
    rows = measure(console(), "reference_v2")
    assert [(len(row["seeds"]), row["solved"]) for row in rows] == [(3, False)] * 2
    assert sum("gain=0.5" in row["settings"] for row in rows) == 1
