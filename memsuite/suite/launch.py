"""Runs on this machine: a fixed number at a time, each in its own process, forked after the slow imports.

The processes come from a ``forkserver`` that has loaded torch and Lightning once. Each takes one slot: a GPU, or a
core. They end with the suite, also when it is killed. A run has one thread unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

from memsuite.errors import Stopped
from memsuite.suite.grid import Run
from memsuite.suite.worker import die_with_suite, work_with_one_thread
from memsuite.system import OWNER

# memsuite itself is not in the list. It is quick to import, and its ops query the GPU: a process whose parent has used
# a GPU cannot use one.
PRELOAD = ["lightning.pytorch", "jsonargparse", "torch", "torchmetrics"]
TIED = "memsuite.suite.tied"
POLL = 0.5  # seconds between two polls


class Launcher(Protocol):
    """The interface that starts runs and reports which have ended."""

    capacity: int  # largest number of runs at a time

    def start(self, run: Run) -> None:
        """Start a run."""

    def ended(self) -> list[tuple[Run, int]]:
        """Wait a little; return the runs whose processes have ended, with their exit status (negative: the signal)."""

    def stop(self, at_once: bool) -> None:
        """Let the runs save and end, or end them at once."""

    def close(self) -> None:
        """Release all resources."""


def slots(jobs: int | None, gpus: int) -> list[str | None]:
    """Divide the machine into slots: one per GPU, named as CUDA names it, or one per core where there are no GPUs.

    With ``jobs`` there are that many slots, and they share the GPUs. A run is not bound to its core. On a machine with
    other users, a run that was bound to a busy core took 210 s while its neighbours took 13 s; and with one thread per
    run the scheduler needs no help.
    """
    ids = _gpu_ids(gpus)
    return [ids[i % gpus] if gpus else None for i in range(jobs or gpus or len(cores()))]


def cores() -> list[int]:
    """List the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpu_ids(gpus: int) -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[:gpus] if visible else [str(i) for i in range(gpus)]


def forkserver() -> ForkServerContext:
    """Return the context whose processes are forked after the imports of a run."""
    # A query to CUDA itself would leave a state behind that no forked process can use.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    if threading.current_thread() is threading.main_thread():  # only the suite handles Ctrl-C; it informs the others
        context.set_forkserver_preload([TIED, *PRELOAD])  # on Linux it would end with another thread, too
        os.environ[OWNER] = str(os.getpid())
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ensure_running()
        signal.signal(signal.SIGINT, before)
    return context


def call_in_a_fork(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function in a process of the fork server; return what it returns, or raise what it raises.

    Raises:
        EOFError: the process was killed.
        Stopped: this process was sent SIGTERM. By it and by Ctrl-C the other process is ended at once.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped("stopped before any run was started", 128 + number)

    context = forkserver()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, given))
    before = signal.signal(signal.SIGTERM, stop)
    try:
        process.start()
        theirs.close()
        value, error = ours.recv()
    finally:
        if process.pid is not None:  # it is None while the fork server makes it
            process.kill()
            process.join()
        signal.signal(signal.SIGTERM, before)
    if error is not None:
        raise error
    return value


def _call(pipe: Connection, function: Callable[..., Any], given: Sequence[Any]) -> None:
    """Send what a function returns, and what it raises."""
    die_with_suite()
    try:
        pipe.send((function(*given), None))
    except BaseException as error:  # a module of the user's may call sys.exit
        pipe.send((None, _sendable(error)))


def _sendable(error: BaseException) -> BaseException:
    """Return an exception, or one that says the same if a class of the user's cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class LocalLauncher:
    """Runs in processes of this machine, one per slot.

    Args:
        slots: the slots that the runs share: a GPU's name, or None for a core.
        overwrite: replace runs with other settings.
    """

    def __init__(self, slots: Sequence[str | None], overwrite: bool) -> None:
        self.capacity, self.overwrite = len(slots), overwrite
        self._free = list(slots)[::-1]
        self._context = forkserver()
        self._running: dict[int, tuple[BaseProcess, Run, str | None]] = {}

    def start(self, run: Run) -> None:
        """Start a run in the next free slot."""
        slot = self._free.pop()
        process = self._context.Process(target=_run_on, args=(slot, run, str(Path.cwd()), self.overwrite))
        process.start()
        self._running[process.sentinel] = (process, run, slot)

    def ended(self) -> list[tuple[Run, int]]:
        """Return the runs whose processes have ended, and free their slots."""
        found = []
        for sentinel in connection.wait(list(self._running), POLL):
            process, run, slot = self._running.pop(cast(int, sentinel))
            process.join()
            found.append((run, process.exitcode or 0))
            process.close()
            self._free.append(slot)
        return found

    def stop(self, at_once: bool) -> None:
        """Send SIGTERM, after which a run saves and ends, or SIGKILL."""
        for process, _, _ in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                (process.kill if at_once else process.terminate)()

    def close(self) -> None:
        """End the remaining processes; there are none unless the suite itself has failed."""
        self.stop(at_once=True)


def in_a_fork(run: Run, folder: str, overwrite: bool) -> int:
    """Work on one run in a process of its own, forked after the imports; return its exit status.

    For a process that is used for many runs, as a worker of Ray's. Interrupted, it lets the run save and end. If it is
    killed, the run ends with it.

    Args:
        run: the run.
        folder: the working directory, to which the run's paths are relative.
        overwrite: replace a run with other settings.
    """
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")  # those of this run alone; the fork server has the first one's
    process = forkserver().Process(target=_run_on, args=(gpus, run, folder, overwrite))
    process.start()
    try:
        process.join()
    except BaseException:
        process.terminate()
        process.join()
        raise
    status = process.exitcode or 0
    process.close()
    return status


def _run_on(gpu: str | None, run: Run, folder: str, overwrite: bool) -> None:
    """Run in this process, on this GPU alone."""
    die_with_suite()
    os.setpgid(0, 0)  # only the suite handles Ctrl-C; a second signal from the terminal would end the run unsaved
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    status = work_with_one_thread(run, folder, overwrite)
    sys.stdout.flush()
    os._exit(status)
