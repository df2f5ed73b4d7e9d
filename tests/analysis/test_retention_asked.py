"""``memsuite retention``: what cannot be asked of a run is told in one line, and what can is measured."""

import json

import pytest

from memsuite.__main__ import main
from memsuite.analysis.results import read_results, read_retention

TINY = ["--num_envs", "4", "--evaluation_episodes", "8", "--device", "cpu", "--controller_args.hidden_dim", "8"]


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    """Train a run in the folder x; return a function that asks it."""
    monkeypatch.chdir(tmp_path)

    def call(task: str, *given: str) -> None:
        assert main(["fit", "--out", "x", "--task", task, "--difficulty", "easy", *given, *TINY]) == 0
        capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("--horizons 10 --task_args.vocabulary 6", "observation_dim 7, and the model was trained with"),
        ("--horizons 10,20 --task_args.horizon 30", "use --horizons"),
        ("--horizons 10 --episodes 64,999", "two values are all,NUMBER"),
    ],
)
def test_a_mistake_is_one_line(trained, capsys, asked, told):
    trained("delayed_cue", "--horizon", "10", "--steps", "80")
    assert main(["retention", "x", *asked.split()]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


def test_a_task_that_needs_no_memory_has_no_score(trained, tmp_path, capsys):
    moves = ["--task_args.moves", "3", "--task_args.questions", "2", "--task_args.reveal", "true"]
    trained("state_tracking", "--horizon", "12", "--steps", "96", *moves)
    assert main(["retention", "x", "--horizons", "12,20", "--episodes", "8"]) == 0
    report = json.loads((tmp_path / "x" / "retention.json").read_text())
    assert [row["score"] for row in report["rows"]] == [None, None]
    assert report["half_life"] is None


def test_a_measurement_of_an_earlier_network_is_not_shown(trained, tmp_path, caplog):
    """The run went on, and then another one took its place."""
    given = ["delayed_cue", "--horizon", "10", "--steps"]
    trained(*given, "80")
    assert main(["retention", "x", "--horizons", "10,20", "--episodes", "8"]) == 0
    assert len(read_retention(read_results("x"))) == 2
    assert main(["fit", "--ckpt_path", "last", "--out", "x", "--steps", "160"]) == 0
    assert len(read_retention(read_results("x"))) == 0
    assert "retention.json is of an earlier checkpoint" in caplog.text
    trained(*given, "120", "--overwrite")
    assert not (tmp_path / "x" / "retention.json").exists()


def test_the_usual_horizons_are_those_that_the_task_can_have(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("memsuite.cli.retention.USUAL", "50,100")
    trained("growing_list", "--steps", "1000", "--horizon", "60", "--task_args.length", "8")
    assert main(["retention", "x", "--episodes", "8"]) == 0
    report = json.loads((tmp_path / "x" / "retention.json").read_text())
    assert [row["horizon"] for row in report["rows"]] == [100]
    assert main(["retention", "x", "--episodes", "8", "--horizons", "50,90"]) == 2
