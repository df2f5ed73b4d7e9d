"""Many runs in one file of JSON Lines: what they have in common in the first line, then a run a line.

The first line is a header, ``{"format": 1, "runs": 2, "common": {..}}``. Each line after it is a run without what is in
``common``: a value that all runs share stands only there, also one within a mapping such as ``hardware`` or ``config``.
The keys of a run are in the order of :class:`~memsuite.runs.RunResult`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError
from memsuite.files import write_atomically
from memsuite.runs.config import NAMES, PPO_NAMES
from memsuite.runs.folder import RESULT
from memsuite.runs.hints import LARGEST, shown
from memsuite.runs.result import KIND_OF
from memsuite.shipped import find

FORMAT = 1
SUFFIX = ".jsonl"
LONGEST, LONGEST_NAME = 100_000, 100  # letters of a text, and of a name in a message
UNSHOWN = re.compile("[\\ud800-\\udfff\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]")  # halves of letters, and controls
# The orders in which keys are written: of a run, of its settings, and of its settings of PPO.
ORDERS = {(): list(KIND_OF), ("config",): [*NAMES, "ppo"], ("config", "ppo"): PPO_NAMES}


def find_runs(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Read every run under a folder or in a file, each with where it was found, as messages name it.

    A folder is searched for ``result.json``; a run without one is not finished and not counted. A file holds JSON
    Lines if its name ends in ``.jsonl``; any other holds JSON: a run, or lists and mappings of runs. A name such as
    ``reference`` is that of a file that comes with memsuite.

    Raises:
        UsageError: there is nothing, or no run, or it cannot be read.
    """
    path = find("results", path)
    if path.is_dir():
        if not (files := sorted(path.rglob(RESULT))):
            raise UsageError(f"no finished run ({RESULT}) under {path}")
        return [(str(file.parent), _mapping(read_json(file), str(file))) for file in files]
    if not path.is_file():
        raise UsageError(f"no results at {path}")
    lines = path.suffix == SUFFIX
    if not (runs := read_collection(path) if lines else _runs_in(read_json(path))):
        raise UsageError(f"{path} holds no results")
    return [(f"{path}, line {number}" if lines else str(path), run) for number, run in enumerate(runs, start=2)]


def write_collection(path: str | Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Write runs into one file of JSON Lines.

    Args:
        path: the file; a folder that is missing is made.
        runs: in the order in which they are written.

    Raises:
        UsageError: the name does not end in ``.jsonl``, or a run holds what JSON cannot, such as NaN.
    """
    path = Path(path)
    check_target(path)
    try:
        common = common_part(runs)
        header = {"format": FORMAT, "runs": len(runs), "common": in_order(common)}
        lines = [_line(one) for one in (header, *(in_order(difference(run, common)) for run in runs))]
    except ValueError as error:
        raise UsageError(f"the runs for {path} hold a value that JSON has not: {error}") from error
    write_atomically(path, lambda file: file.write("".join(lines).encode()))


def read_collection(path: str | Path) -> list[dict[str, Any]]:
    """Return the runs of a file of JSON Lines, each whole again.

    Raises:
        UsageError: one line that names the file and the line that is wrong.
    """
    path = Path(path)
    first, *lines = _text(path).removesuffix("\n").split("\n")
    header = _header(_parse(first, f"{path}, line 1"), f"{path}, line 1")
    runs = []
    for number, text in enumerate(lines, start=2):
        where = f"{path}, line {number}"
        runs.append(in_order(united(header["common"], _mapping(_parse(text, where), where), where)))
    if len(runs) != header["runs"]:
        raise UsageError(
            f"{path}, line 1 counts {header['runs']} runs and {len(runs)} follow it; the file was cut or added to"
        )
    return runs


def read_json(path: str | Path) -> Any:
    """Return what a file of JSON holds; a usage error that names the file if it is none."""
    return _parse(_text(Path(path)), str(path))


def check_target(path: str | Path, overwrite: bool = True) -> None:
    """Raise a usage error for a file that would not be read as JSON Lines again, or that may not be replaced."""
    if Path(path).suffix != SUFFIX:
        raise UsageError(f"{path}: results are collected as JSON Lines; name a file that ends in {SUFFIX}")
    if not overwrite and Path(path).exists():
        raise UsageError(f"{path} is there already; add --overwrite to replace it, or name another file")


def common_part(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all mappings hold alike: values, and of mappings within them what those hold alike."""
    first = runs[0] if runs else {}
    found: dict[str, Any] = {}
    for name in first:
        if not all(name in run for run in runs):
            continue
        values = [run[name] for run in runs]
        if all(isinstance(value, Mapping) for value in values):
            found[name] = common_part(values)
        elif not any(isinstance(value, Mapping) for value in values) and len({_line(value) for value in values}) == 1:
            found[name] = values[0]
    return found


def difference(run: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run holds besides the common part (:func:`common_part`)."""
    found: dict[str, Any] = {}
    for name, value in run.items():
        if name not in common:
            found[name] = value
        elif isinstance(value, Mapping) and (inner := difference(value, common[name])):
            found[name] = inner
    return found


def united(common: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Put the common part and what a run holds besides it together again.

    Raises:
        UsageError: a value is in both.
    """
    found = {name: united(value, {}, where) if isinstance(value, Mapping) else value for name, value in common.items()}
    for name, value in own.items():
        if name in common and not (isinstance(common[name], Mapping) and isinstance(value, Mapping)):
            raise UsageError(f"{where}: {name!r} is in the header's common part too")
        found[name] = united(common[name], value, where) if name in common else value
    return found


def in_order(run: Mapping[str, Any], at: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a mapping with its keys in the order of the schema; those that it does not name follow, as they come."""
    known = [name for name in ORDERS.get(at, ()) if name in run]
    names = [*known, *(name for name in run if name not in known)]
    return {name: in_order(value, (*at, name)) if isinstance(value := run[name], Mapping) else value for name in names}


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not JSON: {type(error).__name__}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except KeyError as error:
        raise UsageError(f"{where} gives {error} twice in one mapping; keep one of the two") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {type(error).__name__}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a mapping; a name that comes twice is a KeyError, where JSON's reader would drop the first value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(next(name for name in found if names.count(name) > 1)[:LONGEST_NAME])
    return found


def check_values(content: Any, where: str) -> None:
    """Refuse values that no table, page or figure can show: texts that are none, and numbers of too many digits.

    Args:
        content: nested lists and mappings.
        where: the file, for the message.

    Raises:
        UsageError: one line that names the entry.
    """
    waiting = [(content, "it")]
    while waiting:
        value, name = waiting.pop()
        if isinstance(value, dict):
            waiting += [(key, f"a name in {name}") for key in value]
            waiting += [(each, repr(key)[:100]) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(each, name) for each in value]
        elif isinstance(value, int) and abs(value) >= LARGEST:
            raise UsageError(f"{where}: {name} is a whole number of more than 64 bits")
        elif isinstance(value, str) and (len(value) > LONGEST or UNSHOWN.search(value)):
            raise UsageError(f"{where}: {name} is {shown(value)}, which is too long or no text that can be shown")


def _header(content: Any, where: str) -> dict[str, Any]:
    if not (
        isinstance(content, dict) and isinstance(content.get("common"), dict) and {"format", "runs"} <= set(content)
    ):
        raise UsageError(f'{where} is no header of results: it must hold "format", "runs" and "common"')
    if content["format"] != FORMAT:
        raise UsageError(f"{where} is of format {content['format']!r}; this version of memsuite reads {FORMAT}")
    return content


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UsageError(f"{where} holds no run: it must be a mapping")
    return content


def _runs_in(content: Any) -> list[dict[str, Any]]:
    """Find the runs in nested lists and mappings; one that lacks its seed is found too, and refused later."""
    if (
        isinstance(content, dict)
        and "success" in content
        and ("seed" in content or {"task", "controller"} <= set(content))
    ):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [run for part in parts for run in _runs_in(part)]
