"""Memory between iterations: what one frees is kept for the next, and what never goes is not searched for garbage."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From malloc.h: which limit is set, and to what.
SETTINGS = (
    (-4, 0),  # M_MMAP_MAX: no block of its own mapping, which the kernel would fill with zeros at every use
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: give nothing back until that much is free at the top
    (-2, 2**26),  # M_TOP_PAD: grow by that much at a time
)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory; elsewhere do nothing.

    Blocks above 32 MB, which long horizons need, are otherwise mapped anew at every use and paid for page by page:
    at 20,000 steps that made an iteration up to 1.8 times as dear a step as at 200.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for limit, value in SETTINGS:
        mallopt(limit, value)


@contextmanager
def modules_left_alone() -> Iterator[None]:
    """Keep Python's garbage collector, in the block, off the objects that are there at its beginning.

    They are nearly all of imported modules. To search them takes 0.2 s, at whatever iteration it falls on.
    """
    already = gc.get_freeze_count()  # what was left alone before, as by the command line's imports, stays so
    gc.freeze()
    try:
        yield
    finally:
        if not already:
            gc.unfreeze()
