"""Memory between iterations: what one frees is kept for the next, and what never goes is not searched for garbage."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# From malloc.h: which limit is set, and to what.
KEEP = (
    (-4, 0),  # M_MMAP_MAX: no block of its own mapping, which the kernel would fill with zeros at every use
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: give nothing back until that much is free at the top
    (-2, 2**26),  # M_TOP_PAD: grow by that much at a time
)
GIVE_BACK = (
    (-4, 2**16),  # M_MMAP_MAX, as it is by default
    (-3, 2**22),  # M_MMAP_THRESHOLD: larger blocks have a mapping of their own, which goes when they are freed
    (-1, 2**26),  # M_TRIM_THRESHOLD
)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory; elsewhere do nothing.

    Blocks above 32 MB, which long horizons need, are otherwise mapped anew at every use and paid for page by page:
    at 20,000 steps that made an iteration up to 1.8 times as dear a step as at 200.
    """
    _limit(KEEP)


def give_back_freed_memory() -> None:
    """Tell glibc's allocator to return large blocks to the system when they are freed; elsewhere do nothing.

    Where an update computes block after block again, the few small objects that stay are otherwise placed in the gaps
    that large blocks leave, and the next large block takes new memory: a GRU of 800,000 steps by 128 held 2.1 GB for
    what takes 0.6. New pages are cheap where they are huge (``HUGE_PAGES`` in ``memsuite/__main__.py``).
    """
    _limit(GIVE_BACK)


def _limit(settings: Sequence[tuple[int, int]]) -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for limit, value in settings:
        mallopt(limit, value)


@contextmanager
def steady_memory(sparing: bool = False) -> Iterator[None]:
    """Keep, in the block, iterations from paying for memory that is not theirs.

    Python's garbage collector stays off the objects that are there at the beginning, which are nearly all of imported
    modules: to search them takes 0.2 s, at whatever iteration it falls on.

    Args:
        sparing: freed memory is given back to the system, too (:func:`give_back_freed_memory`), which costs a little.
    """
    if sparing:
        give_back_freed_memory()
    already = gc.get_freeze_count()  # what was left alone before, as by the command line's imports, stays so
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()
