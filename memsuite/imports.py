"""Modules of the user's own, found by their path: first in the folder where the command starts."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from memsuite.blame import in_one_line, is_mistake, words_of
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
        found = getattr(module_at(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{kind} {path!r} cannot be imported: {words_of(error)}") from error
    except BaseException as error:
        if not is_mistake(error):
            raise
        raise UsageError(f"{kind} {path!r} cannot be imported: {in_one_line(error)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        wanted = f"{base.__module__.rsplit('.', 1)[0]}.{base.__name__}"
        raise UsageError(f"{kind} {path!r} is not a subclass of {wanted}; docs/extending.md shows how to make one")
    return found


@functools.cache
def parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
    """Return what a class can be made with, by name; what ``**kwargs`` pass on is what its base class takes."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *given = inspect.signature(vars(base)["__init__"]).parameters.values()
        variable = {one.kind for one in given} & {inspect.Parameter.VAR_KEYWORD}
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        found = {one.name: one for one in given if one.kind not in kinds} | found
        if not variable:
            break
    return found


def module_at(name: str) -> ModuleType:
    """Import a module: the file in the current folder before one of that name anywhere else.

    A file that has the name of a module of Python's, or of one that was loaded from elsewhere, is loaded beside it.
    """
    file = Path.cwd().joinpath(*name.split(".")).with_suffix(".py")
    before = sys.modules.get(name)
    with current_folder_first():
        if file.is_file() and before is not None and Path(getattr(before, "__file__", None) or "").resolve() != file:
            return _beside(name, file)
        return importlib.import_module(name)


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Look for modules in the current folder first during the block, and last after it.

    Last, because a user's file that is called like a module of Python's must not take its place for other packages.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)
        current_folder_too()


def current_folder_too() -> None:
    """Look for modules in the current folder after everywhere else."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _beside(name: str, file: Path) -> ModuleType:
    """Load a file under a name that says where it lies, as its own name is taken."""
    full = f"{name} of {file.parent}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module  # before it runs, as dataclasses and pickling look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[full]
            raise
    return sys.modules[full]
