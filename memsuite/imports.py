"""Classes of the user's own, found by their path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TypeVar

from memsuite.errors import UsageError

ClassT = TypeVar("ClassT")


def class_at(path: str, base: type[ClassT], kind: str) -> type[ClassT]:
    """Import ``my_module.MyClass``; a UsageError if it is not there or not a subclass of ``base``.

    Args:
        path: module and class, looked for where the command was started and then on Python's path.
        base: what it must be a subclass of.
        kind: what it is called in the error.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        if str(Path.cwd()) not in sys.path:  # a file of the user's lies where they start the command
            sys.path.append(str(Path.cwd()))
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{kind} {path!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{kind} {path!r} is not a subclass of {base.__module__.rsplit('.', 1)[0]}.{base.__name__}")
    return found
