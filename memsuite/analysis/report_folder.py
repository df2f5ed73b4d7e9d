"""The folder of a report: refused if it holds what a report would replace, and replaced as a whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError

PARTS = ("figures", "index.html", "results.csv", "results.parquet")


def refuse_held(folder: Path) -> None:
    """Raise a usage error if the folder holds a report, or something that a report would replace."""
    if held := [name for name in PARTS if (folder / name).exists()]:
        raise UsageError(
            f"{folder} already holds a report ({held[0]}); add --overwrite to replace it, or another --out"
        )


def replace_report(folder: Path, write: Callable[[Path], Any]) -> None:
    """Put a new report in the place of an earlier one, once all of it is written; else the earlier one stays.

    Args:
        folder: of the report; made if it is not there. What else lies in it is left alone.
        write: writes a report into the folder that it is given.
    """
    there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=".report-"))
    try:
        write(beside)
        shutil.rmtree(folder / "figures", ignore_errors=True)
        for name in PARTS:
            (beside / name).replace(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if not there and not any(folder.iterdir()):
            folder.rmdir()
