"""Runs on this machine: so many at a time, each in a process of its own that starts with its imports behind it.

The processes come from a ``forkserver`` that has loaded torch and Lightning once. Each takes one slot: a GPU, or a
group of cores. They die with the suite, also when it is killed, and a run has one thread unless OMP_NUM_THREADS says
otherwise.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, cast

from memsuite.suite.grid import Run
from memsuite.suite.worker import die_with_suite, work_with_one_thread

# Not memsuite itself, which is quick to import: its ops ask a GPU for its kind, and a process whose parent has talked
# to a GPU cannot use one.
PRELOAD = ["lightning.pytorch", "jsonargparse", "torch", "torchmetrics"]
POLL = 0.5  # seconds between two looks


class Launcher(Protocol):
    """What starts runs and tells when they have ended."""

    capacity: int  # runs that may be under way at once

    def start(self, run: Run) -> None:
        """Start a run."""

    def ended(self) -> list[tuple[Run, int]]:
        """Wait a little; return the runs whose processes have ended, with their status (negative: by that signal)."""

    def stop(self, at_once: bool) -> None:
        """Let the runs save and end, or end them at once."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Slot:
    """What one run at a time may use: a GPU, or cores."""

    gpu: str | None
    cores: tuple[int, ...]


def slots(jobs: int | None, gpus: int) -> list[Slot]:
    """Divide the machine: a slot a GPU, or a core; with ``jobs`` that many, which share the GPUs if there are fewer."""
    ids, ours = _gpu_ids(gpus), cores()
    count = jobs or gpus or len(ours)
    groups = [tuple(ours[i * len(ours) // count : (i + 1) * len(ours) // count]) for i in range(count)]
    return [Slot(ids[i % gpus] if gpus else None, groups[i] or tuple(ours)) for i in range(count)]


def cores() -> list[int]:
    """List the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpu_ids(gpus: int) -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[:gpus] if visible else [str(i) for i in range(gpus)]


def forkserver() -> ForkServerContext:
    """Return the context whose processes start with the imports of a run behind them."""
    # Asking CUDA itself whether there is a device would leave a state behind that no forked process can use.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    if threading.current_thread() is threading.main_thread():  # a Ctrl-C is for the suite, which tells the others
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ensure_running()
        signal.signal(signal.SIGINT, before)
    return context


class LocalLauncher:
    """Runs in processes of this machine, one a slot.

    Args:
        slots: what the runs share out among them.
        overwrite: take runs with other settings away.
    """

    def __init__(self, slots: Sequence[Slot], overwrite: bool) -> None:
        self.capacity, self.overwrite = len(slots), overwrite
        self._free = list(slots)[::-1]
        self._context = forkserver()
        self._running: dict[int, tuple[BaseProcess, Run, Slot]] = {}

    def start(self, run: Run) -> None:
        """Start a run in the next free slot."""
        slot = self._free.pop()
        process = self._context.Process(target=_run_in, args=(slot, run, str(Path.cwd()), self.overwrite))
        process.start()
        self._running[process.sentinel] = (process, run, slot)

    def ended(self) -> list[tuple[Run, int]]:
        """Return the runs whose processes have ended, their slots free again."""
        found = []
        for sentinel in connection.wait(list(self._running), POLL):
            process, run, slot = self._running.pop(cast(int, sentinel))
            process.join()
            found.append((run, process.exitcode or 0))
            process.close()
            self._free.append(slot)
        return found

    def stop(self, at_once: bool) -> None:
        """Send SIGTERM, on which a run saves and ends, or SIGKILL."""
        for process, _, _ in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                (process.kill if at_once else process.terminate)()

    def close(self) -> None:
        """End what still runs, which is nothing unless the suite itself has failed."""
        self.stop(at_once=True)


def _run_in(slot: Slot, run: Run, folder: str, overwrite: bool) -> None:
    """Do one run in this process, in its slot."""
    die_with_suite()
    os.setpgid(0, 0)  # a Ctrl-C is for the suite, which tells its runs; a second signal would end them unsaved
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    status = work_with_one_thread(run, folder, overwrite)
    sys.stdout.flush()
    os._exit(status)
