"""A signal stops a run after the current iteration, saved, with one line that says how to continue."""

import os
import shlex
import signal
import time

import pytest
import torch
from children import TINY, Run

from memsuite.__main__ import main
from memsuite.module import MemoryPPO

LONG = "fit --steps 400000 --out {} --checkpoint_every 1000000"


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def read(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    out = tmp_path / "x"
    run = Run(LONG.format(out), *TINY, errors=tmp_path / "errors", slow_iteration=0.3)
    run.wait_for_training()
    time.sleep(0.5)
    began = time.perf_counter()
    os.kill(run.process.pid, number)
    status, said = run.end()
    assert time.perf_counter() - began < 2.0  # an iteration of a third of a second, the write, the end of the process
    assert status == 128 + number
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    saved = read(out)["memsuite"]
    assert saved["iteration"] >= 1
    rows = (out / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith(f"{40 * saved['iteration']},{saved['iteration']},")  # no finished iteration was lost
    assert not list(out.rglob(".*"))
    assert not (out / "result.json").exists()
    command = shlex.split(last_line(said).rpartition("go on with: memsuite ")[2])
    steps = str(40 * (saved["iteration"] + 2))
    status, said = Run(shlex.join(command), "--steps", steps, errors=tmp_path / "errors").end()
    assert status == 0, said
    assert read(out)["memsuite"]["iteration"] == saved["iteration"] + 2


def test_a_second_signal_ends_the_run_at_once_and_keeps_what_was_saved(tmp_path):
    out = tmp_path / "x"
    line = f"fit --steps 400000 --out {out} --checkpoint_every 1"
    run = Run(line, *TINY, errors=tmp_path / "errors", slow_iteration=0.2, slow_write=0.05)
    while not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    before = (out / "checkpoints" / "last.ckpt").read_bytes()
    os.kill(run.process.pid, signal.SIGTERM)
    time.sleep(0.5)  # by now it writes, in small pieces with 50 ms before each
    assert run.process.is_alive()
    os.kill(run.process.pid, signal.SIGTERM)
    status, said = run.end()
    assert status == -signal.SIGTERM
    assert "Traceback" not in said
    assert (out / "checkpoints" / "last.ckpt").read_bytes() == before
    read(out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_the_final_evaluation_ends_the_run_in_one_line(tmp_path, monkeypatch, capsys, number):
    whole, out = MemoryPPO.evaluate, tmp_path / "x"

    def evaluate(self, episodes, name):
        if name == "test":
            os.kill(os.getpid(), number)
        return whole(self, episodes, name)

    monkeypatch.setattr(MemoryPPO, "evaluate", evaluate)
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert main(["fit", "--steps", "40", "--out", str(out), *TINY]) == 128 + number
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "after 40 steps, all saved; go on with: memsuite fit --ckpt_path last" in said
    assert not (out / "result.json").exists()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    monkeypatch.undo()
    assert main(["fit", "--ckpt_path", "last", "--out", str(out), *TINY, "--steps", "40"]) == 0
    assert (out / "result.json").exists()


def test_a_signal_at_an_evaluation_keeps_its_row(tmp_path):
    out = tmp_path / "x"
    run = Run(LONG.format(out), "--evaluate_every", "1", *TINY, errors=tmp_path / "errors", slow_iteration=0.2)
    run.wait_for_training()
    time.sleep(0.7)
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.end()[0] == 143
    iteration = read(out)["memsuite"]["iteration"]
    rows = [row.split(",")[0] for row in (out / "metrics.csv").read_text().splitlines()[1:]]
    assert rows == [str(40 * i) for i in range(1, iteration + 1) for _ in range(2)]
