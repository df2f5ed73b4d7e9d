"""Loggers of Lightning's that make a folder a start: a run that goes on goes on in the folder it began in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.runs.collection import read_json
from memsuite.runs.folder import LOGGERS


def go_on_logging(loggers: Sequence[Any], folder: Path, resuming: bool, env_steps: int) -> None:
    """Have TensorBoard's loggers write where this run has written before, and hide the rows that come once more.

    Args:
        loggers: of the Trainer.
        folder: the run folder, in which it is remembered where they write.
        resuming: the run of that folder is gone on with.
        env_steps: those of the checkpoint; later rows are logged again.
    """
    ours = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    before = _remembered(folder / LOGGERS) if resuming else []
    for logger, version in zip(ours, before, strict=False):
        if logger._version is None:
            logger._version = version
        logger._kwargs["purge_step"] = env_steps + 1
    if ours:
        write_json(folder / LOGGERS, {"tensorboard": [logger.version for logger in ours]})
    else:
        (folder / LOGGERS).unlink(missing_ok=True)


def _remembered(path: Path) -> list[int | str]:
    try:
        content = read_json(path) if path.is_file() else {}
    except UsageError:
        return []
    versions = content.get("tensorboard") if isinstance(content, dict) else None
    found = versions if isinstance(versions, list) else []
    return [version for version in found if isinstance(version, int | str) and not isinstance(version, bool)]
