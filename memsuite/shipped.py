"""What comes with memsuite and is found from anywhere: its configurations, suites, results, and its version.

In a clone and in an editable install they are the folders ``configs`` and ``results`` beside the package; an installed
package carries copies of them in ``memsuite/_shipped``.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from memsuite.errors import UsageError, nearest

DISTRIBUTION = "memsuite-rl"  # the name to install; the package and the command are called memsuite
PACKAGE = Path(__file__).resolve().parent
# Of every kind: the folder, the part of it that is searched, and the pattern of its files.
KINDS = {
    "configuration": ("configs", ".", "**/*.yaml"),
    "suite": ("configs", "suites", "*.yaml"),
    "results": ("results", ".", "*.jsonl"),
}


def extra(name: str) -> str:
    """Return the command that installs an optional part: ``pip install 'memsuite-rl[report]'``."""
    return f"pip install '{DISTRIBUTION}[{name}]'"


def version() -> str:
    """Return the version of the installed distribution; of a clone that is not installed, the one it would have."""
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        project = PACKAGE.parent / "pyproject.toml"
        text = project.read_text(encoding="utf-8") if project.is_file() else ""
        found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
        return found[1] if found else "unknown"


def folder(name: str) -> Path:
    """Return the folder ``configs`` or ``results``; it does not exist where neither was carried along."""
    carried = PACKAGE / "_shipped" / name
    return carried if carried.is_dir() else PACKAGE.parent / name


@functools.cache
def names(kind: str) -> dict[str, Path]:
    """Return the files of a kind (:data:`KINDS`) by their short names, in order."""
    top, part, pattern = KINDS[kind]
    files = sorted((folder(top) / part).glob(pattern))
    if kind == "configuration":  # a suite is no configuration of a run
        files = [path for path in files if path.parent.name != "suites"]
    return {path.stem: path for path in files}


def find(kind: str, given: str | Path) -> Path:
    """Return the file that is meant by a path, which wins, or by the name of a file that comes with memsuite.

    A name may have its suffix and the folders above it: ``golden``, ``golden.yaml`` and ``configs/golden.yaml``.

    Args:
        kind: one of :data:`KINDS`.
        given: what the user wrote.

    Raises:
        UsageError: there is no such file, and what was given looks like a name.
    """
    path = Path(given)
    if path.is_file() or (kind == "results" and path.is_dir()):
        return path
    if (found := names(kind).get(path.stem)) and str(path) in _spellings(kind, found):
        return found
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path  # whoever reads it says what is wrong with it
    near = nearest(str(given), names(kind))
    question = "they are" if near == list(names(kind)) else "did you mean"
    raise UsageError(
        f"no {kind} at {given}, and none of that name comes with memsuite; {question}: {', '.join(near) or '(none)'}"
    )


def _spellings(kind: str, path: Path) -> set[str]:
    """Return the ways to write a file that comes with memsuite, with fewer and more of its folders."""
    top = KINDS[kind][0]
    parts = (top, *path.relative_to(folder(top)).parts)
    tails = [Path(*parts[start:]) for start in range(len(parts))]
    return {str(spelt) for tail in tails for spelt in (tail, tail.with_suffix(""))}
