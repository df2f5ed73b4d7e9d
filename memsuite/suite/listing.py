"""The suites that come with memsuite: their names, their numbers of runs, and what the first comment says of each."""

from __future__ import annotations

import re
from pathlib import Path

from memsuite.shipped import names
from memsuite.suite.grid import read_suite

LONGEST = 90  # letters of a description


def listing() -> list[tuple[str, int, str]]:
    """Return the name, the number of runs and a description of every suite that comes with memsuite."""
    return [(name, len(read_suite(path).runs), description(path)) for name, path in names("suite").items()]


def description(path: Path) -> str:
    """Return the first sentence of the comment at the top of a file, in one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    text = " ".join(line.removeprefix("#").strip() for line in lines[:first])
    sentence = re.split(r"(?<=[.:]) ", text)[0].rstrip(".:")
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST].rsplit(' ', 1)[0]} .."
