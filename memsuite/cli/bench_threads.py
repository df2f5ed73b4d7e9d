"""``memsuite bench --threads N``: training with one thread and with N, in wall-clock time.

Every measurement is a process of its own, as the number of threads is settled when a process begins. Rounds interleave:
each runs one thread and N threads once, so that what else a machine does slows both alike; the figure is the ratio of
the medians. Beside it stands what N processes of one thread train together in the same round: they wait for nothing, so
what they lack of N times is the machine's. It says nothing on a machine that has fewer than N cores to spare.

Threads hand each other what they made. Between cores that share a cache a line takes tens of nanoseconds, between
others hundreds, and a virtual machine may be moved from the one kind to the other at any time: so every process
measures it, before and after.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from memsuite.errors import UsageError
from memsuite.ops import _build

KEYS = ("steps_per_second", "steps_per_cpu_second")
HANDOVER = "handover_ns"  # the slower of before and after; None where nothing is compiled
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
            rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
            for turn in range(repeats):
                for kind, found in rounds.items():
                    with console.status(f"{controller}, H = {horizon}, round {turn + 1}: {kinds[kind]}"):
                        several = kind == PROCESSES
                        found.append(
                            (_together if several else _apart)(threads if kind != "1" else 1, controller, horizon)
                        )
            rows.append({"controller": controller, "horizon": horizon} | _summary(rounds))
    return {"threads": threads, "cores": os.cpu_count(), "rows": rows}


def _summary(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
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
        "handover_ns_by_round": [many.get(HANDOVER) for _, many, _ in triples],
        "processes_ratio": processes / one,
        "processes_ratio_by_round": [both[KEYS[0]] / one[KEYS[0]] for one, _, both in triples],
    }


def _together(processes: int, controller: str, horizon: int) -> dict[str, float]:
    """Train in so many processes of one thread at a time; return their steps per second in all, and per CPU-second."""
    with ThreadPoolExecutor(processes) as pool:
        rows = list(pool.map(lambda _: _apart(1, controller, horizon), range(processes)))
    seconds, each = KEYS
    return {seconds: sum(row[seconds] for row in rows), each: statistics.mean(row[each] for row in rows)}


def _apart(threads: int, controller: str, horizon: int) -> dict[str, Any]:
    """Train in a process with so many threads; return steps per second and per CPU-second."""
    command = [sys.executable, "-m", "memsuite.cli.bench_threads", controller, str(horizon)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        said = (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1]
        raise UsageError(f"--threads: {controller} at horizon {horizon} failed: {said[:300]}")
    row = json.loads(child.stdout.strip().splitlines()[-1])
    return {key: float(row[key]) for key in KEYS} | {HANDOVER: row.get(HANDOVER)}


def threads_table(report: dict[str, Any]) -> Table:
    """Return the table of a report: medians of steps per second, and their ratio."""
    threads = report["threads"]
    together = f"{threads} processes"
    columns = ("ratio", "lowest", "highest", "hand-over, ns", together)
    table = Table("controller", "horizon", "1 thread", f"{threads} threads", *columns)
    table.title = "Training steps / s, wall-clock"
    for row in report["rows"]:
        speeds = [f"{row['median'][count][KEYS[0]]:,.0f}" for count in ("1", str(threads))]
        ratios = [f"{ratio:.2f}" for ratio in (row["ratio"], min(row["ratio_by_round"]), max(row["ratio_by_round"]))]
        times = [f"{ns:.0f}" for ns in row["handover_ns_by_round"] if ns is not None]
        several = f"{row['processes_ratio']:.2f}"
        table.add_row(row["controller"], str(row["horizon"]), *speeds, *ratios, " ".join(times), several)
    return table


def _measure(controller: str, horizon: str) -> dict[str, Any]:
    from memsuite.cli.allocator import keep_freed_memory
    from memsuite.cli.bench import bench_training
    from memsuite.cli.trainer import quiet_lightning

    quiet_lightning()
    keep_freed_memory()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    before = _handover_ns()
    row = bench_training(controller, int(horizon), 5)
    time.sleep(0.2)  # until the pool's threads no longer spin
    after = _handover_ns()
    return row | {HANDOVER: None if before is None or after is None else max(before, after)}


def _handover_ns() -> float | None:
    """Return how long a line of cache takes between the cores that two threads run on, the best of a few tries."""
    if _build.STATUS.library is None:
        return None
    return min(1e9 * float(torch.ops.memsuite.handover(10_000)) for _ in range(3))


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
