"""A suite killed at any moment (its own process, its runs' or both) ends with the bits of an undisturbed one."""

import os
import random
import signal
import time

import pytest
from same_run import assert_same, end_state
from suites import SuiteProcess, all_gone, children_of, run_folders, write_suite

from memsuite.__main__ import main
from memsuite.suite import store

KINDS = ("suite", "worker", "both")


def stamps(out) -> dict:
    """Return the finished runs with their results' bytes and modification times."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("result.json")}


def assert_equal_suites(one, other, count: int) -> None:
    first, second = run_folders(one), run_folders(other)
    assert first.keys() == second.keys()
    assert len(first) == count
    for name in first:
        assert_same(end_state(first[name]), end_state(second[name]), name)


def kill_and_go_on(suite, out, tmp_path, kills: int, span: float, rng: random.Random) -> dict[str, int]:
    """Kill the suite ``times`` times at random moments, then let it end; return the number of kills by kind."""
    killed = dict.fromkeys(KINDS, 0)
    finished: dict = {}
    while sum(killed.values()) < kills:
        process = SuiteProcess(suite, "--out", out, "--jobs", "2", cwd=tmp_path)
        what = KINDS[sum(killed.values()) % 3]
        if sum(killed.values()) % 5:  # most kills come after it has runs; before that, it reads and checks
            while not any(map(store.is_held, run_folders(out).values())) and process.process.poll() is None:
                time.sleep(0.02)
        time.sleep(rng.uniform(0, span))
        if process.process.poll() is not None:
            assert process.process.returncode == 0, process.output.read_text()
            break  # the suite was faster
        pids = [process.pid, *children_of(process.pid), *process.workers()]
        process.kill(what, rng.choice)
        killed[what] += 1
        if what == "worker":  # the suite continues until it is killed too
            time.sleep(rng.uniform(0, span))
            process.kill("both", rng.choice)
        assert all_gone([pid for pid in pids if pid != process.pid]), "a worker outlived its suite"
        process.process.wait()
        now = stamps(out)
        assert finished.items() <= now.items(), "a finished run was lost or repeated"
        finished = now
    status, said = SuiteProcess(suite, "--out", out, "--jobs", "2", cwd=tmp_path).end()
    assert status == 0, said
    assert finished.items() <= stamps(out).items(), "a finished run was lost or repeated"
    return killed


def check(tmp_path, kills: int, span: float, seed: int, **settings) -> dict[str, int]:
    suite = write_suite(tmp_path, settings)
    assert main(["suite", str(suite), "--out", str(tmp_path / "whole"), "--jobs", "2"]) == 0
    killed = kill_and_go_on(suite, tmp_path / "cut", tmp_path, kills, span, random.Random(seed))
    assert_equal_suites(tmp_path / "whole", tmp_path / "cut", 12)
    return killed


@pytest.mark.timeout(600)  # for machines that are busy with other things
def test_twelve_runs_killed_and_started_again_equal_undisturbed_ones(tmp_path):
    killed = check(tmp_path, kills=2, span=0.7, seed=1, steps=800)
    assert sum(killed.values()) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_random_moments(tmp_path):
    killed = check(tmp_path, kills=20, span=3.0, seed=2, steps=100_000)
    logs = [(folder / "log.txt").read_text() for folder in run_folders(tmp_path / "cut").values()]
    starts = [log.count("memsuite fit --task") for log in logs]
    print(f"killed {killed}; the twelve runs were begun {starts} times")
    assert sum(killed.values()) == 20
    assert sum(starts) >= 24, "too few kills hit a run"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [1.5, 4.0])
def test_a_suite_that_still_looks_at_its_runs_ends_at_once_in_one_line(tmp_path, number, seconds):
    """As Ctrl-C does, the signal goes to all of its processes; before, the fork server went on for 14 s."""
    process = SuiteProcess(write_suite(tmp_path), "--out", tmp_path / "out", cwd=tmp_path)
    time.sleep(seconds)
    pids = children_of(process.pid)
    begun = time.monotonic()
    os.killpg(process.pid, number)
    status, said = process.end(30)
    assert all_gone(pids, seconds=5)
    assert time.monotonic() - begun < 6
    if not (tmp_path / "out").exists():  # it has looked at them before the signal on a fast machine
        assert status == 128 + number
        word = "interrupted" if number == signal.SIGINT else "stopped before any run was started"
        assert said.splitlines()[-1] == f"memsuite suite: {word}"
        assert "Traceback" not in said
