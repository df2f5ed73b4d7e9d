"""Importing Lightning and all of its packages in less time."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

SIGNALS = "scipy.signal"  # takes as long to import as all of Lightning


def light_import(name: str) -> ModuleType:
    """Import a module, the first time without searching for garbage and without SciPy's signal processing.

    The imports make a million objects that stay as long as the process. Python would search them for garbage again and
    again, also afterwards and once more at the end of the process, so they are left out of every later search.
    """
    if name in sys.modules:
        return sys.modules[name]
    was_on = gc.isenabled()
    gc.disable()
    try:
        with _without_signals():
            return importlib.import_module(name)
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def _without_signals() -> Iterator[None]:
    """Let an empty module stand in for :mod:`scipy.signal`, unless that is imported already.

    torchmetrics imports it, where it is installed, only to give it an old name, ``hamming``, that the package of one
    audio metric asks for. The stand-in has this name. An import after the block gets SciPy's own module.
    """
    stand_in = ModuleType(SIGNALS)
    stand_in.hamming = None  # type: ignore[attr-defined]
    sys.modules.setdefault(SIGNALS, stand_in)
    try:
        yield
    finally:
        if sys.modules.get(SIGNALS) is stand_in:
            del sys.modules[SIGNALS]
