"""What a submission holds: finished runs with their settings, versions, sizes and curves, and the user's own code.

It is JSON: ``{"format": 1, "name": .., "by": .., "runs": [..], "source": {"mine.py": ".."}, "digest": ".."}``. A run is
a record as :class:`~memsuite.runs.RunResult` describes it, with its learning curve. ``source`` holds the user's
files that the runs were made with. ``digest`` is over everything else, so that a file that was cut or changed is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memsuite.analysis.curves import with_curve
from memsuite.analysis.results import runs_at
from memsuite.errors import UsageError
from memsuite.runs.collection import in_order
from memsuite.runs.folder import HARMFUL, SOURCE

FORMAT = 1
LARGEST_SOURCE = 1_000_000  # letters of the user's files together


def make_submission(paths: Sequence[str | Path], name: str, by: str) -> dict[str, Any]:
    """Return the content of a submission.

    Args:
        paths: run folders, folders of runs such as a suite's, or files of results.
        name: what the leaderboard calls it; also the name of the file.
        by: who sends it.

    Raises:
        UsageError: there is no finished run, the name cannot be a file's, or two runs have different files of one name.
    """
    if not name or HARMFUL.search(name) or name.startswith("."):
        raise UsageError(f"--name {name!r} cannot be a file's name; use letters, digits, '_', '.' and '-'")
    found = runs_at(*paths)
    source: dict[str, str] = {}
    for where, _ in found:
        for file, text in sources_of(Path(where) / SOURCE).items():
            if source.setdefault(file, text) != text:
                raise UsageError(f"{where} was made with another {file} than the runs before it; submit them apart")
    if sum(map(len, source.values())) > LARGEST_SOURCE:
        raise UsageError(f"the files in {SOURCE}/ of the runs are longer than {LARGEST_SOURCE:,} letters together")
    runs = [in_order(with_curve(where, run)) for where, run in found]
    content = {"format": FORMAT, "name": name, "by": by, "runs": runs, "source": source}
    return {**content, "digest": digest_of(content)}


def sources_of(folder: Path) -> dict[str, str]:
    """Return the user's files that were kept with a run, by their paths."""
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else []
    return {file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files}


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 over everything in a submission but its digest, however the file is laid out."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
