"""Loggers besides ``metrics.csv``: a run that goes on goes on where it has logged before, and no row comes twice."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.runs.collection import read_json
from memsuite.runs.folder import LOGGERS, METRICS

MLFLOW = "mlflow"  # whose runs have ids
USUAL = "lightning_logs"  # Lightning's name where none is given
NUMBERED = {"tensorboard": TensorBoardLogger, "csv": CSVLogger}  # those that make a folder of a new number each start


def go_on_logging(trainer: pl.Trainer, folder: Path, resuming: bool, env_steps: int, settings: dict[str, Any]) -> None:
    """Have Lightning's loggers write where this run has written before, and leave out the rows that come once more.

    A logger with a method ``rewind(env_steps)`` is asked to drop the rows after that step, and is given them again. One
    without is not given again what ``metrics.csv`` shows as logged.

    Args:
        trainer: its first logger is that of ``metrics.csv``; it gets a callback that remembers where the others write.
        folder: the run folder, in which that is remembered.
        resuming: the run of that folder is gone on with.
        env_steps: those of the checkpoint; later rows are logged again.
        settings: of the run, which the loggers are told when it begins.
    """
    loggers: Sequence[Any] = trainer.loggers
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
    if runs := _go_on_in_mlflow(loggers, before.get(MLFLOW, [])):
        now[MLFLOW] = runs
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _begin_wandb(logger)
    for logger in loggers if logged else ():
        if not isinstance(logger, (*NUMBERED.values(),)) and not hasattr(logger, "rewind"):
            logger.log_metrics = _only_new(logger.log_metrics, logged)
    told = {} if resuming else settings
    trainer.callbacks.append(Remembering(folder / LOGGERS, now, told))  # type: ignore[attr-defined]


class Remembering(pl.Callback):
    """Writes where the loggers write, when training begins: until then the folder may hold the run that is replaced.

    Args:
        path: the file.
        now: the versions or ids of each kind of logger.
        settings: what the loggers besides ``metrics.csv`` are told of the run; empty if they know it.
    """

    def __init__(self, path: Path, now: dict[str, list[int | str]], settings: dict[str, Any]) -> None:
        self.path, self.now, self.settings = path, now, settings

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, or delete the one of the run before if no logger needs it."""
        if self.now and trainer.is_global_zero:
            write_json(self.path, self.now)
        elif trainer.is_global_zero:
            self.path.unlink(missing_ok=True)
        for logger in trainer.loggers[1:] if self.settings else ():
            logger.log_hyperparams(self.settings)
            if isinstance(logger, TensorBoardLogger):  # it has saved none when Lightning told it of none
                (Path(logger.log_dir) / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)
                logger.save()


def _go_on_in_mlflow(loggers: Sequence[Any], before: list[int | str]) -> list[int | str]:
    """Have MLflow's loggers go on in their runs of before; return the ids of their runs."""
    ours = [logger for logger in loggers if isinstance(logger, MLFlowLogger)]
    for logger, number in zip(ours, before, strict=False):
        logger._run_id = logger._run_id or str(number)
    return [str(logger.run_id) for logger in ours]


def _begin_wandb(logger: WandbLogger) -> None:
    """Begin a run in W&B before training does.

    Raises:
        UsageError: W&B cannot be reached, or nobody is logged in.
    """
    from wandb.errors import Error

    try:
        _ = logger.experiment
    except Error as error:
        text = " ".join(str(error).split()).partition(". ")[0]
        raise UsageError(f"W&B: {text}; run 'wandb login' first, or keep the log here: --wandb_mode offline") from error


def end_wandb(loggers: Sequence[Any], kind: type[BaseException] | None) -> None:
    """End the runs in W&B, as failed after an exception, so that the next run of this process has one of its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(kind is not None))


def in_run_folder(logger: Any, folder: Path) -> Any:
    """Return a logger as it is, but for one of TensorBoard's with a relative ``save_dir``: that is in the run folder.

    So ``tensorboard --logdir runs`` shows every run under its name. A name or a version of the user's stays.
    """
    if isinstance(logger, TensorBoardLogger) and not os.path.isabs(logger._root_dir):
        logger._root_dir = str(folder / logger._root_dir)
        if logger._name == USUAL and logger._version is None:
            logger._name = logger._version = ""
    return logger


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
    found = {name: content.get(name) for name in (*NUMBERED, MLFLOW)} if isinstance(content, dict) else {}
    return {name: _versions(value) for name, value in found.items() if isinstance(value, list)}


def _versions(value: list[Any]) -> list[int | str]:
    return [version for version in value if isinstance(version, int | str) and not isinstance(version, bool)]
