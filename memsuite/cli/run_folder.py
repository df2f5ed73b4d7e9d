"""The run folder as the command line treats it: named, refused if it holds another run, logged to, summed up."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from memsuite.errors import UsageError


def default_folder(config: Namespace) -> str:
    """Name the run folder after what is run: ``runs/delayed_cue-medium/gru/seed0``."""
    task = f"{config.task}-{config.difficulty}" + (f"-H{config.horizon}" if config.horizon else "")
    return f"runs/{task}/{config.controller}/seed{config.seed}"


def check_folder(folder: Path, resuming: bool, overwrite: bool) -> None:
    """Refuse a folder that holds another run, and one that cannot be written, before anything is computed."""
    held = [name for name in ("result.json", "config.yaml", "metrics.csv") if (folder / name).exists()]
    if held and not (resuming or overwrite):
        raise UsageError(
            f"{folder} already holds a run ({held[0]}); add --ckpt_path last to go on with it, --overwrite to replace "
            "it, or another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"cannot write the run folder {folder}: {error.strerror}") from error
    if held and not resuming:
        for name in ("result.json", "config.yaml", "metrics.csv", "log.txt", "checkpoints/last.ckpt"):
            (folder / name).unlink(missing_ok=True)


@contextmanager
def log_to(folder: Path) -> Iterator[logging.Logger]:
    """Send memsuite's messages to standard error, and with their times to ``log.txt`` in the run folder."""
    logger = logging.getLogger("memsuite")
    logger.setLevel(logging.DEBUG)
    console, file = logging.StreamHandler(sys.stderr), logging.FileHandler(folder / "log.txt")
    console.setLevel(logging.INFO)
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handlers = (console, file)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def wandb_logger(folder: Path, config: Namespace) -> Any:
    """Return the W&B logger for this run."""
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    name = f"{config.task}-{config.difficulty}/{config.controller}/seed{config.seed}"
    return WandbLogger(project="memsuite", name=name, save_dir=str(folder), offline=config.wandb_mode == "offline")


def summary(result: dict[str, Any], folder: Path) -> Table:
    """Return the summary that ends a run."""
    table = Table(
        title=f"{result['task']} {result['difficulty']}, {result['controller']}, seed {result['seed']}",
        show_header=False,
    )
    if result["success"] is None:
        interval = f"95% interval {result['return_low']:.1f} to {result['return_high']:.1f}"
        table.add_row(
            "greedy return", f"{result['return_mean']:.1f}  ({interval}, {result['episodes_evaluated']} episodes)"
        )
    else:
        _add_success(table, result)
    table.add_row("trained", f"{result['env_steps']:,} environment steps, {result['steps_per_second']:,.0f} steps/s")
    table.add_row("run folder", str(folder))
    return table


def _add_success(table: Table, result: dict[str, Any]) -> None:
    interval = f"95% interval {result['success_low']:.3f} to {result['success_high']:.3f}"
    reached = "reached" if result["reached_target"] else "not reached"
    table.add_row("greedy success", f"{result['success']:.3f}  ({interval}, {result['episodes_evaluated']} episodes)")
    table.add_row("chance", f"{result['chance']:.3f}  (best without memory)")
    table.add_row("target", f"{result['target_success']:.2f}  {reached}")


def as_text(table: Table) -> str:
    """Return a table as plain text."""
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return "\n" + capture.get()
