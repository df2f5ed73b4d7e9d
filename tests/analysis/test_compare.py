"""Comparisons: a planted regression is found, equal models rarely raise an alarm, and a mistake gives one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from memsuite.__main__ import main
from memsuite.analysis.compare import compare, summarise
from memsuite.analysis.curves import read_curves
from memsuite.analysis.results import labels, read_results, variant
from memsuite.errors import UsageError
from memsuite.runs import RunResult
from memsuite.runs.collection import read_collection, write_collection
from memsuite.runs.result import KIND_OF, KINDS

from .made import result, write_runs

ROOT = Path(__file__).parents[2]
TASKS = ("delayed_cue", "copy_memory", "assoc_recall", "n_back")
MODELS = ("gru", "lstm", "mamba")


def table_of(results, tmp_path, name):
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps({"runs": results}))
    return read_results(file)


def grid(draw):
    return [
        result(model, seed, draw(), task=task, horizon=50) for task in TASKS for model in MODELS for seed in range(5)
    ]


def test_a_folder_and_a_file_read_alike(tmp_path):
    runs = [result(seed=seed, success=0.9 + seed / 100) for seed in range(3)]
    folder = read_results(write_runs(tmp_path / "runs", runs))
    file = table_of(runs, tmp_path, "file")
    assert folder.drop(columns="folder").equals(file)
    assert file["seed"].tolist() == [0, 1, 2]


def told_apart(config, **more):
    """Return the settings that distinguish a run from others."""
    return variant(RunResult.read(result(**more, config=config), "x"))


def test_what_tells_cells_apart():
    assert told_apart({"ppo": {"epochs": 4}, "num_envs": 64, "controller_args": None}) == ("v1", "")
    settings = {"ppo": {"epochs": 8}, "num_envs": 32, "controller_args": {"depth": 2}, "task_args": {"n": 3}}
    assert told_apart(settings) == ("v1", "depth=2, epochs=8, n=3, num_envs=32")


def test_a_default_that_was_given_tells_nothing_apart():
    given = {"task": "delayed_cue", "difficulty": "medium", "controller": "gru"}
    given |= {"task_args": {"num_cues": 8}, "controller_args": {"hidden_dim": 128}}
    assert told_apart(given) == ("v1", "")
    assert told_apart(given | {"controller_args": {"memory_horizon": None}})[1] == "memory_horizon=None"
    assert told_apart(given | {"task_args": {"num_cues": 4}})[1] == "num_cues=4"
    own = given | {"controller": "mine.Model", "task": "mine.Task"}
    assert told_apart(own)[1] == "hidden_dim=128, num_cues=8"


def test_labels_name_only_what_differs(tmp_path):
    runs = [
        result("gru", 0, config={"steps": 100, "controller_args": {"hidden_dim": 64}}),
        result("gru", 0, config={"steps": 200, "controller_args": {"hidden_dim": 64, "depth": 2}}),
        result("gru", 0, horizon=90, config={"steps": 100, "controller_args": {"hidden_dim": 64}}),
        result("gru", 0, horizon=90, config={"steps": 25_000_000, "controller_args": {"hidden_dim": 64}}),
    ]
    names = labels(table_of(runs, tmp_path, "x"))
    assert dict(zip(names["cell"], names["apart"], strict=True)) == {
        "delayed_cue-easy H=50 0.1k steps": "",
        "delayed_cue-easy H=50 0.2k steps": "depth=2",
        "delayed_cue-easy H=90 0.1k steps": "",
        "delayed_cue-easy H=90 25M steps": "",
    }


def test_a_setting_that_is_a_list_is_named_whole(tmp_path):
    runs = [result(seed=s, config={"steps": 100, "task_args": {"mask": [1, s]}}) for s in (2, 3)]
    assert labels(table_of(runs, tmp_path, "x"))["apart"].tolist() == ["mask=[1, 2]", "mask=[1, 3]"]


def test_a_summary_counts_seeds(tmp_path):
    cells = summarise(table_of([result(seed=s, success=x) for s, x in enumerate((1, 1, 0.5))], tmp_path, "x"))
    (row,) = cells.to_dict("records")
    assert (row["seeds"], row["solved_seeds"]) == (3, 2)
    assert row["success"] == pytest.approx(2.5 / 3)
    assert 0 <= row["success_low"] < row["success"] < row["success_high"] <= 1
    assert row["score"] == pytest.approx((2.5 / 3 - 0.25) / 0.75)


def test_the_interval_of_a_score_is_known_although_all_runs_are_at_chance(tmp_path):
    (row,) = summarise(table_of([result(success=0.25, oracle=1.0)], tmp_path, "x")).to_dict("records")
    width = row["success_high"] - row["success_low"]
    assert row["score_high"] - row["score_low"] == pytest.approx(width / 0.75)


def test_a_seed_without_a_step_to_target_leaves_the_median_unknown(tmp_path):
    runs = [result(seed=s, steps_to_target=x) for s, x in enumerate((100, None, 300))]
    assert np.isnan(summarise(table_of(runs, tmp_path, "x"))["steps_to_target"].iloc[0])


@pytest.mark.parametrize("order", ["worse", "better"])
def test_a_planted_difference_is_found_among_equals(tmp_path, order):
    random = np.random.default_rng(0)
    good = grid(lambda: float(random.uniform(0.9, 1.0)))
    other = grid(lambda: float(random.uniform(0.9, 1.0)))
    for run in other:
        if (run["task"], run["controller"]) == ("n_back", "lstm"):
            run["success"] -= 0.3
            run["success_low"], run["success_high"] = run["success_low"] - 0.3, run["success_high"] - 0.3
    sides = (other, good) if order == "worse" else (good, other)
    rows = compare(*(table_of(side, tmp_path, str(i)) for i, side in enumerate(sides)))
    apart = rows[rows["verdict"] != "similar"]
    assert apart[["task", "controller", "verdict"]].to_numpy().tolist() == [["n_back", "lstm", order]]


def test_equal_models_raise_an_alarm_at_most_as_rarely_as_is_said(tmp_path):
    """Families of 12 cells of 5 seeds; each side is drawn from outcomes of real runs: solved, stuck, or between."""
    random = np.random.default_rng(0)
    outcomes = np.array([1.0, 1.0, 0.998, 0.876, 0.872, 0.75, 0.6, 0.999])
    chances = [random.dirichlet(np.ones(len(outcomes)) * 0.4) for _ in range(len(TASKS) * len(MODELS))]
    alarms = 0
    for _ in range(60):
        sides = []
        for name in ("a", "b"):
            true = [random.choice(outcomes, p=chance) for chance in chances for _ in range(5)]
            measured = iter([float(random.binomial(1024, x) / 1024) for x in true])
            sides.append(table_of(grid(lambda measured=measured: next(measured)), tmp_path, name))
        alarms += bool(compare(*sides)["verdict"].isin(["worse", "better"]).any())
    assert alarms <= 7  # 5% of 60 is 3; 8 or more has a chance of 1%


def test_the_command_tells_by_its_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path / "good", [result(seed=s) for s in range(5)])
    write_runs(tmp_path / "bad", [result(seed=s, success=0.5 + s / 100) for s in range(5)])
    assert main(["compare", "--results", "good", "--baseline", "bad"]) == 0
    assert "1 better" in capsys.readouterr().out
    assert main(["compare", "--results", "bad", "--baseline", "good", "--out", "c.json"]) == 1
    (row,) = json.loads((tmp_path / "c.json").read_text())
    assert (row["verdict"], row["new_seeds"]) == ("worse", 5)
    assert row["difference"] == pytest.approx(-0.48)
    assert main(["compare", "--results", "good", "--json"]) == 0
    assert "success" in capsys.readouterr().out


def test_the_usual_baseline_is_the_published_reference_of_the_recipe(tmp_path, monkeypatch, capsys):
    """Only cells that were run are compared; what is not published is new, and if nothing is, there is a summary."""
    monkeypatch.chdir(tmp_path)
    for name in ("reference", "reference_v2"):
        published = read_collection(ROOT / "results" / f"{name}.jsonl")
        cell = [run for run in published if (run["task"], run["difficulty"]) == ("delayed_cue", "easy")]
        mine = [run for run in cell if run["controller"] == "gru" and run.get("objective", "ppo") == "ppo"]
        write_runs(tmp_path / name, [*mine, result(task="mine.Task", controller="mine.Model")])
        assert main(["compare", "--results", name]) == 0
        said = capsys.readouterr()
        judged = "similar" if len(mine) > 3 else "unknown"  # of two published seeds a permutation test finds nothing
        assert f"1 {judged}, 1 new;" in said.out + said.err
        assert ("too few seeds" in said.out + said.err) == (judged == "unknown")
        assert "missing" not in said.out + said.err
    write_runs(tmp_path / "own", [result(task="mine.Task", controller="mine.Model")])
    assert main(["compare", "--results", "own"]) == 0
    said = capsys.readouterr().out
    assert "Results over seeds" in said
    assert "There are no published results of these cells" in said


MISTAKES = {
    "compare": "required",
    "compare --results none": "no results at none",
    "compare --results empty": "no finished run",
    "compare --results bad.json": "not JSON",
    "compare --results odd.json": "holds no results",
    "compare --results part.json": "it has no 'success_low'",
    "compare --results twice": "more than once",
    "compare --results runs --confidence 2": "at least 0.5",
    "compare --results runs --out empty": "is a folder",
    "report --results empty": "no finished run",
    "report --results runs --out full": "already holds a report",
    "report --results runs --out bad.json": "cannot write",
    "report --result runs": "--results",
    "report --results runs --collect all.json": "ends in .jsonl",
    "report --results bad.jsonl": "bad.jsonl, line 2 is not JSON",
    "compare --results part.jsonl": "part.jsonl, line 3 holds no result of memsuite's: it has no 'success_low'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "odd.json").write_text('{"a": [1]}')
    part = {name: value for name, value in result().items() if name != "success_low"}
    (tmp_path / "part.json").write_text(json.dumps([part]))
    (tmp_path / "bad.jsonl").write_text('{"format": 1, "runs": 1, "common": {}}\n{')
    write_collection(tmp_path / "part.jsonl", [result(), part])
    write_runs(tmp_path / "runs", [result()])
    write_runs(tmp_path / "twice", [result(), result()])
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert MISTAKES[line] in err
    assert len(err.splitlines()) == 1


KINDS_BY_NAME = {name: KINDS[kind][0] for name, kind in KIND_OF.items()}
WRONG = {
    "a text": (-1.5, [1], {"a": 1}, True),
    "a whole number": ("x", -1.5, [1], {"a": 1}, True),
    "a number": ("x", [1], {"a": 1}, True, float("inf")),
    "true or false": ("x", 1, [1], {"a": 1}),
    "a mapping": ("x", 1, [1], True),
}


@pytest.mark.parametrize(("name", "value"), [(n, value) for n, kind in KINDS_BY_NAME.items() for value in WRONG[kind]])
def test_what_is_of_another_kind_is_named(name, value, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([result() | {name: value}]))
    with pytest.raises(UsageError, match=rf"r\.json: {name} is .*; it must be {KINDS_BY_NAME[name]}"):
        read_results(tmp_path / "r.json")


def test_a_run_that_was_extended_is_not_averaged_with_one_longer_run(tmp_path):
    """Its rate fell to 0 and rose again."""
    first, more = "memsuite fit --steps {} --seed 1", "memsuite fit --ckpt_path last --steps 20000"
    commands = [first.format(20000), f"{first.format(5000)} && {more}", f"memsuite fit --seed 2 && {more}"]
    runs = [result(seed=seed, command=command) for seed, command in enumerate(commands)]
    (tmp_path / "r.json").write_text(json.dumps(runs))
    assert read_results(tmp_path / "r.json")["variant"].tolist() == [
        "",
        "extended_after=5000",
        "extended_after=its budget",
    ]


def test_a_curriculum_that_says_little_is_named(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([result(curriculum={"start": 5})]))
    with pytest.raises(UsageError, match="curriculum has no 'argument'"):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize("name", ["ppo", "task_args", "controller_args"])
def test_settings_that_are_no_mapping_are_named(name, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps([result() | {"config": {name: "x"}}]))
    with pytest.raises(UsageError, match=rf"config\.{name} is 'x'; it must be a mapping"):
        read_results(tmp_path / "r.json")


def test_numbers_that_no_run_knows_are_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    unknown = dict.fromkeys([name for name, kind in KIND_OF.items() if kind == "float"])  # as for a Gym task
    write_runs(tmp_path / "runs", [result(seed=seed) | unknown for seed in range(2)], curve=False)
    assert main(["compare", "--results", "runs"]) == 0
    assert main(["compare", "--results", "runs", "--baseline", "runs"]) == 0
    assert main(["report", "--results", "runs"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_curves_are_the_evaluations(tmp_path):
    curves = read_curves(read_results(write_runs(tmp_path, [result(), result(seed=1, success=0.5)])))
    assert curves["env_steps"].tolist() == [5000, 10000, 20000] * 2
    assert curves["success"].tolist() == [0.25, 0.5, 1.0, 0.125, 0.25, 0.5]


def test_without_pandas_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UsageError, match=r"memsuite-rl\[report\]"):
        read_results(tmp_path)
