"""Nothing that was there is lost to a command that fails, or that was not asked to replace it."""

import json
import textwrap

import pytest

from memsuite.__main__ import main
from memsuite.errors import Stopped

TINY = ["--horizon", "10", "--num_envs", "4", "--steps", "80", "--evaluation_episodes", "8", "--device", "cpu"]
TINY += ["--controller_args.hidden_dim", "8"]
BROKEN = """
import torch
from memsuite.controllers.memoryless import Memoryless

class Broken(Memoryless):
    def forward_step(self, x_BD, state):
        raise RuntimeError("a fault in a model of one's own")
    forward_sequence = None
"""


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """Run ``memsuite fit --out x`` in an empty folder; return status and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_model.py").write_text(textwrap.dedent(BROKEN))

    def call(*more: str) -> tuple[int, str]:
        status = main(["fit", "--out", "x", *TINY, *more])
        return status, capsys.readouterr().err

    return call


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "mistake",
    [["--controller", "broken_model.Broken"], ["--init_from", "none"]],
    ids=["a model with a fault", "no run to begin with"],
)
def test_a_run_is_kept_until_the_one_that_replaces_it_has_begun(fit, tmp_path, mistake):
    tensorboard = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "boards"]
    assert fit(*tensorboard)[0] == 0
    assert (tmp_path / "x" / "loggers.json").exists()
    (tmp_path / "x" / "asked.json").write_text("{}")
    before = content(tmp_path / "x")
    status, err = fit("--overwrite", "--seed", "1", *mistake)
    assert status == 2, err
    after = content(tmp_path / "x")
    log = next(path for path in before if path.name == "log.txt")
    assert after.pop(log).startswith(before.pop(log))
    assert after == before
    assert fit("--overwrite", "--seed", "1")[0] == 0
    assert json.loads((tmp_path / "x" / "result.json").read_text())["seed"] == 1
    assert not (tmp_path / "x" / "asked.json").exists()  # a suite would take the new run for the one that it asked for


def test_a_run_that_is_stopped_before_it_replaces_another_does_not_say_to_go_on_with_that(fit, tmp_path, monkeypatch):
    assert fit()[0] == 0
    before = (tmp_path / "x" / "checkpoints" / "last.ckpt").read_bytes()

    def stopped(module):
        raise Stopped("a signal came")

    monkeypatch.setattr("memsuite.cli.fit.hint_at_retention", stopped)
    status, err = fit("--overwrite", "--seed", "1")
    assert status == 1
    assert "the run in x is as it was; start again with the same command" in err
    assert "--ckpt_path last" not in err
    assert (tmp_path / "x" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_run_may_begin_with_the_weights_of_the_run_that_it_replaces(fit, tmp_path):
    assert fit()[0] == 0
    assert fit("--overwrite", "--seed", "1", "--init_from", "x")[0] == 0
    result = json.loads((tmp_path / "x" / "result.json").read_text())
    assert (result["seed"], result["init_from"] is None) == (1, False)


@pytest.mark.parametrize("name", ["source/paper.tex", "checkpoints/last.ckpt"])
def test_a_folder_with_files_that_a_run_would_replace_is_refused(fit, tmp_path, name):
    mine = tmp_path / "x" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    status, err = fit()
    assert (status, "already holds" in err) == (2, True)
    assert mine.read_text() == "mine"


def test_a_log_that_is_there_is_gone_on_with(fit, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "log.txt").write_text("mine\n")
    assert fit()[0] == 0
    log = (tmp_path / "x" / "log.txt").read_text()
    assert log.startswith("mine\n")
    assert len(log.splitlines()) > 1


@pytest.mark.parametrize("name", ["figures/own.svg", "results.csv", "runs.jsonl"])
def test_a_report_replaces_nothing_unasked(fit, tmp_path, name, capsys):
    assert fit()[0] == 0
    mine = tmp_path / "paper" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    line = ["report", "--results", "x", "--out", "paper", "--collect", "paper/runs.jsonl"]
    assert main(line) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert main([*line, "--overwrite"]) == 0
