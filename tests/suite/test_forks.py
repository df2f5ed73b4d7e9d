"""A process that stays for many runs, as a worker of Ray's: each run is a fork of its own, and can be interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memsuite.errors import UsageError
from memsuite.suite.launch import call_in_a_fork

CODE = """
import os, signal, sys, threading, time
from pathlib import Path

from memsuite.suite import store
from memsuite.suite.grid import Run
from memsuite.suite.launch import in_a_fork

SETTINGS = {"task": "delayed_cue", "difficulty": "easy", "horizon": 10, "num_envs": 4, "evaluation_episodes": 4,
            "device": "cpu", "controller_args.hidden_dim": 4}


def run(name, steps):
    settings = {**SETTINGS, "steps": steps}
    return Run(name, Path(name), (), settings, settings)


def interrupt_once_it_runs():
    while store.env_steps(Path("long")) < 400:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
times, here = [], os.getcwd()
for name in ("a", "b"):
    begun = time.monotonic()
    assert in_a_fork(run(name, 400), here, False) == 0
    times.append(time.monotonic() - begun)
long = run("long", 4_000_000)
threading.Thread(target=interrupt_once_it_runs, daemon=True).start()
try:
    in_a_fork(long, here, False)
except KeyboardInterrupt:
    print(*times, store.look(long).kind, store.is_held(Path("long")))
"""


@pytest.mark.timeout(200)
def test_a_worker_forks_its_runs_and_lets_them_save_when_it_is_interrupted(tmp_path):
    ended = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    first, second, kind, held = ended.stdout.split()
    assert (kind, held) == ("unfinished", "False")
    assert (tmp_path / "long" / "checkpoints" / "last.ckpt").is_file()
    assert float(second) < float(first), "the second run has waited for the imports, too"
    for name in ("a", "b"):
        assert json.loads((tmp_path / name / "result.json").read_text())["env_steps"] == 400
    assert not list(Path(tmp_path).rglob("failed.txt"))


class Unsendable(Exception):
    """Cannot be made again from its text."""

    def __init__(self, first, second):
        super().__init__("of two parts")


ENDS = {"usage": UsageError("wrong"), "exit": SystemExit(3), "unsendable": Unsendable(1, 2)}


def answer(what):
    if what == "value":
        return 7
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ENDS[what]


def test_a_call_in_a_fork_returns_and_raises_what_the_function_does():
    assert call_in_a_fork(answer, "value") == 7
    for what, error, text in (
        ("usage", UsageError, "wrong"),
        ("exit", SystemExit, "3"),
        ("unsendable", RuntimeError, "Unsendable: of two parts"),
        ("killed", EOFError, None),
    ):
        with pytest.raises(error, match=text):
            call_in_a_fork(answer, what)
