"""A disk that takes no more: what measures and compares says so in one line, and leaves nothing half written."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
from made import result
from one_line import answer_in

from memsuite.__main__ import main
from memsuite.cli import report

TINY = "--task delayed_cue --difficulty easy --horizon 10 --num_envs 8 --device cpu --evaluation_episodes 8"
TINY += " --controller_args.hidden_dim 4 --steps 80 --out run"


def no_room(*given):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full(tmp_path, monkeypatch, capsys):
    """A function that runs a command on a full disk and returns its one line; a run and its result are there."""
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY.split()]) == 0
    Path("r.json").write_text(json.dumps([result(seed=0), result(seed=1)]))
    capsys.readouterr()

    call = answer_in(tmp_path, lambda: capsys.readouterr().err)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", no_room)
        yield call


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("retention run --horizons 12 --episodes 4", "cannot write the measurement run/retention.json"),
        ("compare --results r.json --out x.json", "cannot write --out x.json"),
        ("bench environments --tasks delayed_cue --repeats 1 --out x.json", "cannot write --out x.json"),
    ],
)
def test_a_measurement_that_cannot_be_kept_is_one_line(full, line, words):
    assert f"{words}: No space left on device" in full(*line.split())


def test_so_is_one_of_all_runs(full, monkeypatch):
    line = "retention run --horizons 12 --episodes 4"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        assert main(line.split()) == 0
    assert "cannot write --out x.json: No space left on device" in full(*line.split(), "--out", "x.json")


def test_runs_that_cannot_be_collected_name_that_file(full, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        patched.setattr(report, "write_collection", no_room)
        assert main(["report", "--results", "r.json", "--out", "page", "--collect", "x.jsonl"]) == 2
    assert "cannot write --collect x.jsonl: " in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_that_takes_no_more_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as device, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Flushing(device))
        assert main(["tasks"]) == 2
    assert capsys.readouterr().err == "memsuite tasks: error: cannot write its output: No space left on device\n"


class Flushing:
    """A stream that hands on every text at once, and keeps none for its end."""

    def __init__(self, stream) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return os.write(self.stream.fileno(), text.encode())

    def __getattr__(self, name: str):
        return getattr(self.stream, name)
