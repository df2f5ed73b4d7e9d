"""Loggers of Lightning's and of users, when a run goes on: no row comes twice, and none of before is lost."""

import csv
import json
from pathlib import Path

import pytest
from children import TINY
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger

from memsuite.__main__ import main
from memsuite.launch.trainer import wandb_logger

EVERY = [40 * number for number in range(1, 9)]
CSV = "lightning.pytorch.loggers.CSVLogger"


class Lines(Logger):
    """Appends a line to a file for each row, as a database would keep it."""

    name, version = "lines", 0

    def __init__(self, path: str = "lines.txt") -> None:
        super().__init__()
        self.path = Path(path)

    def log_hyperparams(self, settings) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": 0, "settings": settings}) + "\n")

    def log_metrics(self, metrics, step=None) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")


class Rewinding(Lines):
    """Can drop its last rows."""

    def rewind(self, env_steps: int) -> None:
        rows = [line for line in self.path.read_text().splitlines() if json.loads(line)["step"] <= env_steps]
        self.path.write_text("".join(f"{line}\n" for line in rows))


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A function that runs ``fit`` in the folder ``x`` with loggers; killed, it leaves an older checkpoint."""
    monkeypatch.chdir(tmp_path)

    def call(steps: int, *more: str, loggers: str = "", killed: bool = False) -> None:
        Path("l.yaml").write_text(f"trainer: {{logger: {loggers}}}\n")
        words = [*(["--config", "l.yaml"] if loggers else []), "--evaluate_every", "2", "--steps", str(steps)]
        assert main(["fit", "--out", "x", *TINY, *words, *more]) == 0
        if killed:
            checkpoints = Path("x/checkpoints")
            (checkpoints / "last.ckpt").unlink()
            (checkpoints / "previous.ckpt").rename(checkpoints / "last.ckpt")
            Path("x/result.json").unlink()

    return call


def steps_in(path: Path, evaluations: bool = False) -> list[int]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows if bool(row["evaluation_success"]) == evaluations]


@pytest.mark.parametrize("version", ["null", "7", "mine"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_csv_logger_goes_on_in_its_file(fit, tmp_path, version, killed):
    logger = f"[{{class_path: {CSV}, init_args: {{save_dir: logs, version: {version}}}}}]"
    fit(200, "--checkpoint_every", "3", loggers=logger, killed=killed)
    (tmp_path / "logs" / "lightning_logs" / "version_3").mkdir()  # of another run
    fit(320, "--ckpt_path", "last")
    place = {"null": "version_0", "7": "version_7"}.get(version, version)
    assert {path.name for path in (tmp_path / "logs" / "lightning_logs").iterdir()} == {place, "version_3"}
    file = tmp_path / "logs" / "lightning_logs" / place / "metrics.csv"
    assert steps_in(file) == EVERY
    assert steps_in(file, evaluations=True) == sorted(set(steps_in(file, evaluations=True)))
    assert {80, 160, 240, 320} <= set(steps_in(file, evaluations=True))


def test_rows_that_a_kill_would_lose_are_written_with_a_checkpoint(fit, tmp_path, monkeypatch):
    logger = f"[{{class_path: {CSV}, init_args: {{save_dir: logs}}}}]"
    with monkeypatch.context() as patched:
        patched.setattr(CSVLogger, "finalize", lambda self, status: None)
        fit(200, "--checkpoint_every", "3", loggers=logger, killed=True)
    fit(320, "--ckpt_path", "last")
    assert steps_in(tmp_path / "logs" / "lightning_logs" / "version_0" / "metrics.csv") == EVERY


@pytest.mark.parametrize("name", ["Lines", "Rewinding"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_logger_of_the_users_gets_every_row_once(fit, tmp_path, name, killed):
    fit(200, "--checkpoint_every", "3", loggers=f"[{{class_path: {__name__}.{name}}}]", killed=killed)
    fit(320, "--ckpt_path", "last")
    rows = [json.loads(line) for line in (tmp_path / "lines.txt").read_text().splitlines()]
    assert [row["step"] for row in rows if "success" in row] == EVERY
    evaluated = [row["step"] for row in rows if "evaluation_success" in row]
    assert evaluated == sorted(set(evaluated))
    assert {80, 160, 240, 320} <= set(evaluated)
    (told,) = [row["settings"] for row in rows if "settings" in row]  # once, as the run begins
    assert told["steps"] == 200
    assert told["controller_args"]["hidden_dim"] == 8
    assert told["ppo"]["learning_rate"] > 0


def test_a_run_keeps_its_name_in_wandb_when_it_goes_on(tmp_path):
    """What a run that goes on would be called lacks the settings that it was started with."""
    config = Namespace(wandb_mode="offline")
    first = wandb_logger(tmp_path, config, "delayed_cue-easy/gru-hidden_dim16/seed0", resuming=False)
    assert first._wandb_init["name"] == "delayed_cue-easy/gru-hidden_dim16/seed0"
    run = tmp_path / "wandb" / "offline-run-20261130_105000-q2jw4hhw"
    run.mkdir(parents=True)
    (run / "run-q2jw4hhw.wandb").touch()
    again = wandb_logger(tmp_path, config, "delayed_cue-easy/gru/seed0", resuming=True)
    assert (again._wandb_init["name"], again._wandb_init["id"]) == (None, "q2jw4hhw")


def test_a_run_that_begins_anew_logs_anew(fit, tmp_path):
    logger = f"[{{class_path: {__name__}.Lines}}]"
    fit(80, loggers=logger)
    fit(80, "--overwrite", loggers=logger)
    rows = [json.loads(line) for line in (tmp_path / "lines.txt").read_text().splitlines()]
    assert [row["step"] for row in rows if "success" in row] == [40, 80, 40, 80]
