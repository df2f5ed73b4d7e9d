"""A user's own files: found beside the configuration that names them, and kept with the run that they made."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from memsuite.blame import is_users_file
from memsuite.errors import UsageError
from memsuite.files import write_atomically
from memsuite.imports import COPIES, also_in, module_at, own_folders_too
from memsuite.launch.arguments import options
from memsuite.runs import RunConfig
from memsuite.runs.folder import SOURCE
from memsuite.runs.trust import module_in
from memsuite.shipped import find

log = logging.getLogger("memsuite")


def look_beside(arguments: list[str], run: Path | None, trusted: bool) -> None:
    """Find a user's files where a command's own files lie, too.

    They are found in the folder of ``--modules``, beside every configuration, and among the files that were kept with
    the run whose configuration it is, or whose checkpoint is trusted.

    Args:
        arguments: of the command line.
        run: the folder of the run whose checkpoint is read, if there is one.
        trusted: its copies may be imported.

    Raises:
        UsageError: ``--modules`` is no folder.
    """
    for folder in options(arguments, "--modules"):
        if not Path(folder).is_dir():
            raise UsageError(f"--modules {folder} is no folder")
        also_in(folder)
    for given in [*options(arguments, "--config"), *options(arguments, "-c")]:
        beside = find("configuration", given).parent
        also_in(beside)
        also_in(beside / SOURCE)
    if run is not None:
        if trusted:
            also_in(run / SOURCE)
        COPIES.append(run / SOURCE)
    own_folders_too()  # for callbacks and loggers of the user's own


Sources = dict[Path, tuple[Path, bytes]]  # a file of the user's and its content, by the place of its copy


def sources_of(config: RunConfig) -> Sources:
    """Read the user's files that define the task and the controller of a run.

    Args:
        config: the settings of the run.

    Returns:
        Each file with its content, by the place of its copy in the run folder.
    """
    found: Sources = {}
    for name in (config.task, config.controller):
        if module := module_in(name):
            loaded = module_at(module)
            for each in _of_the_same_folder(loaded, {}).values():
                file = Path(each.__file__ or "")
                parts = (module if each is loaded else each.__name__).split(".")
                place = Path(SOURCE, *parts[: None if file.stem == "__init__" else -1], file.name)
                found[place] = file, file.read_bytes()
    return found


def keep_sources(folder: Path, sources: Sources) -> None:
    """Copy the user's files into the run folder.

    A run that goes on keeps the copies that it has, and says so where a file has changed since.

    Args:
        folder: the run folder.
        sources: from :func:`sources_of`.
    """
    for place, (file, content) in sources.items():
        _keep(folder / place, file, content)


def _of_the_same_folder(module: ModuleType, found: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Return a module of the user's and the modules of its folder that it imports, directly or not, by their files."""
    file = getattr(module, "__file__", None) or ""
    if file in found or not (file and Path(file).is_file() and is_users_file(file)):
        return found
    found[file] = module
    for name in _imported(Path(file).read_text(encoding="utf-8", errors="replace"), module.__package__ or ""):
        other = sys.modules.get(name)
        if other and Path(getattr(other, "__file__", None) or "").parent == Path(file).parent:
            _of_the_same_folder(other, found)
    return found


def _imported(code: str, package: str) -> Iterator[str]:
    """Yield the names of the modules that a file of Python's imports, and of what it takes from them."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _keep(copy: Path, file: Path, content: bytes) -> None:
    if not copy.is_file():
        write_atomically(copy, lambda out: out.write(content))
    elif copy.read_bytes() != content:
        log.warning("%s has changed since the run began; %s is kept as it was then", file, copy)
