"""Retention with other arguments of the task than in training: delays that are not blank."""

import importlib
import json

import pytest

import memsuite
from memsuite.__main__ import main
from memsuite.analysis.retention import beyond, described, group_reports, settings_of
from memsuite.errors import UsageError
from memsuite.launch.plain import apart
from memsuite.rl import evaluate, stream

LINE = "fit --task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --steps 1600 --evaluation_episodes 16"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "x"
    more = "--device cpu --controller gru --controller_args.hidden_dim 16"
    assert main([*f"{LINE} {more}".split(), "--out", str(folder)]) == 0
    return folder


def test_options_of_the_task_are_taken_out_of_a_command_line():
    words = ["runs/x", "--task_args.noise", "0,0.1", "--json", "--task_args.jitter=3"]
    assert apart(words, "--task_args.") == ({"noise": "0,0.1", "jitter": "3"}, ["runs/x", "--json"])
    for wrong in (["--task_args.noise"], ["--task_args.noise", "--json"], ["--task_args.", "1"]):
        with pytest.raises(UsageError, match="needs a name and a value"):
            apart(wrong, "--task_args.")


def test_every_combination_of_values_is_a_setting():
    assert settings_of({}) == [{}]
    assert settings_of({"noise": "0,0.1", "jitter": "3"}) == [{"noise": 0, "jitter": 3}, {"noise": 0.1, "jitter": 3}]
    assert described({"noise": 0.1, "jitter": 3}) == "noise 0.1, jitter 3"
    assert settings_of({"noise": "1e-3"}) == [{"noise": 0.001}]
    with pytest.raises(UsageError, match=r"noise=0,\{: '\{' is not a value in YAML"):
        settings_of({"noise": "0,{"})


def test_the_rows_are_evaluations_on_the_changed_task(run):
    module = memsuite.load(run)
    (row,) = beyond(module, [60], 32, {"noise": 0.5})
    task = module.preset.make(horizon=60, num_cues=4, noise=0.5)
    assert row["success"] == evaluate(task, module.model, 32, stream(module.seed, "retention"))["success"]
    assert row["episodes"] == 32


def test_episodes_are_counted_only_where_they_can_be(run):
    module = memsuite.load(run)
    for setting, episodes in (({}, 4), ({"noise": 0.0}, 4), ({"noise": 0.2}, 12), ({"jitter": 2}, 12)):
        (row,) = beyond(module, [20], 12, setting, counted=True)
        assert row["episodes"] == episodes
    (row,) = beyond(module, [20], 12, {})
    assert row["episodes"] == 12


def test_each_value_is_measured_kept_and_drawn(run, tmp_path, capsys):
    line = ["retention", str(run), "--horizons", "10,40", "--task_args.noise", "0,0.3", "--episodes", "all,8"]
    assert main([*line, "--out", str(tmp_path / "all.json"), "--plot", str(tmp_path / "a.png")]) == 0
    assert "asked with noise 0.3" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "a.png").stat().st_size > 10_000
    reports = json.loads((tmp_path / "all.json").read_text())["reports"]
    assert [report["task_args"] for report in reports] == [{"noise": 0}, {"noise": 0.3}]
    assert [report["trained_task_args"] for report in reports] == [{"noise": 0.0}] * 2
    assert [row["episodes"] for report in reports for row in report["rows"]] == [4, 4, 8, 8]
    assert len(group_reports(reports)) == 2
    kept = json.loads((run / "retention_noise_0.3.json").read_text())
    assert kept["rows"] == reports[1]["rows"]
    assert not (run / "retention.json").exists()


def test_a_measurement_is_used_again_only_for_the_same_arguments(run, monkeypatch):
    line = ["retention", str(run), "--horizons", "10", "--episodes", "4", "--task_args.noise"]
    inside, measured = importlib.import_module("memsuite.cli.retention"), []
    measure = inside.measure
    monkeypatch.setattr(inside, "measure", lambda *given: measured.append(given[2]) or measure(*given))
    for value in ("0.25", "0.25", "0.75"):
        assert main([*line, value]) == 0
    assert measured == [{"noise": 0.25}, {"noise": 0.75}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--task_args.noisy 0.1", "no argument of delayed_cue"),
        ("--task_args.noise 2", "outside 0 to 1"),
        ("--task_args.noise", "needs a name and a value"),
        ("--task_args.noise 0.1 --episodes all", "draw a number"),
        ("--task_args.noise 0.1 --episodes all,x", "neither a whole number"),
    ],
)
def test_a_mistake_is_one_line(run, more, message, capsys):
    assert main(["retention", str(run), "--horizons", "10", *more.split()]) == 2
    answer = capsys.readouterr().err.strip()
    assert message in answer
    assert "\n" not in answer
