"""Loggers besides ``metrics.csv``: a run that goes on goes on where it has logged before, and no row comes twice."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.runs.collection import read_json
from memsuite.runs.folder import LOGGERS, METRICS

NUMBERED = {"tensorboard": TensorBoardLogger, "csv": CSVLogger}  # those that make a folder of a new number each start


def go_on_logging(loggers: Sequence[Any], folder: Path, resuming: bool, env_steps: int) -> None:
    """Have Lightning's loggers write where this run has written before, and leave out the rows that come once more.

    A logger with a method ``rewind(env_steps)`` is asked to drop the rows after that step, and is given them again. One
    without is not given again what ``metrics.csv`` shows as logged.

    Args:
        loggers: of the Trainer; the first is that of ``metrics.csv``.
        folder: the run folder, in which it is remembered where they write.
        resuming: the run of that folder is gone on with.
        env_steps: those of the checkpoint; later rows are logged again.
    """
    logged = _logged(folder / METRICS) if resuming else set()
    before = _remembered(folder / LOGGERS) if resuming else {}
    now: dict[str, list[int | str]] = {}
    for name, cls in NUMBERED.items():
        ours = [logger for logger in loggers if isinstance(logger, cls)]
        for logger, version in zip(ours, before.get(name, []), strict=False):
            if logger._version is None:
                logger._version = version
        for logger in ours if resuming else ():
            _rewind(logger, env_steps)
        if ours:
            now[name] = [logger.version for logger in ours]
    for logger in loggers if logged else ():
        if not isinstance(logger, (*NUMBERED.values(),)) and not hasattr(logger, "rewind"):
            logger.log_metrics = _only_new(logger.log_metrics, logged)
    if now:
        write_json(folder / LOGGERS, now)
    else:
        (folder / LOGGERS).unlink(missing_ok=True)


def _rewind(logger: Any, env_steps: int) -> None:
    """Leave out what a logger of Lightning's has of the steps after the checkpoint, and keep what it has before."""
    if isinstance(logger, TensorBoardLogger):
        logger._kwargs["purge_step"] = env_steps + 1
        return
    file = Path(logger.log_dir) / METRICS
    rows = [row for row in _rows(file) if int(row.get("step") or 0) <= env_steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it deletes the file
        written = logger.experiment
    written.metrics = [*rows]
    written.save()


def _only_new(log: Callable[..., Any], logged: set[tuple[int, bool]]) -> Callable[..., Any]:
    """Return a logger's method that leaves out the rows of memsuite's that were logged before.

    Args:
        log: the method.
        logged: the steps of those rows, and whether they are of an evaluation.
    """

    def log_metrics(metrics: dict[str, Any], step: int | None = None, **more: Any) -> None:
        if "iteration" not in metrics or (step, _is_of_evaluation(metrics)) not in logged:
            log(metrics, step, **more)

    return log_metrics


def _logged(path: Path) -> set[tuple[int, bool]]:
    return {(int(row["env_steps"]), _is_of_evaluation(row)) for row in _rows(path) if row.get("env_steps")}


def _is_of_evaluation(row: dict[str, Any]) -> bool:
    return any(name.startswith("evaluation_") and value != "" for name, value in row.items())


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of numbered steps; those that were cut short are left out."""
    if not path.is_file():
        return []
    with path.open(newline="", errors="replace") as file:
        rows = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    steps = ("env_steps", "step")
    return [row for row in rows if all(row[name].isdigit() for name in steps if row.get(name))]


def _remembered(path: Path) -> dict[str, list[int | str]]:
    try:
        content = read_json(path) if path.is_file() else {}
    except UsageError:
        return {}
    found = {name: content.get(name) for name in NUMBERED} if isinstance(content, dict) else {}
    return {name: _versions(value) for name, value in found.items() if isinstance(value, list)}


def _versions(value: list[Any]) -> list[int | str]:
    return [version for version in value if isinstance(version, int | str) and not isinstance(version, bool)]
