"""Runs the compilers: as many at once as there are cores, all of them ended when the build is, however that ends."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType

# Seconds between two looks at signals. Whoever waits for another thread without an end does not see one that comes as
# it begins to wait, or that another thread receives.
HEARTBEAT = 0.2
PASSING = re.compile(
    "no space left|disk quota|cannot allocate|out of memory|memory exhausted|busy or unavailable", re.IGNORECASE
)


class BuildError(RuntimeError):
    """Why there is no compiled library, in one line; the details, if any, are in the log that the line names."""


class _Terminated(BaseException):
    """SIGTERM came in the middle of a build."""


def run_all(commands: list[list[str]], log: Path) -> str:
    """Run commands, as many at once as there are cores; if one fails, end the others and raise.

    Args:
        commands: each the words of one.
        log: where the output of one that fails is kept, unless the reason passes by itself: then it is tried again.

    Returns:
        What they said, one after the other; of a compiler, its warnings.

    Raises:
        BuildError: one of them failed.
    """
    package = str(Path(__file__).resolve().parents[3])
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    # The trial imports the package, which must not begin to build or load anything itself.
    env = os.environ | {"PYTHONPATH": os.pathsep.join([package, *inherited]), "MEMSUITE_KERNELS": "off"}
    running: list[subprocess.Popen[str]] = []
    told = ""
    over = threading.Event()

    def run(command: list[str]) -> tuple[list[str], int, str]:
        if over.is_set():
            return command, 0, ""
        pipe = subprocess.PIPE
        # A compiler starts others: in a group of their own, all of them can be ended.
        process = subprocess.Popen(
            command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
        )
        running.append(process)
        if over.is_set():
            _end(process)
        said = process.communicate()[0]
        return command, process.returncode, said

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        for future in [pool.submit(run, command) for command in commands]:
            while not future.done():
                wait([future], HEARTBEAT)
            command, status, said = future.result()
            if status:
                raise BuildError(_failure(command, status, said, log))
            told += said
    finally:
        over.set()
        for process in running[:]:
            _end(process)
        pool.shutdown(cancel_futures=True)
    return told


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _failure(command: list[str], status: int, said: str, log: Path) -> str:
    """Keep the output of a command that failed where it would fail again, and say what has happened."""
    name = Path(command[0]).name
    if found := PASSING.search(said):
        return f"{name} failed: {found[0].lower()}; it is tried again the next time"
    if status < 0:
        return f"{name} was ended by {signal.Signals(-status).name}; it is tried again the next time"
    try:
        log.write_text(f"{shlex.join(command)}\n{said}")
    except OSError as error:
        with contextlib.suppress(OSError):
            log.unlink()  # an empty one would mean that it need not be tried again
        return f"{name} failed with status {status}, and {log} cannot be written: {error.strerror}"
    return f"{name} failed with status {status}; see {log}"


@contextlib.contextmanager
def cleared_up_at_sigterm() -> Iterator[None]:
    """Let a SIGTERM in the block end the block as an error would, with all that is to be cleared up, then the process.

    Whoever handles the signal himself goes on doing so.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def receive(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another must not cut the clearing up short
        raise _Terminated

    signal.signal(signal.SIGTERM, receive)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
