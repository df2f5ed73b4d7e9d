"""Default run folders tell runs apart; trackers of experiments go on, and one that cannot begin is one line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from lightning.pytorch.loggers import MLFlowLogger

from memsuite.__main__ import main
from memsuite.launch.loggers import go_on_logging

LINE = "--num_envs 8 --steps 80 --horizon 10 --evaluation_episodes 8 --device cpu"
TINY = [*LINE.split(), "--controller_args.hidden_dim", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):  # set first, so that what a run sets is taken back, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where nobody is logged in
    return tmp_path


def names() -> set[str]:
    return {str(path.parent.relative_to("runs")) for path in Path("runs").rglob("result.json")}


def test_runs_that_differ_in_any_setting_have_folders_of_their_own():
    short = ["fit", "--difficulty", "easy", "--num_envs", "64", "--device", "cpu"]
    rate = "--model.ppo.learning_rate"
    more = [[], [rate, "0.002"], [rate, "0.004", "--task_args.num_cues", "3"]]
    for words in more:
        assert main([*short, "--steps", "3200", *words]) == 0
    assert main([*short, "--steps", "3200", *more[1]]) == 2  # the same run once more
    first = "delayed_cue-easy/gru-num_envs64-steps3200"
    assert names() == {
        f"{first}/seed0",
        f"{first}-learning_rate0.002/seed0",
        "delayed_cue-easy/gru-num_cues3-num_envs64-steps3200-learning_rate0.004/seed0",
    }


def test_a_long_name_ends_in_a_hash_of_all_settings():
    long = [*TINY, "--model.ppo.value_coefficient", "0.25", "--model.ppo.clip"]
    assert main(["fit", *long, "0.1"]) == 0
    assert main(["fit", *long, "0.3"]) == 0
    one, other = names()
    assert len(Path(one).parts) == 3
    assert one != other
    assert max(len(part) for part in Path(one).parts) < 90


def sweep_of(page: Path) -> dict:
    """Return the sweep that the guide shows."""
    (block,) = [part.split("```")[0] for part in page.read_text().split("```yaml\n")[1:] if "method: grid" in part]
    return yaml.safe_load(block)


def test_a_sweep_of_wandb_works_as_it_is():
    """The commands that its agent makes of the guide's file, with W&B offline."""
    sweep = sweep_of(Path(__file__).parents[2] / "docs" / "results.md")
    assert sweep["metric"]["name"] == "evaluation_success"
    given = [f"--{name}={value}" for name, spec in sweep["parameters"].items() for value in spec["values"]]
    program, verb, *words = sweep["command"]
    assert (program, words[-1]) == ("memsuite", "${args}")
    for word in given:
        offline = ["offline" if each == "online" else each for each in words[:-1]]
        assert main([verb, *offline, word, *TINY]) == 0
    assert len(names()) == len(given) >= 2
    assert len(list(Path("runs").rglob("offline-run-*"))) == len(given)


def test_nobody_logged_in_is_one_line_with_its_remedy():
    line = [sys.executable, "-m", "memsuite", "fit", *TINY, "--out", "x", "--wandb_mode"]
    env = {**os.environ, "MEMSUITE_KERNELS": "off"}  # a process of its own, as W&B keeps its mode
    done = subprocess.run([*line, "online"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "run 'wandb login' first, or keep the log here: --wandb_mode offline" in done.stderr
    assert main(["fit", *TINY, "--out", "x"]) == 0  # the folder holds no run yet


def test_the_id_of_wandb_stays_when_a_run_goes_on():
    line = ["fit", *TINY, "--out", "x", "--wandb_mode", "offline"]
    assert main(line) == 0
    assert main([*line, "--ckpt_path", "last", "--steps", "160"]) == 0
    ids = [path.stem for path in Path("x/wandb").glob("offline-run-*/run-*.wandb")]
    assert len(ids) == 2
    assert len(set(ids)) == 1


class Tracked(MLFlowLogger):
    """MLflow's logger without MLflow: it hands out ids as the package would."""

    made: list[str] = []  # noqa: RUF012

    def __init__(self) -> None:
        self._run_id = None

    @property
    def run_id(self) -> str:
        if self._run_id is None:
            self.made.append(f"run{len(self.made)}")
            self._run_id = self.made[-1]
        return self._run_id


def logging_begins(logger, folder, resuming):
    """Hand a Trainer with one logger to ``go_on_logging``, and begin to train."""
    trainer = SimpleNamespace(loggers=[logger], callbacks=[], is_global_zero=True)
    go_on_logging(trainer, folder, resuming, 0, {})
    for callback in trainer.callbacks:
        callback.on_train_start(trainer, None)


def test_a_run_of_mlflow_goes_on_under_its_id(tmp_path):
    logging_begins(Tracked(), tmp_path, False)
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"mlflow": ["run0"]}
    again = Tracked()
    logging_begins(again, tmp_path, True)
    assert again.run_id == "run0"
    other = Tracked()
    logging_begins(other, tmp_path, False)
    assert other.run_id == "run1"
