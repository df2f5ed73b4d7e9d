"""``memsuite bench records``: what the longest waits took until the target was reached, and the memory of one update.

The figures of a run come from its result. The peak memory is that of a process which makes the first update of such a
run and evaluates one episode, because a result does not hold it.
"""

from __future__ import annotations

import multiprocessing
import resource
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from memsuite.errors import UsageError
from memsuite.runs.collection import read_collection
from memsuite.shipped import find

REPLACED = ("--out", "--ckpt_path", "--steps", "--evaluation_episodes", "--trainer.callbacks")


def measure(console: Console, runs: str) -> list[dict[str, Any]]:
    """Return a row for each horizon and controller of a file of results.

    Args:
        console: shows the current measurement.
        runs: a file of results, or the name of one that comes with memsuite.
    """
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run in read_collection(find("results", runs)):
        groups.setdefault((run["horizon"], run["controller"]), []).append(run)
    rows = []
    for (horizon, controller), found in sorted(groups.items()):
        with console.status(f"{controller} at horizon {horizon:,}: the memory of one update"):
            peak = apart(found[0])
        rows.append(
            {"task": found[0]["task"], "horizon": horizon, "controller": controller, "peak_bytes": peak}
            | {"seeds": [until_target(run) for run in sorted(found, key=lambda run: run["seed"])]}
        )
    return rows


def until_target(run: dict[str, Any]) -> dict[str, Any]:
    """Return what one run took until an evaluation first reached its target; None for each where none did.

    Under a curriculum episodes have several lengths, so the numbers of scripts and updates are None, too.
    """
    steps, config = run["steps_to_target"], run["config"]
    uncounted = steps is None or run["curriculum"] is not None
    scripts = None if uncounted else steps // run["horizon"] // config["ppo"]["draws"]
    updates = None if uncounted else steps // run["horizon"] // config["num_envs"]
    return {
        "seed": run["seed"],
        "success": run["success"],
        "env_steps_to_target": steps,
        "scripts_to_target": scripts,
        "updates_to_target": updates,
        "cpu_seconds_to_target": run["cpu_seconds_to_target"],
        "command": run["command"],
    }


def apart(run: dict[str, Any]) -> int:
    """Return the peak memory in bytes of one update, measured by a new process that has no other children."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_of, run["command"], run["config"]["num_envs"] * run["horizon"]).result()


def peak_of(command: str, steps: int) -> int:
    """Make one update of a run as its command line says, and return the largest memory that its process held.

    Args:
        command: ``memsuite fit ...``.
        steps: environment steps of one update.

    Raises:
        UsageError: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*without(shlex.split(command)[1:]), "--steps", str(steps), "--evaluation_episodes", "1"]
        line = [sys.executable, "-m", "memsuite", *words, "--out", f"{folder}/run"]
        made = subprocess.run(line, capture_output=True, text=True)
    if made.returncode:
        raise UsageError(f"one update of {command!r} failed: {made.stderr.strip().splitlines()[-1:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def without(words: list[str]) -> list[str]:
    """Leave out the options of a command line that are given anew, with their values."""
    kept = [at for at in range(len(words)) if not {words[at], words[at - 1] if at else ""} & set(REPLACED)]
    return [words[at] for at in kept]


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out one row per horizon and controller."""
    found = Table(title="The longest waits", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("horizon", "controller", "reached", "updates", "scripts", "CPU s", "peak GB"):
        found.add_column(heading, justify="right", no_wrap=True)
    for row in report:
        reached = [one for one in row["seeds"] if one["env_steps_to_target"] is not None]
        spans = [
            f"{min(values):,.0f} to {max(values):,.0f}" if (values := [one[name] for one in reached]) else "-"
            for name in ("updates_to_target", "scripts_to_target", "cpu_seconds_to_target")
        ]
        seeds = f"{len(reached)} of {len(row['seeds'])}"
        found.add_row(f"{row['horizon']:,}", row["controller"], seeds, *spans, f"{row['peak_bytes'] / 1e9:.2f}")
    return found
