"""The run folder as the command line treats it: named, refused if it holds another run, logged to, summed up."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.table import Table
from torch import nn

from memsuite.blame import in_one_line, users_line
from memsuite.cli.plain import console as plain_console
from memsuite.cli.plain import flat
from memsuite.cli.processes import PARENT
from memsuite.distributed import what_was_lost
from memsuite.errors import Stopped, UsageError
from memsuite.files import remove_leftovers, write_atomically
from memsuite.module import MemoryPPO
from memsuite.runs.config import IDENTITY
from memsuite.runs.folder import CHECKPOINTS, HELD, LOG, METRICS, WEIGHTS, run_id
from memsuite.system import lock

log = logging.getLogger("memsuite")
PATIENCE = 0.5  # seconds: whoever only asks whether a folder is held takes its lock for less
SMALL = 1_000_000  # bytes for what a checkpoint holds besides weights and moments: episodes, generators, memory
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
UNUSED = "some parameters of the model take no part in its loss; several processes then need"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def default_folder(config: Namespace) -> str:
    """Name the run folder after what is run: ``runs/delayed_cue-medium/gru/seed0``."""
    return f"runs/{run_id({name: config[name] for name in IDENTITY})}"


@contextmanager
def own_folder(folder: Path, resuming: bool, overwrite: bool) -> Iterator[None]:
    """Hold the run folder for this process alone; refuse one that holds another run or cannot be written.

    Nothing is computed before, and what another process writes there is not touched.
    """
    if not (resuming or overwrite):
        refuse_held(folder)
    try:
        _try_writing(folder)
    except OSError as error:
        raise UsageError(f"cannot write the run folder {folder}: {error.strerror}") from error
    # The log is there as long as the run is, so it serves as the lock; it is let go when the process ends, however.
    with (folder / LOG).open("ab") as log:
        if not lock(log, PATIENCE):
            raise UsageError(f"another process is writing into {folder}; wait for its end or use another --out")
        remove_leftovers(folder)
        if not resuming:
            if not overwrite:
                refuse_held(folder)  # by a run that ended a moment ago
            for name in (*HELD, *WEIGHTS):
                (folder / name).unlink(missing_ok=True)
            log.truncate(0)
        yield


def refuse_held(folder: Path) -> None:
    """Raise a usage error if the folder holds a run."""
    if held := [name for name in HELD if (folder / name).exists()]:
        raise UsageError(
            f"{folder} already holds a run ({held[0]}); add --ckpt_path last to go on with it, --overwrite to replace "
            "it, or another --out"
        )


def _try_writing(folder: Path) -> None:
    """Write a file where the run will, and open those it will go on with; a folder made for it is taken away again."""
    missing = [part for part in (folder / CHECKPOINTS, folder, *folder.parents) if not part.exists()]
    try:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        for name in (METRICS, LOG):
            if (folder / name).exists():
                (folder / name).open("ab").close()
        for part in (folder, folder / CHECKPOINTS):
            write_atomically(part / ".writable", lambda file: file.write(bytes(4096)))
            (part / ".writable").unlink(missing_ok=True)
    except OSError:
        for part in missing:
            with contextlib.suppress(OSError):
                part.rmdir()
        raise


def check_space(folder: Path, model: nn.Module) -> None:
    """Refuse a disk without room for three checkpoints: the one being written, the last and the one before it."""
    needed = 3 * (3 * sum(p.numel() * p.element_size() for p in model.parameters()) + SMALL)
    free = shutil.disk_usage(next(part for part in (folder, *folder.absolute().parents) if part.exists())).free
    if free < needed:
        raise UsageError(
            f"{folder} has {free / 1e6:.0f} MB of free space, the checkpoints need {needed / 1e6:.0f} MB: make room, "
            "or use another --out"
        )


@contextmanager
def told_in_one_line(folder: Path, model: MemoryPPO) -> Iterator[None]:
    """Say how to go on when the run ends before its time: by a signal, a full disk, too little memory, a lost process.

    Raises:
        Stopped: with that line.
        UsageError: Lightning cannot do what was asked of it.
    """
    try:
        with _traceback_to_log():
            yield
    except Stopped as end:
        raise Stopped(f"{end}; {how_to_go_on(folder)}", end.status, end.together) from end
    except MisconfigurationException as error:  # what Lightning finds out no sooner
        raise UsageError(f"trainer: {flat(str(error))}") from error
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise Stopped(f"cannot write into {folder}: {error.strerror}; {how_to_go_on(folder)}") from error
    except (MemoryError, RuntimeError) as error:
        if "parameters that were not used" in str(error):  # Lightning's words for what DDP says at more length
            raise UsageError(f"{UNUSED} --trainer.strategy ddp_find_unused_parameters_true") from error
        if text := what_was_lost(error):
            raise Stopped(f"{text}; {how_to_go_on(folder)}", together=PARENT in os.environ) from error
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error))):
            if users_line(error):
                raise Stopped(_in_users_code(error, folder)) from error
            raise
        raise Stopped(f"out of memory: {lower(model)}; {how_to_go_on(folder)}") from error
    except Exception as error:
        if not users_line(error):
            raise
        raise Stopped(_in_users_code(error, folder)) from error


@contextmanager
def _traceback_to_log() -> Iterator[None]:
    """Write what a user's own code raised into ``log.txt`` whole; the terminal is told in one line."""
    try:
        yield
    except Exception as error:
        if own := next((one for one in (error, error.__cause__) if one and users_line(one)), None):
            log.debug("".join(traceback.format_exception(own)))
        raise


def _in_users_code(error: Exception, folder: Path) -> str:
    return f"{in_one_line(error)}; the whole traceback is in {folder / LOG}; {how_to_go_on(folder)}"


def lower(model: MemoryPPO) -> str:
    """Say which settings to change for a run that needs less memory."""
    ppo = model.ppo
    window = f"set ppo.bptt_steps (below {ppo.bptt_steps or model.course.rollout_length})"
    return f"raise ppo.minibatches ({ppo.minibatches}), {window}, or start a run with fewer num_envs ({model.num_envs})"


def how_to_go_on(folder: Path) -> str:
    """Return the command that goes on with a run."""
    command = shlex.join(["memsuite", "fit", "--ckpt_path", "last", "--out", str(folder)])
    kept = (folder / WEIGHTS[0]).exists()
    return f"go on with: {command}" if kept else f"no checkpoint was written yet; start again with: {command}"


class QuietFileHandler(logging.FileHandler):
    """A log that a full disk cuts short, and that says nothing of it: the run itself will."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""


@contextmanager
def log_to(folder: Path) -> Iterator[logging.Logger]:
    """Send memsuite's messages to standard error, and with their times to ``log.txt`` in the run folder."""
    logger = logging.getLogger("memsuite")
    logger.setLevel(logging.DEBUG)
    console, file = logging.StreamHandler(sys.stderr), QuietFileHandler(folder / LOG)
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


def wandb_logger(folder: Path, config: Namespace, resuming: bool) -> Any:
    """Return the W&B logger for this run; a run that goes on goes on under its id there.

    Args:
        folder: the run folder.
        config: the settings.
        resuming: the run of that folder is gone on with.
    """
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    name = f"{config.task}-{config.difficulty}/{config.controller}/seed{config.seed}"
    before = sorted((folder / "wandb").glob("*run-*-*")) if resuming else []
    number = before[-1].name.rpartition("-")[2] if before else None
    again: dict[str, Any] = {"id": number, "resume": "allow"} if number else {}
    offline = config.wandb_mode == "offline"
    return WandbLogger(project="memsuite", name=name, save_dir=str(folder), offline=offline, **again)


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
    processes = f", {result['world_size']} processes" if result["world_size"] > 1 else ""
    trained = f"{result['env_steps']:,} environment steps, {result['steps_per_second']:,.0f} steps/s{processes}"
    table.add_row("trained", trained)
    table.add_row("run folder", str(folder))
    return table


def _add_success(table: Table, result: dict[str, Any]) -> None:
    interval = f"95% interval {result['success_low']:.3f} to {result['success_high']:.3f}"
    reached = "reached" if result["reached_target"] else "not reached"
    table.add_row("greedy success", f"{result['success']:.3f}  ({interval}, {result['episodes_evaluated']} episodes)")
    if result["chance"] is not None:
        table.add_row("chance", f"{result['chance']:.3f}  (best without memory)")
    table.add_row("target", f"{result['target_success']:.2f}  {reached}")


def as_text(table: Table) -> str:
    """Return a table as plain text."""
    console = plain_console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return "\n" + capture.get()
