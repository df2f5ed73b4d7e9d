"""``memsuite bench --threads N``: training with one thread and with N, in wall-clock time.

Every measurement is a process of its own, as the number of threads is settled when a process begins. Rounds interleave:
each runs one thread and N threads once, so that what else a machine does slows both alike; the figure is the ratio of
the medians. Beside it stands what N processes of one thread train together in the same round: they wait for nothing, so
what they lack of N times is the machine's. It says nothing on a machine that has fewer than N cores to spare.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from memsuite.errors import UsageError

KEYS = ("steps_per_second", "steps_per_cpu_second")
PROCESSES = "processes"


def bench_threads(
    threads: int, controllers: list[str], horizons: list[int], repeats: int, console: Console | None = None
) -> dict[str, Any]:
    """Measure every controller at every horizon in ``repeats`` interleaved rounds.

    Args:
        threads: how many are set against one.
        controllers: their names.
        horizons: episode lengths in steps.
        repeats: rounds.
        console: shows which one is running; None for standard error.
    """
    rows, console = [], console or Console(stderr=True)
    kinds = {"1": "1 thread", str(threads): f"{threads} threads", PROCESSES: f"{threads} processes"}
    for controller in controllers:
        for horizon in horizons:
            rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            for turn in range(repeats):
                for kind, found in rounds.items():
                    with console.status(f"{controller}, H = {horizon}, round {turn + 1}: {kinds[kind]}"):
                        several = kind == PROCESSES
                        found.append(
                            (_together if several else _apart)(threads if kind != "1" else 1, controller, horizon)
                        )
            rows.append({"controller": controller, "horizon": horizon} | _summary(rounds))
    return {"threads": threads, "cores": os.cpu_count(), "rows": rows}


def _summary(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return every round, the medians by number of threads, and the ratios of the medians in wall-clock time."""
    medians = {
        kind: {key: statistics.median(row[key] for row in found) for key in KEYS} for kind, found in rounds.items()
    }
    one, many, processes = (medians[kind][KEYS[0]] for kind in rounds)
    triples = list(zip(*rounds.values(), strict=True))
    return {
        "rounds": rounds,
        "median": medians,
        "ratio": many / one,
        "ratio_by_round": [many[KEYS[0]] / one[KEYS[0]] for one, many, _ in triples],
        "processes_ratio": processes / one,
        "processes_ratio_by_round": [both[KEYS[0]] / one[KEYS[0]] for one, _, both in triples],
    }


def _together(processes: int, controller: str, horizon: int) -> dict[str, float]:
    """Train in so many processes of one thread at a time; return their steps per second in all, and per CPU-second."""
    with ThreadPoolExecutor(processes) as pool:
        rows = list(pool.map(lambda _: _apart(1, controller, horizon), range(processes)))
    seconds, each = KEYS
    return {seconds: sum(row[seconds] for row in rows), each: statistics.mean(row[each] for row in rows)}


def _apart(threads: int, controller: str, horizon: int) -> dict[str, float]:
    """Train in a process with so many threads; return steps per second and per CPU-second."""
    command = [sys.executable, "-m", "memsuite.cli.bench_threads", controller, str(horizon)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        said = (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1]
        raise UsageError(f"--threads: {controller} at horizon {horizon} failed: {said[:300]}")
    row = json.loads(child.stdout.strip().splitlines()[-1])
    return {key: float(row[key]) for key in KEYS}


def threads_table(report: dict[str, Any]) -> Table:
    """Return the table of a report: medians of steps per second, and their ratio."""
    threads = report["threads"]
    together = f"{threads} processes"
    table = Table("controller", "horizon", "1 thread", f"{threads} threads", "ratio", "lowest", "highest", together)
    table.title = "Training steps / s, wall-clock"
    for row in report["rows"]:
        speeds = [f"{row['median'][count][KEYS[0]]:,.0f}" for count in ("1", str(threads))]
        ratios = [f"{ratio:.2f}" for ratio in (row["ratio"], min(row["ratio_by_round"]), max(row["ratio_by_round"]))]
        table.add_row(row["controller"], str(row["horizon"]), *speeds, *ratios, f"{row['processes_ratio']:.2f}")
    return table


def _measure(controller: str, horizon: str) -> dict[str, Any]:
    from memsuite.cli.allocator import keep_freed_memory
    from memsuite.cli.bench import bench_training
    from memsuite.cli.fit import quiet_lightning

    quiet_lightning()
    keep_freed_memory()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return bench_training(controller, int(horizon), 5)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
