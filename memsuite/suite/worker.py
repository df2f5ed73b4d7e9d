"""One run in this process. All progress is kept on disk, so a run can be started any number of times.

Every launcher calls this module. The process should be fresh: the run takes over its output, signals and threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from memsuite.files import FULL, FolderGone, watched
from memsuite.runs.asked import asked_for
from memsuite.suite import store
from memsuite.suite.grid import Run
from memsuite.system import die_with_parent

HELD = 75  # EX_TEMPFAIL: another process works on this run
UNWRITABLE = 74  # EX_IOERR: the run's folder takes no files
KILLED = -signal.SIGKILL  # the status of a process that could not report one
SIGNALLED = 128  # fit adds the number of the signal that stopped it


def work(run: Run, folder: str, overwrite: bool = False) -> int:
    """Start, continue, or leave alone one run; return its exit status, 0 when it is finished.

    Args:
        run: the run.
        folder: the working directory, to which the run's paths are relative.
        overwrite: replace a run with other settings, once this one begins to train.
    """
    os.chdir(folder)
    try:
        with store.locked(run.folder, patience=2.0) as had, watched(run.folder):
            return _work(run, overwrite) if had else HELD
    except OSError as error:
        if error.errno not in FULL:
            raise
        return UNWRITABLE


def _work(run: Run, overwrite: bool) -> int:
    kind = store.look(run).kind
    if kind == "finished" or (kind == "other" and not overwrite):
        return 0
    store.prepare(run)
    status = _fit(run, run.replacing if kind == "other" else run.arguments)
    if 0 < status < SIGNALLED:
        with contextlib.suppress(FolderGone):  # what stands there now is none of ours
            store.record_failure(run.folder)
    return status


def _fit(run: Run, arguments: list[str]) -> int:
    """Run ``memsuite fit`` and write its output to the folder."""
    with (run.folder / store.OUTPUT).open("a", buffering=1) as file, _printing_into(file):
        try:
            from memsuite.__main__ import main

            with asked_for(run.asked):
                return main(["fit", *arguments])
        except Exception:
            traceback.print_exc()
            return 1


@contextmanager
def _printing_into(file: TextIO) -> Iterator[None]:
    """Send standard output and error to a file, including output that bypasses Python."""
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
    """Call :func:`work` with one thread, or OMP_NUM_THREADS: the matrices are small, and other runs need the cores."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return work(run, folder, overwrite)


def die_with_suite() -> None:
    """End this process as soon as the suite or the fork server between the two ends, for whatever reason."""
    die_with_parent()  # the parent is the fork server
    threading.Thread(target=_await_suite, daemon=True).start()


def _await_suite() -> None:
    suite = multiprocessing.parent_process()
    if suite is not None:
        suite.join()
        os.kill(os.getpid(), signal.SIGKILL)
