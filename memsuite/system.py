"""Services of the operating system: a process that ends with its parent, locks between processes, and clocks."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ImportError:  # this system has no fcntl
    fcntl = None

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, from sys/prctl.h
OWNER = "MEMSUITE_FORK_SERVER_OF"  # names, in the environment of a fork server, the process that has started it


def die_with_parent() -> None:
    """Have the kernel kill this process as soon as its parent ends, where the kernel supports it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def lock(file: IO[Any] | int, patience: float) -> bool:
    """Lock an open file for as long as it is open; return whether the lock was taken.

    The lock ends with the process, however the process ends. On systems and file systems without locks, return True.

    Args:
        file: any open file, or its descriptor.
        patience: seconds to keep trying, because another process may hold the lock for only a moment.
    """
    until = time.monotonic() + patience
    while not (had := _try_to_lock(file, shared=False)) and time.monotonic() < until:
        time.sleep(0.05)
    return had


@contextlib.contextmanager
def locked_folder(folder: Path, patience: float) -> Iterator[bool]:
    """Hold the lock on a folder itself, which nobody lets go by deleting a file in it; yield whether it could be had.

    Args:
        folder: it must be there.
        patience: seconds to try for.
    """
    if fcntl is None:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield lock(handle, patience)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock on a file or a folder; False if there is none."""
    if path.is_dir():
        with contextlib.suppress(OSError), locked_folder(path, 0.0) as had:
            return not had
        return False
    with contextlib.suppress(OSError), path.open("r+" if os.access(path, os.W_OK) else "r") as file:
        return not _try_to_lock(file, shared=True)
    return False


def _try_to_lock(file: IO[Any] | int, shared: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        return True
    return True


def memory() -> float:
    """Return the bytes that processes may use on this machine, its swap included; infinity where nobody tells."""
    try:
        installed = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf
    allowed, swap = _number_in(Path("/sys/fs/cgroup/memory.max")), _number_in(Path("/proc/meminfo"), "SwapTotal:")
    return min(installed, allowed or math.inf) + 1024 * (swap or 0.0)


def _number_in(path: Path, name: str = "") -> float | None:
    """Return the number after a name in a file of the kernel's; None if there is none."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.removeprefix(name).split()
            if line.startswith(name) and words and words[0].isdigit():
                return float(words[0])
    return None


_ELSEWHERE = [0.0]  # CPU seconds of processes that work for this one


def count_cpu_seconds(seconds: float) -> None:
    """Add CPU seconds that another process has spent for this one."""
    _ELSEWHERE[0] += seconds


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, and those that others are known to have spent for it."""
    return time.process_time() + _ELSEWHERE[0]


class Seconds(dict[str, list[float]]):
    """Wall and CPU seconds per section, ``[wall, cpu]`` each; 0 for a section that has not begun."""

    def __missing__(self, section: str) -> list[float]:
        return self.setdefault(section, [0.0, 0.0])

    @contextlib.contextmanager
    def timed(self, section: str) -> Iterator[None]:
        """Add the duration of the block to the seconds of a section."""
        wall, cpu = time.perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            spent = self[section]
            spent[0] += time.perf_counter() - wall
            spent[1] += cpu_seconds() - cpu
