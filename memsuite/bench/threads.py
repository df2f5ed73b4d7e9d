"""``memsuite bench threads``: training with one thread and with N threads, in wall-clock time.

Every measurement runs in its own process, because the number of threads is fixed when a process begins. A round runs
one thread once and N threads once, so that other load on the machine slows both alike; the result is the ratio of the
medians. Each round also runs N processes of one thread at the same time. These never wait for each other, so if they
are together less than N times as fast, the machine is the cause. The measurement means nothing on a machine with fewer
than N idle cores.

Threads read data that other threads wrote. A cache line takes tens of nanoseconds from one core to another if they
share a cache, and hundreds if they do not, and a virtual machine may be moved between such cores at any time. Every
process therefore measures this time, before and after training.
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

from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import prepare
from memsuite.bench.training import measure_one
from memsuite.errors import UsageError
from memsuite.ops.build import cpu, probe

KEYS = ("steps_per_second", "steps_per_cpu_second")
HANDOVER = "handover_ns"  # the longer of the times before and after training; None if nothing is compiled
SHARED_NS = 3000  # of a hand-over between threads that take turns on one core; between two cores it is a tenth of that
PROCESSES = "processes"


def measure(
    console: Console, threads: int, controllers: list[str], horizons: list[int], repeats: int
) -> dict[str, Any]:
    """Measure every controller at every horizon, in rounds.

    Args:
        console: shows the current measurement.
        threads: number of threads, and of processes, that are compared with one.
        controllers: names of the sequence models, with arguments as in :mod:`memsuite.bench.variants`.
        horizons: episode lengths in steps.
        repeats: number of rounds.
    """
    rows = []
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
    """Return every round, the medians per number of threads, and the ratios of the medians in wall-clock time."""
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
    """Train in several processes of one thread at once; return their total steps per second, and per CPU-second."""
    with ThreadPoolExecutor(processes) as pool:
        rows = list(pool.map(lambda _: _apart(1, controller, horizon), range(processes)))
    seconds, each = KEYS
    return {seconds: sum(row[seconds] for row in rows), each: statistics.mean(row[each] for row in rows)}


def _apart(threads: int, controller: str, horizon: int) -> dict[str, Any]:
    """Train in a process with this number of threads; return its steps per second and per CPU-second."""
    command = [sys.executable, "-m", "memsuite.bench.threads", controller, str(horizon)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        said = (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1]
        raise UsageError(f"training {controller} at horizon {horizon} failed: {said[:300]}")
    row = json.loads(child.stdout.strip().splitlines()[-1])
    return {key: float(row[key]) for key in KEYS} | {HANDOVER: row.get(HANDOVER)}


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: the medians of steps per second, and their ratio."""
    threads = report["threads"]
    together = f"{threads} processes"
    columns = ("ratio", "lowest", "highest", "hand-over, ns", together)
    found = Table("controller", "horizon", "1 thread", f"{threads} threads", *columns)
    found.title = "Training steps / s, wall-clock"
    for row in report["rows"]:
        speeds = [f"{row['median'][count][KEYS[0]]:,.0f}" for count in ("1", str(threads))]
        ratios = [f"{ratio:.2f}" for ratio in (row["ratio"], min(row["ratio_by_round"]), max(row["ratio_by_round"]))]
        times = [f"{ns:.0f}" for ns in row["handover_ns_by_round"] if ns is not None]
        several = f"{row['processes_ratio']:.2f}"
        found.add_row(row["controller"], str(row["horizon"]), *speeds, *ratios, " ".join(times), several)
    return found


def _measure_here(controller: str, horizon: str) -> dict[str, Any]:
    """Train in this process, with the number of threads that the environment sets."""
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    before = _handover_ns()
    row = measure_one(controller, int(horizon), 5)
    time.sleep(0.2)  # after this time the pool's threads no longer use the cores
    after = _handover_ns()
    return row | {HANDOVER: None if before is None or after is None else max(before, after)}


def _handover_ns() -> float | None:
    """Return the time of a cache line from one thread's core to another's: the shortest of three measurements.

    Where two threads share a core, a hand-over takes as long as a turn of the scheduler, and few of them tell that.
    """
    if cpu.STATUS.library is None:
        return None
    brief = min(1e9 * float(probe.handover(100)) for _ in range(3))
    return brief if brief > SHARED_NS else min(1e9 * float(probe.handover(10_000)) for _ in range(3))


if __name__ == "__main__":
    print(json.dumps(_measure_here(*sys.argv[1:])))
