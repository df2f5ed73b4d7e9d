"""One run, in this process: whatever has been done of it is kept, so it can be started as often as one likes.

Every launcher ends here. The process should be fresh: what the run prints, its signals and its threads are its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from memsuite.suite import store
from memsuite.suite.grid import Run
from memsuite.system import die_with_parent

HELD = 75  # EX_TEMPFAIL: another process works on this run
KILLED = -signal.SIGKILL  # the status of a process that could not tell one
SIGNALLED = 128  # fit adds the number of the signal that stopped it


def work(run: Run, folder: str, overwrite: bool = False) -> int:
    """Start, go on with, or leave alone one run; return its exit status, 0 when it is finished.

    Args:
        run: the run.
        folder: the working directory, from which its paths are meant.
        overwrite: take a run with other settings away.
    """
    os.chdir(folder)
    with store.locked(run.folder, patience=2.0) as had:
        if not had:
            return HELD
        kind = store.look(run).kind
        if kind == "finished" or (kind == "other" and not overwrite):
            return 0
        store.prepare(run, overwrite)
        status = _fit(run)
        if 0 < status < SIGNALLED:
            store.record_failure(run.folder)
        return status


def _fit(run: Run) -> int:
    """Run ``memsuite fit``; what it prints goes into the folder."""
    with (run.folder / store.OUTPUT).open("a", buffering=1) as file, _printing_into(file):
        try:
            from memsuite.__main__ import main

            return main(["fit", *run.arguments])
        except Exception:
            traceback.print_exc()
            return 1


@contextmanager
def _printing_into(file: TextIO) -> Iterator[None]:
    """Send standard output and error to a file, also what is written past Python."""
    before, streams = [os.dup(number) for number in (1, 2)], (sys.stdout, sys.stderr)
    for number in (1, 2):
        os.dup2(file.fileno(), number)
    sys.stdout = sys.stderr = file
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for number, handle in zip((1, 2), before, strict=True):
            os.dup2(handle, number)
            os.close(handle)


def work_with_one_thread(run: Run, folder: str, overwrite: bool = False) -> int:
    """Work with one thread unless the environment says otherwise: the matrices are small, others need the cores."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return work(run, folder, overwrite)


def die_with_suite() -> None:
    """End this process as soon as the suite ends, however it ends, or the fork server between the two."""
    die_with_parent()  # the fork server
    threading.Thread(target=_await_suite, daemon=True).start()


def _await_suite() -> None:
    suite = multiprocessing.parent_process()
    if suite is not None:
        suite.join()
        os.kill(os.getpid(), signal.SIGKILL)
