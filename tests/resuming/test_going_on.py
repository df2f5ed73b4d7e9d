"""What a run that goes on tells, and where it goes on logging."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from children import TINY
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from memsuite.__main__ import main
from memsuite.module import MemoryPPO
from memsuite.rl.saved import resume


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """A function that runs ``fit`` in the folder ``x`` and returns what it says."""
    monkeypatch.chdir(tmp_path)

    def call(*more: str, status: int = 0) -> str:
        assert main(["fit", "--out", "x", *TINY, *more]) == status
        return capsys.readouterr().err

    return call


LOGGER = "{class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: tb}}"
TENSORBOARD = f"trainer: {{logger: [{LOGGER}]}}\n"


def test_tensorboard_goes_on_in_its_folder_and_shows_every_row_once(fit, tmp_path):
    (tmp_path / "tb.yaml").write_text(TENSORBOARD)
    fit("--config", "tb.yaml", "--steps", "200", "--checkpoint_every", "3")
    content = torch.load("x/checkpoints/last.ckpt", weights_only=True)
    last = tmp_path / "x" / "checkpoints" / "last.ckpt"
    last.unlink()
    (tmp_path / "x" / "checkpoints" / "previous.ckpt").rename(last)  # as if killed: rows after it come once more
    (tmp_path / "x" / "result.json").unlink()
    fit("--ckpt_path", "last", "--steps", "320")
    assert not (tmp_path / "tb").exists()
    assert {path.name[:19] for path in (tmp_path / "x" / "tb").iterdir()} == {"events.out.tfevents", "hparams.yaml"}
    assert "\nsteps: 200\n" in (tmp_path / "x" / "tb" / "hparams.yaml").read_text()
    events = EventAccumulator(str(tmp_path / "x" / "tb"))
    events.Reload()
    steps = [event.step for event in events.Scalars("success")]
    assert content["memsuite"]["env_steps"] == 200
    assert steps == [40 * number for number in range(1, 9)]


def test_a_run_of_a_gpu_goes_on_on_a_cpu_in_new_episodes(fit, tmp_path, caplog):
    """A GPU's generator has a state of 16 bytes, which no other takes."""
    fit("--steps", "80")
    last = tmp_path / "x" / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    (rank,) = content["memsuite"]["run"]["ranks"]
    of_a_gpu = torch.zeros(16, dtype=torch.uint8)
    rank["generators"] |= {"task": of_a_gpu, "actions": of_a_gpu}
    rank["task"]["drawn_from"] = of_a_gpu
    rank["random"]["cuda"] = [of_a_gpu]
    torch.save(content, last)
    fit("--steps", "120", "--ckpt_path", "last")
    assert "of a run on another kind of device, this run on cpu: weights, optimiser, counts" in caplog.text
    assert json.loads((tmp_path / "x" / "result.json").read_text())["env_steps"] == 120


@pytest.mark.parametrize("name", ["threads", "kernels"])
def test_other_kernels_and_threads_are_told(fit, monkeypatch, caplog, name):
    fit("--steps", "80")
    assert "bits may differ" not in caplog.text
    fit("--steps", "120", "--ckpt_path", "last")
    assert "bits may differ" not in caplog.text
    now = {**resume.machine(), name: 99}
    monkeypatch.setattr(resume, "machine", lambda: now)
    fit("--steps", "160", "--ckpt_path", "last")
    assert "now 99: it goes on exactly but for rounding, the bits may differ" in caplog.text
    result = json.loads(Path("x/result.json").read_text())
    assert {"compiled", "level"} <= set(result["kernels"])
    assert result["hardware"]["threads"]


class Keeps(Callback):
    """A callback of a user's that keeps what no checkpoint can hold."""

    def state_dict(self):
        return {"best": {"value": np.float64(0.5)}}


def test_what_cannot_be_read_again_is_told_at_the_first_save(fit, monkeypatch):
    monkeypatch.setattr(MemoryPPO, "configure_callbacks", lambda self: [Keeps()])
    said = fit("--steps", "400", "--checkpoint_every", "1", status=2)
    assert len(said.strip().splitlines()) == 1
    assert "the checkpoint.callbacks.Keeps.best.value is a float64; it must be a plain value or a tensor" in said
