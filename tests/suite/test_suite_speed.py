"""Two jobs on two cores take little more than half the time of one. Only a quiet machine can show it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from suites import SuiteProcess, run_folders, write_suite

from memsuite.suite.launch import PRELOAD, slots

LONG = {"horizon": 200, "num_envs": 32, "steps": 384_000, "controller_args": {"hidden_dim": 128}}
GRID = {"task": ["delayed_cue"], "controller": ["gru"], "seed": list(range(8))}


def timed(suite, out, jobs: int, cwd) -> tuple[float, float]:
    """Return the wall seconds of a suite, and the CPU seconds of its runs."""
    began = time.perf_counter()
    status, said = SuiteProcess(suite, "--out", out, "--jobs", str(jobs), cwd=cwd).end(1200)
    assert status == 0, said
    wall = time.perf_counter() - began
    results = [json.loads((folder / "result.json").read_text()) for folder in run_folders(out).values()]
    return wall, sum(result["cpu_seconds"] for result in results)


def busy_cores(seconds: float = 3.0) -> float:
    """Return the number of cores that other processes use now; a load average would include the last minute."""

    def spent() -> float:
        user, nice, system, _, _, *rest = (int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")

    before = spent()
    time.sleep(seconds)
    return (spent() - before) / seconds


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_jobs_on_two_cores(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    if (busy := busy_cores()) > 0.2:
        pytest.skip(f"others use {busy:.1f} cores of this machine: it would be their time that is measured")
    suite = write_suite(tmp_path, LONG, GRID)
    one, two = timed(suite, tmp_path / "one", 1, tmp_path), timed(suite, tmp_path / "two", 2, tmp_path)
    for jobs, (wall, cpu) in enumerate((one, two), 1):
        print(f"--jobs {jobs}: {wall:.1f} s, CPU of its runs {cpu:.1f} s")
    print(f"{one[0] / two[0]:.2f} times as fast; others used {busy:.2f} cores before")
    assert one[0] / two[0] >= 1.8


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr("memsuite.suite.launch.cores", lambda: list(range(8)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_job_a_core_where_there_is_no_gpu(eight_cores):
    assert slots(None, 0) == [None] * 8
    assert slots(3, 0) == [None] * 3


def test_gpus_are_used_once_each_and_those_that_are_visible_only(eight_cores, monkeypatch):
    assert slots(None, 2) == ["0", "1"]
    assert slots(3, 2) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    assert slots(None, 2) == ["5", "GPU-abc"]


def test_the_fork_server_never_talks_to_a_gpu():
    code = f"import sys, torch, {', '.join(PRELOAD)}; print(torch.cuda.is_initialized(), 'memsuite.ops' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]
