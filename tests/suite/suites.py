"""Suites small enough for a test, and suites in processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

TINY = {
    "horizon": 10,
    "num_envs": 4,
    "evaluation_episodes": 8,
    "device": "cpu",
    "controller_args": {"hidden_dim": 8},
    "checkpoint_every": 10,
    "steps": 400,
}
GRID = {"task": ["delayed_cue", "copy_memory"], "controller": ["gru", "pseudo_mamba"], "seed": [0, 1, 2]}
LIMITS = {"delayed_cue": {"num_cues": 4}, "copy_memory": {"seq_len": 2}}


def write_suite(folder: Path, settings: dict | None = None, grid: dict | None = None, **more) -> Path:
    """Write ``tiny.yaml``: 12 very short runs by default."""
    content = {
        "settings": {**TINY, **(settings or {})},
        "grid": grid or GRID,
        "overrides": [
            {"when": {"task": task}, "settings": {"task_args": args}}
            for task, args in LIMITS.items()
            if task in (grid or GRID)["task"]
        ],
        **more,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run_folders(out: Path) -> dict[str, Path]:
    """Find the run folders of a suite, by id."""
    return {str(path.parent.relative_to(out)): path.parent for path in sorted(out.rglob("asked.json"))}


def children_of(pid: int) -> list[int]:
    """List the processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (path / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid and after_name[0] != "Z":
            found.append(int(path.name))
    return found


class SuiteProcess:
    """One ``memsuite suite`` in a separate process."""

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        command = [sys.executable, "-m", "memsuite", "suite", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.output = cwd / "suite_output.txt"
        with self.output.open("w") as file:
            # A shell that starts the tests in the background leaves SIGINT ignored, and the process would inherit that.
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            self.process = subprocess.Popen(
                command, cwd=cwd, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            signal.signal(signal.SIGINT, before)
        self.pid = self.process.pid

    def workers(self) -> list[int]:
        """List the processes of the suite's runs: those that the fork server has started."""
        return [each for child in children_of(self.pid) for each in children_of(child)]

    def kill(self, what: str, choice) -> None:
        """Kill the suite, one of its workers, or all its processes."""
        workers = self.workers()
        victims = {"suite": [self.pid], "worker": [choice(workers)] if workers else [], "both": [self.pid, *workers]}
        for pid in victims[what]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Wait for the end; return the status and the output."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its runs are killed with it
            raise
        return status, self.output.read_text()


def all_gone(pids: list[int], seconds: float = 30.0) -> bool:
    """Wait until none of the processes is alive; a fork server first finishes its current import."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True
