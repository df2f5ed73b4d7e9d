"""Evaluation far beyond the trained horizon: the same agent, any horizon, constant memory use."""

import json
import math
import resource
import sys

import pytest
import torch

import memsuite
from memsuite.__main__ import main
from memsuite.analysis.plots.reports import draw
from memsuite.analysis.results import read_results
from memsuite.analysis.retention import beyond, group_reports, half_life, retention
from memsuite.controllers import make_controller
from memsuite.controllers.base import forward_in_blocks
from memsuite.errors import UsageError
from memsuite.rl.evaluate import MOST_STEPS
from memsuite.tasks import Anchors

LINE = "fit --task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --steps 1600 --evaluation_episodes 16"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of a controller that does not forget: an integrator that starts with a long memory."""
    folder = tmp_path_factory.mktemp("runs") / "x"
    more = "--device cpu --controller pseudo_mamba --controller_args.hidden_dim 16"
    assert main([*f"{LINE} {more}".split(), "--out", str(folder)]) == 0
    return folder


def rows_of(*scores, begin=10):
    return [{"horizon": begin * 10**i, "score": score} for i, score in enumerate(scores)]


def test_half_life_is_between_the_rows_in_the_log():
    assert half_life(rows_of(1.0, 0.75, 0.25)) == pytest.approx(math.sqrt(100 * 1000))
    assert half_life(rows_of(0.5, 1.0, 0.0)) == pytest.approx(math.sqrt(100 * 1000))  # counted from the highest score
    assert half_life(rows_of(1.0, 0.9)) is None
    assert half_life(rows_of(1.0, 0.5)) == half_life(rows_of(1.0, 0.5, 0.1)) == pytest.approx(100)
    assert half_life(rows_of(0.0, -0.1)) is None


def test_what_is_held_is_read_in_blocks():
    controller = make_controller("gru", input_dim=9, hidden_dim=16, memory_horizon=3000)
    x, is_first = torch.zeros(2500, 8, 9), torch.zeros(2500, 8, dtype=torch.bool)
    x[0, :, :8], x[-1, :, -1], is_first[0] = torch.eye(8), 1.0, True
    with torch.no_grad():
        feature = forward_in_blocks(controller, x, controller.init_state(8), is_first, 2500)[0][-1]
    feature = torch.nn.functional.rms_norm(feature, (16,), eps=1e-8)
    assert retention(controller, 2500) == pytest.approx(float((feature - feature.mean(0)).norm() / feature.norm()))


def test_the_rows_are_evaluations_of_the_same_agent(run):
    module = memsuite.load(run)
    rows = list(beyond(module, [10, 300], episodes=64))
    assert [row["horizon"] for row in rows] == [10, 300]
    assert all(row["success_low"] <= row["success"] <= row["success_high"] for row in rows)
    assert rows[0]["chance"] == 0.25
    assert rows[0]["episodes"] == 64
    assert module.task.horizon == 10


def test_the_number_side_by_side_falls_with_the_horizon(run, monkeypatch):
    module, sizes = memsuite.load(run), []
    inside = sys.modules["memsuite.rl.evaluate"]
    begin = inside.begin
    monkeypatch.setattr(inside, "begin", lambda task, model, n, g: sizes.append(n) or begin(task, model, n, g))
    list(beyond(module, [10, MOST_STEPS // 4], episodes=5))
    assert sizes == [5, 4, 1]


def test_the_command_writes_a_file_for_the_report_and_draws(run, tmp_path, capsys):
    line = ["retention", str(run), "--horizons", "10,40", "--episodes", "8", "--plot", str(tmp_path / "a" / "b.png")]
    assert main(line) == 0
    assert "trained at 10 steps" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "a" / "b.png").stat().st_size > 10_000
    report = json.loads((run / "retention.json").read_text())
    assert [row["horizon"] for row in report["rows"]] == [10, 40]
    assert main(["report", "--results", str(run), "--out", str(tmp_path / "page")]) == 0
    assert 'id="retention"' in (tmp_path / "page" / "index.html").read_text()


def test_curves_of_a_folder_of_runs_are_collected_with_how_they_were_made(run, tmp_path, capsys):
    out = tmp_path / "o.json"
    line = ["retention", str(run.parent), "--horizons", "10,5000", "--episodes", "all", "--out", str(out)]
    assert main(line) == 0
    content = json.loads(out.read_text())
    assert content["command"] == "memsuite " + " ".join(line)
    (report,) = content["reports"]
    assert {"commit", "hardware", "versions", "command", "checkpoint", "wall_seconds", "seed"} <= report.keys()
    assert report["training"] == json.loads((run / "result.json").read_text())
    assert report["run"] == str(run)
    assert [row["episodes"] for row in report["rows"]] == [4, 4]
    assert len(read_results(out)) == 1


def test_unknown_anchors_are_left_out(run, tmp_path, monkeypatch, capsys):
    """A task of a user's own may not know them."""
    unknown = Anchors(random=math.nan, memoryless=math.nan)
    monkeypatch.setattr(memsuite.load(run).task.__class__, "anchors", lambda self: unknown)
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    line = ["retention", str(run), "--horizons", "10,20", "--episodes", "8", "--overwrite"]
    assert main([*line, "--out", str(out), "--plot", str(plot)]) == 0
    (report,) = json.loads(out.read_text())["reports"]
    assert [(row["chance"], row["score"]) for row in report["rows"]] == [(None, None)] * 2
    assert "trained at 10 steps" in " ".join(capsys.readouterr().out.split())
    assert plot.stat().st_size > 10_000
    draw([{**report, "seed": seed} for seed in range(3)], plot)
    trained = {**report, "trained_task_args": {"noise": 0.0}}
    draw([{**trained, "task_args": {"noise": noise}} for noise in (0.0, 0.1)], plot)


@pytest.mark.parametrize("horizons", [[], [50, 20], [20, 20]])
def test_horizons_must_rise(run, horizons):
    for episodes in (None, 8):
        with pytest.raises(UsageError, match="name one or more, in rising order"):
            list(beyond(memsuite.load(run), horizons, episodes))


def test_retention_needs_cues_and_a_wait():
    for width, horizon in ((8, 20), (9, 1)):
        with pytest.raises(UsageError, match="retention needs 8 cues and a query, and 2 steps"):
            retention(make_controller("trace", input_dim=width), horizon)


def test_what_was_measured_is_not_measured_again(run, tmp_path, monkeypatch):
    line = ["retention", str(run), "--horizons", "10,20", "--episodes", "8"]
    assert main(line) == 0
    before = (run / "retention.json").read_text()
    monkeypatch.setattr("memsuite.cli.retention.beyond", lambda *_: pytest.fail("measured again"))
    assert main([*line, "--out", str(tmp_path / "o.json")]) == 0
    assert (run / "retention.json").read_text() == before
    for other in (["--overwrite"], ["--episodes", "9"], ["--horizons", "10,21"], ["--episodes", "all"]):
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            main([*line, *other])
    (run / "retention.json").write_text("{}")
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        main(line)


def test_seeds_of_a_model_make_a_panel_and_models_are_told_apart(tmp_path):
    rows = [{"horizon": h, "success": 1.0, "chance": 0.125} for h in (50, 1000)]
    about = {"task": "delayed_cue", "difficulty": "medium", "trained_horizon": 200, "curriculum": None, "rows": rows}
    given = [{"controller_args": {}}, {"controller_args": {"gain": 1.1}}, {"curriculum": {"start": 50}}]
    reports = [{**about, **more, "controller": "gru", "seed": seed} for more in given for seed in range(3)]
    assert {name: len(runs) for name, runs in group_reports(reports).items()} == {
        "gru": 3,
        "gru, gain 1.1": 3,
        "gru, from 50": 3,
    }
    draw(reports, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


MISTAKES = {
    "retention": "required: runs",
    "retention none": "no checkpoint at none",
    "retention RUN --horizons 5,x": "not a list of whole numbers",
    "retention RUN --horizons 1": "the shortest is",
    "retention RUN --episodes 0": "neither a whole number above 0 nor all",
    "retention RUN --episodes some": "neither a whole number above 0 nor all",
    "retention RUN/checkpoints": "no checkpoint at",
    "retention RUN --horizons 10 --episodes 4 --out RUN/log.txt/o.json": "cannot write --out",
    "retention RUN --plot a.xyz": "ends in one of",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(line.replace("RUN", str(run)).split()) == 2
    err = capsys.readouterr().err
    assert MISTAKES[line] in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_million_steps_take_no_more_memory_than_ten_thousand(run):
    module = memsuite.load(run)
    list(beyond(module, [40_000], episodes=128))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (row,) = beyond(module, [1_000_000], episodes=4)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert row["episodes"] == 4
    assert after < 1.2 * before
