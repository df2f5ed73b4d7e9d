"""``memsuite suite --set``: another model, or other settings, in the cells of a suite that is published."""

import pytest
from one_line import answer_in
from suites import write_suite

from memsuite.__main__ import main
from memsuite.errors import UsageError
from memsuite.shipped import names
from memsuite.suite.changes import read_changes
from memsuite.suite.grid import read_suite

MODEL = """
from memsuite.controllers import LAYERS

class MyModel(LAYERS["mingru"]):
    pass
"""


def ids(path, *given):
    return [run.id for run in read_suite(path, changes=read_changes(given)).runs]


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("controller=my_module.MyModel", ["my_module.MyModel"]),
        ("controller=gru,lru", ["gru", "lru"]),
        ("steps=1e6", ["1e6"]),
        ("horizon=null", [None]),
        ("task=gym:CartPole-v1", ["gym:CartPole-v1"]),
        ("x=[1, 2],[3]", [[1, 2], [3]]),
    ],
)
def test_a_change_is_read_as_yaml(given, values):
    assert list(read_changes([given]).values()) == [values]


def test_settings_below_a_key_and_below_model_are_spelt_with_dots():
    changes = read_changes(["controller_args={hidden_dim: 64, depth: 2}", "model.task=n_back", "model.ppo.draws=8,16"])
    assert changes == {
        "controller_args.hidden_dim": [64],
        "controller_args.depth": [2],
        "task": ["n_back"],
        "model.ppo.draws": [8, 16],
    }


def test_another_model_takes_the_place_of_the_published_ones_in_every_cell():
    path = names("suite")["reference_v2"]
    published, own = (
        read_suite(path).runs,
        read_suite(path, changes=read_changes(["controller=my_module.MyModel"])).runs,
    )
    assert len(own) == len(published) / 11
    cells = {run.id.partition("/")[0] for run in published}
    assert {run.id.partition("/")[0] for run in own} == cells
    gru = {run.id: run.asked for run in published if run.asked["controller"] == "gru"}
    for run in own:  # with the published settings, the model apart
        assert {**run.asked, "controller": "gru"} == gru[run.id.replace("my_module.MyModel", "gru")]


def test_what_is_no_axis_is_a_setting_and_wins_over_every_source(tmp_path):
    settings = {"steps": 400, "task_args": {"num_cues": 4}}
    entries = [{"task": "delayed_cue", "steps": 800, "grid": {"controller_args.hidden_dim": [8, 16]}}, {"horizon": 20}]
    overrides = [{"when": {"seed": 0}, "settings": {"steps": 1200, "horizon": 30}}]
    grid = {"task": ["delayed_cue"], "seed": [0]}
    path = write_suite(tmp_path, settings, grid, entries=entries, overrides=overrides)
    for run in read_suite(path, changes=read_changes(["steps=2400"])).runs:
        assert run.asked["steps"] == 2400
        assert run.asked["horizon"] == 30
    assert ids(path, "controller_args.hidden_dim=64", "seed=3") == [
        "delayed_cue-medium-H10/gru-hidden_dim64/seed3",
        "delayed_cue-medium-H20/gru/seed3",
    ]


def test_several_values_of_a_setting_make_an_axis(tmp_path):
    path = write_suite(tmp_path, {}, {"task": ["delayed_cue"], "seed": [0]})
    assert ids(path, "num_envs=4,8") == [f"delayed_cue-medium-H10/gru-num_envs{n}/seed0" for n in (4, 8)]


def test_an_override_that_only_what_was_replaced_could_meet_is_left_aside(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "grid: {controller: [gru, lstm], seed: [0]}\nexclude: [{controller: lstm}]\n"
        "overrides: [{when: {controller: gru}, settings: {steps: 6400}}, {when: {seed: 4}, settings: {steps: 1}}]"
    )
    with pytest.raises(UsageError, match="entry 2 of overrides matches no run"):
        ids(path, "controller=lru")
    assert ids(path, "controller=lru", "seed=4") == ["delayed_cue-medium/lru/seed4"]


def test_own_models_run_and_only_chooses_among_them(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites_own_model.py").write_text(MODEL)
    line = "suite basic_v1 --set controller=suites_own_model.MyModel --set steps=25600 --set num_envs=64"
    line += " --set evaluation_episodes=8 --set model.ppo.draws=4 --only assoc_recall-medium-H200 --out runs --jobs 1"
    assert main(line.split()) == 0
    assert "1 of 1 runs finished" in capfd.readouterr().out
    assert (tmp_path / "runs/assoc_recall-medium-H200/suites_own_model.MyModel/seed0/result.json").is_file()


MISTAKES = {
    "controller": "--set controller: write it as KEY=VALUE",
    "controller=": "--set controller=: write it as KEY=VALUE",
    "=gru": "--set =gru: write it as KEY=VALUE",
    "seed=[": "is not a value in YAML",
    "steps=1 --set steps=2": "--set gives steps a second time",
    "out=x": "out is set by the suite itself",
    "contrller=gru": "no setting 'contrller'; did you mean: controller",
    "controller=mabma": "no controller 'mabma'; did you mean: mamba",
    "controller=nowhere.Model": "controller 'nowhere.Model' cannot be imported",
    "horizon=50": "two runs have the id delayed_cue-medium-H50/gru/seed0",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_is_one_line(given, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    answer = answer_in(tmp_path, lambda: capfd.readouterr().err)
    assert MISTAKES[given] in answer(*f"suite basic_v1 --dry_run --set {given}".split())
