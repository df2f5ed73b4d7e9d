"""From a suite's YAML to its runs: every combination of the axes of every entry is one ``memsuite fit`` command line.

A run's settings come from these sources, the weakest first: ``config`` files, ``settings``, ``grid``, the keys of its
entry, the ``grid`` of its entry, and the ``overrides`` whose ``when`` the run meets. ``exclude`` removes runs.
docs/suites.md is the guide.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError, nearest, unknown
from memsuite.files import spelt
from memsuite.imports import file_in
from memsuite.reading import positive, read_mapping
from memsuite.runs.config import IDENTITY
from memsuite.runs.folder import HARMFUL, mark, run_id
from memsuite.runs.trust import module_in
from memsuite.shipped import find
from memsuite.suite.changes import Changes, changed, spelt_out
from memsuite.suite.content import ENTRY_KEYS, Settings, axes_of, flatten, is_mapping, list_of, mapping

KEYS = ("name", "description", "parameters", "config", "settings", "grid", "entries", "overrides", "exclude")
LAUNCHERS = ("ray", "slurm")  # keys for the launchers of clusters
MOST = 10_000  # runs of a suite
OURS = ("out", "overwrite", "ckpt_path")  # options of fit that only the suite sets


@dataclass(frozen=True)
class Run:
    """One run of a suite.

    Attributes:
        id: readable name, and the path of the folder below the suite's: ``delayed_cue-medium/gru/seed0``.
        folder: the run folder.
        configs: configuration files that ``fit`` reads first.
        settings: dotted keys of ``fit`` and their values.
        asked: the settings including those of the files; they decide whether a folder holds this run.
        modules: the folder of the suite's file, where a task or a controller of the user's own lies there.
    """

    id: str
    folder: Path
    configs: tuple[str, ...]
    settings: Settings
    asked: Settings
    modules: str | None = None

    @property
    def options(self) -> list[str]:
        """The run's settings as options of ``memsuite fit``."""
        words = ["--modules", self.modules] if self.modules else []
        words += [word for path in self.configs for word in ("--config", path)]
        return words + [word for key, value in self.settings.items() for word in option(key, value)]

    @property
    def arguments(self) -> list[str]:
        """The arguments after ``memsuite fit``; the same line starts the run and continues it."""
        return [*self._here, "--ckpt_path", "last"]

    @property
    def replacing(self) -> list[str]:
        """The arguments that replace another run in the folder once this one begins to train."""
        return [*self._here, "--overwrite"]

    @property
    def _here(self) -> list[str]:
        return [*self.options, "--out", str(self.folder)]

    @property
    def command(self) -> str:
        """The whole command line."""
        return shlex.join(["memsuite", "fit", *self.arguments])


def option(key: str, value: Any) -> list[str]:
    """Return a setting as an option of ``memsuite fit`` with its value."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]


@dataclass(frozen=True)
class Suite:
    """The runs of a suite, and the settings in its file for the launchers of clusters.

    Attributes:
        source: the file and the changes that were made to it, as error messages name them.
        folder: the folder that contains the run folders.
        runs: in the order of the file.
        launchers: settings of ``ray`` and ``slurm``.
        parameters: the number of parameters that all models are to have; None if each has its own.
    """

    source: str
    folder: Path
    runs: list[Run]
    launchers: dict[str, Settings]
    parameters: int | None = None


def read_suite(path: Path, out: Path | None = None, changes: Changes | None = None) -> Suite:
    """Read a suite; its run folders are in ``out``, or in ``runs/NAME``.

    Args:
        path: the file.
        out: the folder of the run folders.
        changes: settings that win over those of the file (:mod:`memsuite.suite.changes`).

    Raises:
        UsageError: one line that names the file, the changes, the mistake and the nearest valid names.
    """
    source = f"{path} with {spelt_out(changes)}" if changes else str(path)
    content = read_mapping(path, "suite", "grid: {controller: [gru, mamba]}")
    try:
        for key in content:
            if key not in (*KEYS, *LAUNCHERS):
                raise unknown("key", key, (*KEYS, *LAUNCHERS))
        name = content.get("name") or path.stem
        if not isinstance(name, str) or HARMFUL.search(name) or name.startswith("."):
            raise UsageError(f"name {name!r} cannot be a folder's name; use letters, digits, '_' and '-'")
        folder = out or Path("runs") / name
        launchers = {key: mapping(content, key) for key in LAUNCHERS}
        content = changed(content, changes) if changes else content
        runs = [_finding_files(run, path.parent) for run in _expand(content, path, folder, changes or {})]
        return Suite(source, folder, runs, launchers, _parameters(content))
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _finding_files(run: Run, beside: Path) -> Run:
    """Return a run that finds a task or a controller of the user's beside the suite, if the current folder has none."""
    modules = [module_in(str(run.asked.get(name) or "")) for name in ("task", "controller")]
    there = any(module and not file_in(Path.cwd(), module) and file_in(beside, module) for module in modules)
    return replace(run, modules=str(beside)) if there else run


def _parameters(content: Settings) -> int | None:
    """Return the number of parameters that a suite asks of all models, if it does."""
    given = content.get("parameters")
    try:
        return None if given is None else int(positive(given))
    except ValueError as error:
        raise UsageError(f"parameters: {error}") from error


def choose(runs: list[Run], only: list[str]) -> list[Run]:
    """Return the runs whose id is given or lies below a given one: ``delayed_cue-medium/gru`` selects all its seeds."""
    for name in only:
        if not any(_is_below(run.id, name) for run in runs):
            parents = {str(parent) for run in runs for parent in Path(run.id).parents} - {"."}
            near = nearest(name, [*sorted(parents), *(run.id for run in runs)])
            raise UsageError(f"--only {name} matches no run; the nearest: {', '.join(near[:3])}")
    return [run for run in runs if not only or any(_is_below(run.id, name) for name in only)]


def _is_below(run_id: str, name: str) -> bool:
    return f"{run_id}/".startswith(f"{name.rstrip('/')}/")


def _expand(content: Settings, path: Path, folder: Path, changes: Changes) -> list[Run]:
    configs, base = _base(content, path)
    shared, grid = flatten(mapping(content, "settings")), axes_of(content)
    overrides = [_override(each) for each in list_of(content, "overrides")]
    excluded = [flatten(is_mapping(each, "exclude")) for each in list_of(content, "exclude")]
    met, count = [0] * (len(overrides) + len(excluded)), 0
    runs: dict[str, Run] = {}
    for entry in list_of(content, "entries") if "entries" in content else [{}]:
        for settings, label in _combinations(is_mapping(entry, "entries"), shared, grid):
            count += 1
            check_number(count)
            full = {**IDENTITY, **base, **settings}
            if sum(_meets(full, when, met, i) for i, when in enumerate(excluded)):  # a sum, so that each one is counted
                continue
            for i, (when, change) in enumerate(overrides, len(excluded)):
                if _meets(full, when, met, i):
                    settings = {**settings, **change}
            run = _run(settings, {**base, **settings}, label, configs, folder)
            if run.id in runs:
                raise UsageError(f"two runs have the id {run.id}; give the entries different names: 'name: wide'")
            runs[run.id] = run
    for i, times in enumerate(met):
        when = excluded[i] if i < len(excluded) else overrides[i - len(excluded)][0]
        if not times and not when.keys() & changes.keys():  # what a change has replaced may be met no more
            kind, number = ("exclude", i) if i < len(excluded) else ("overrides", i - len(excluded))
            raise UsageError(f"entry {number + 1} of {kind} matches no run")
    if not runs:
        raise UsageError("the grid is empty: it holds no run")
    return list(runs.values())


def _combinations(entry: Settings, shared: Settings, grid: Settings) -> Iterator[tuple[Settings, str]]:
    """Yield the settings of every combination of an entry's axes, and the suffix of the controller's name in the id."""
    own = flatten({key: value for key, value in entry.items() if key not in ENTRY_KEYS})
    axes = {key: values for key, values in grid.items() if key not in own} | axes_of(entry)
    name = entry.get("name")
    check_number(math.prod(map(len, axes.values())))
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        marks = [] if name is None else [str(name)]
        marks += [mark(key, value) for key, value in chosen.items() if key not in IDENTITY]
        settings = shared | own | _spread(chosen)
        yield {key: settings[key] for key in sorted(settings, key=_order)}, "".join(f"-{mark}" for mark in marks)


def _spread(chosen: Settings) -> Settings:
    """Write mappings among the values of axes with dotted keys, so that they come before weaker sources key by key.

    Raises:
        UsageError: two axes give one setting different values.
    """
    found: Settings = {}
    for axis, value in chosen.items():
        for key, each in flatten({axis: value}).items():
            if key in found and found[key] != each:
                raise UsageError(f"{key} is {found[key]!r} by one axis and {each!r} by another; keep one of the two")
            found[key] = each
    return found


def check_number(runs: int) -> None:
    """Refuse more runs than a suite can look at before the first one starts."""
    if runs > MOST:
        raise UsageError(f"the grid has {runs:,} runs or more; the most is {MOST:,}: make several suites of it")


def _order(key: str) -> tuple[int, str]:
    """Return a sort key that puts the settings that identify a run first."""
    names = list(IDENTITY)
    return names.index(key) if key in names else len(names), key


def _run(settings: Settings, asked: Settings, label: str, configs: tuple[str, ...], folder: Path) -> Run:
    for key in OURS:
        if key in asked:
            raise UsageError(f"{key} is set by the suite itself; use memsuite suite --out, --overwrite")
    full = {**IDENTITY, **asked}
    name = run_id(full, label)
    try:
        plain = spelt(json.loads(json.dumps(asked, default=str)))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{name}: a setting is not a plain value: {error}") from error
    return Run(name, folder / name, configs, settings, plain)


def _base(content: Settings, path: Path) -> tuple[tuple[str, ...], Settings]:
    """Return the configuration files, relative to the folder of the suite's file, and their settings."""
    given = content.get("config") or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"config is {given!r}; it must be a file, or a list of files")
    files = [os.path.normpath(_config(path.parent, name)) for name in names]
    settings: Settings = {}
    for file in files:
        settings |= flatten(read_mapping(file, "configuration", "task: delayed_cue"))
    return tuple(files), settings


def _config(folder: Path, name: str) -> Path:
    """Return a configuration file: one that lies at a path relative to the suite's, or one that comes with memsuite."""
    beside = folder / name
    return beside if beside.is_file() else folder / find("configuration", name)


def _override(given: Any) -> tuple[Settings, Settings]:
    """Return the values that an override requires of a run, and the settings that it then applies."""
    override = is_mapping(given, "overrides")
    for key in override:
        if key not in ("when", "settings"):
            raise unknown("key of overrides", key, ("when", "settings"))
    return flatten(mapping(override, "when")), flatten(mapping(override, "settings"))


def _meets(settings: Settings, when: Settings, met: list[int], number: int) -> bool:
    """Return whether the settings have every required value, or one of those in a list; count the match in ``met``."""
    for key, value in when.items():
        found = settings.get(key)
        if found != value and not (isinstance(value, list) and found in value):
            return False
    met[number] += 1
    return True
