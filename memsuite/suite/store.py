"""The state of a run, read from its folder. A suite keeps no other state, so it can be killed and restarted any time.

In addition to the files of ``memsuite fit``, a run folder of a suite holds ``asked.json`` (the settings it was started
with), ``output.txt`` (the output of its process), ``.lock``, and after a failure ``failed.txt`` with the line that
explains it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memsuite.errors import UsageError
from memsuite.files import check_there, spelt, write_atomically, write_json
from memsuite.reading import read_mapping
from memsuite.runs.folder import ASKED, CONFIG, LOG, METRICS, RESULT, WEIGHTS
from memsuite.suite.content import flatten
from memsuite.suite.grid import Run
from memsuite.system import is_locked, lock

Kind = Literal["new", "unfinished", "failed", "finished", "other"]
FAILED, OUTPUT, LOCK = "failed.txt", "output.txt", ".lock"
OF_A_RUN = (RESULT, *WEIGHTS, METRICS, LOG, CONFIG)
TAIL = 4096  # bytes at the end of a file, enough to hold its last line


@dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        kind: new, unfinished, failed, finished, or other (the folder holds a run with other settings).
        line: the reason of the failure, or the setting that differs.
        result: the content of ``result.json``.
    """

    kind: Kind
    line: str = ""
    result: dict[str, Any] | None = None


def look(run: Run) -> State:
    """Read the state of a run from its folder."""
    folder = run.folder
    if not any((folder / name).exists() for name in (*OF_A_RUN, FAILED)):
        return State("new")
    if difference := _difference(run):
        return State("other", difference)
    if (result := _read_json(folder / RESULT)) is not None:
        return State("finished", result=result)
    if line := failure(folder):
        return State("failed", line)
    return State("unfinished")


def failure(folder: Path) -> str:
    """Return the line that explains why the last attempt failed; empty if it did not."""
    try:
        return (folder / FAILED).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _difference(run: Run) -> str:
    """Return a message about the first setting of the folder that differs from the asked one; empty if none differs.

    A folder that ``memsuite fit`` made on its own names all settings, given and default ones. There only the settings
    that the suite asks for can be compared.
    """
    asked = _read_json(run.folder / ASKED)
    if asked is None and not (run.folder / CONFIG).exists():
        return f"{run.folder} holds files of a run, but no config.yaml with its settings"
    held = _own_config(run.folder) if asked is None else {**asked, **_gone_on(run.folder)}
    keys = run.asked.keys() | (held.keys() if asked is not None else set())
    for key in sorted(keys):
        before, now = held.get(key), run.asked.get(key)
        if before != now and not _same_number(before, now):
            return f"{run.folder} was made with {key} {_named(before)}, but the suite asks for {_named(now)}"
    return ""


def _same_number(before: Any, now: Any) -> bool:
    """Tell whether two values are one number in two spellings: YAML 1.1 takes ``8e4`` for a text."""
    try:
        return not isinstance(before, bool) and not isinstance(now, bool) and float(before) == float(now)
    except (TypeError, ValueError):
        return False


def _gone_on(folder: Path) -> dict[str, Any]:
    """Return the steps of a run that was extended by hand, as no suite asks for them; empty for any other run."""
    result = _read_json(folder / RESULT) or {}
    config = result.get("config")
    extended = " && " in str(result.get("command"))
    return {"steps": f"{config.get('steps')}, extended"} if extended and isinstance(config, dict) else {}


def _named(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)


def _own_config(folder: Path) -> dict[str, Any]:
    try:
        config = flatten(read_mapping(folder / CONFIG, "configuration", "task: delayed_cue"))
    except UsageError:
        return {}
    plain: dict[str, Any] = spelt(json.loads(json.dumps(config, default=str)))
    return plain


def prepare(run: Run) -> None:
    """Prepare the folder for an attempt; what it holds of a run with other settings stays until that is replaced."""
    (run.folder / FAILED).unlink(missing_ok=True)
    if look(run).kind != "other":
        name(run)


def name(run: Run) -> None:
    """Write the settings of the suite to ``asked.json``."""
    if _read_json(run.folder / ASKED) != run.asked:
        write_json(run.folder / ASKED, run.asked)


def record_failure(folder: Path, line: str = "") -> None:
    """Write the line that explains a failure to ``failed.txt``: this one, or the last that the process printed."""
    check_there(folder)
    write_atomically(folder / FAILED, lambda file: file.write(f"{line or last_line(folder / OUTPUT)}\n".encode()))


def unwritable(folder: Path) -> str:
    """Return one line on why a folder takes no files, as on a full disk; empty if it takes them."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TAIL))
    except OSError as error:
        return f"cannot write into {folder}: {error.strerror}"
    return ""


def last_line(path: Path) -> str:
    """Return the last non-empty line of a text file."""
    lines = [line.strip() for line in _tail(path).splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a message"


def env_steps(folder: Path) -> int:
    """Return the number of environment steps of a run, from the last complete row of its metrics."""
    path = folder / METRICS
    rows = list(csv.reader(io.StringIO(_tail(path).rpartition("\n")[0])))
    number = rows[-1][0] if rows and rows[-1] else ""
    return int(number) if number.isdigit() else 0


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the folder's lock until the block or the process ends; yield whether the lock was taken.

    Args:
        folder: the run folder; created if it does not exist.
        patience: seconds to keep trying, because a process that was just killed may take a moment to end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        yield lock(file, patience)


def is_held(folder: Path) -> bool:
    """Return whether a process works on the folder now: the process of a suite, or a separate ``memsuite fit``."""
    return any(is_locked(place) for place in (folder / LOCK, folder / LOG, folder))
