"""Modules of the user's own, found by their path: where the command starts, or beside the file that names them."""

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
from typing import TypeVar, cast

from memsuite.blame import in_one_line, is_mistake, words_of
from memsuite.errors import UsageError

ClassT = TypeVar("ClassT")


def class_at(path: str, base: type[ClassT], kind: str) -> type[ClassT]:
    """Import ``my_module.MyClass``; a UsageError if it is not there, not a subclass of ``base``, or abstract.

    Args:
        path: module and class, looked for where the command was started, in :data:`PLACES`, then on Python's path.
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
    if inspect.isabstract(found):
        missing = ", ".join(sorted(vars(found)["__abstractmethods__"]))
        raise UsageError(f"{kind} {path!r} does not define {missing}; docs/extending.md shows what each {kind} defines")
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


PLACES: list[Path] = []  # folders besides the current one in which a user's files are found, the first wins
COPIES: list[Path] = []  # folders with copies of a user's files, named where one is missing


def also_in(folder: str | Path) -> None:
    """Find a user's files in this folder too, after the current one and those that were named before.

    Args:
        folder: where a configuration or a suite lies that names them.
    """
    place = Path(folder).resolve()
    if place.is_dir() and place != Path.cwd() and place not in PLACES:
        PLACES.append(place)


def file_of(name: str) -> Path | None:
    """Return the file of a user's own module: the first of the current folder and :data:`PLACES`; None if none has it.

    Args:
        name: of the module, with dots.
    """
    return next((file for folder in (Path.cwd(), *PLACES) if (file := file_in(folder, name))), None)


def file_in(folder: Path, name: str) -> Path | None:
    """Return the file of a module, where a folder has it; otherwise None, also for what is no name of a module."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    inside = folder.joinpath(*parts)
    return next((file for file in (inside.with_suffix(".py"), inside / "__init__.py") if file.is_file()), None)


def module_at(name: str) -> ModuleType:
    """Import a module: the file in the current folder before those of the other places and of Python's path.

    A file that has the name of a module of Python's, or of one that was loaded from elsewhere, is loaded beside it.

    Raises:
        ModuleNotFoundError: there is no such file; the text says where it was looked for.
    """
    file = file_of(name)
    before = sys.modules.get(name)
    with own_folders_first():
        if _is_other(file, before):
            return _beside(name, cast(Path, file))
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):  # one that the user's file imports
                raise
            raise ModuleNotFoundError(_not_found(name), name=error.name) from error


def _is_other(file: Path | None, loaded: ModuleType | None) -> bool:
    """Tell whether a file is not the module that was loaded under its name."""
    if file is None or file.name == "__init__.py" or loaded is None:
        return False
    return Path(getattr(loaded, "__file__", None) or "").resolve() != file.resolve()


def _not_found(name: str) -> str:
    file = "/".join(name.split(".")) + ".py"
    where = " or ".join(["this folder", *map(str, PLACES)])
    copies = [folder / file for folder in COPIES if (folder / file).is_file()]
    bring = "start where it lies, copy it here, or install its package"
    if copies:
        bring = f"cp {copies[0]} . brings it, or add --trust (trust=True) to use that copy"
    return f"no file {file} in {where}, nor a module {name!r} on Python's path; {bring}"


@contextmanager
def own_folders_first() -> Iterator[None]:
    """Look for modules in the current folder and the other places first during the block, and last after it.

    Last, because a user's file that is called like a module of Python's must not take its place for other packages.
    """
    first = [str(Path.cwd()), *map(str, PLACES)]
    sys.path[:0] = first
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in first:
            sys.path.remove(folder)
        own_folders_too()


def own_folders_too() -> None:
    """Look for modules in the current folder and the other places after everywhere else."""
    sys.path += [folder for folder in map(str, (Path.cwd(), *PLACES)) if folder not in sys.path]


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
