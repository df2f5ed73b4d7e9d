"""What a run says: its log, its summary, and one line on how to go on where it ends before its time."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from rich.table import Table

from memsuite.blame import in_one_line, is_mistake, users_line
from memsuite.distributed import what_was_lost
from memsuite.errors import Stopped, UsageError
from memsuite.files import FULL, FolderGone, check_there
from memsuite.launch.folder import Replacement
from memsuite.launch.plain import console as plain_console
from memsuite.launch.plain import flat
from memsuite.launch.processes import PARENT
from memsuite.metrics import decimals
from memsuite.module import MemoryPPO
from memsuite.reading import counted
from memsuite.runs.folder import LOG, WEIGHTS

log = logging.getLogger("memsuite")
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
HOW_TO_FIND = "put it back, or go on where it is now with: memsuite fit --ckpt_path last --out FOLDER"
FEW = 32  # episodes: the interval of a mean return is wide
LIMITED = {"validate": "val", "test": "test"}  # how the trainer names the batches of a verb
UNUSED = "some parameters of the model take no part in its loss; several processes then need"


@contextmanager
def told_in_one_line(folder: Path, model: MemoryPPO, advice: Callable[[], str]) -> Iterator[None]:
    """Say how to go on when the run ends before its time: by a signal, a full disk, too little memory, a lost process.

    Args:
        folder: the run folder.
        model: of the run.
        advice: says how to go on.

    Raises:
        Stopped: with that line.
        UsageError: Lightning cannot do what was asked of it.
    """
    try:
        with _traceback_to_log(folder):
            yield
    except Stopped as end:
        raise Stopped(f"{end}; {advice()}", end.status, end.together) from end
    except MisconfigurationException as error:  # what Lightning finds out no sooner
        raise UsageError(f"trainer: {flat(str(error))}") from error
    except OSError as error:
        if gone := _gone(folder, error):
            raise Stopped(f"{gone}; {HOW_TO_FIND}") from error
        if error.errno not in FULL and not _is_below(error, folder):
            raise
        raise Stopped(f"cannot write into {folder}: {error.strerror}; {advice()}") from error
    except (MemoryError, RuntimeError) as error:
        if "parameters that were not used" in str(error):  # Lightning's words for what DDP says at more length
            raise UsageError(f"{UNUSED} --trainer.strategy ddp_find_unused_parameters_true") from error
        if text := what_was_lost(error):
            raise Stopped(f"{text}; {advice()}", together=PARENT in os.environ) from error
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error))):
            if users_line(error):
                raise Stopped(_in_users_code(error, folder, advice)) from error
            raise
        raise Stopped(f"out of memory: {lower(model)}; {advice()}") from error
    except BaseException as error:
        if not (is_mistake(error) and users_line(error)):
            raise
        raise Stopped(_in_users_code(error, folder, advice)) from error


def _gone(folder: Path, error: OSError) -> str:
    """Say that the run folder is not there any more, if that has led to an error; otherwise nothing."""
    try:
        check_there(folder)
    except FolderGone as gone:
        return str(gone)
    return str(error) if isinstance(error, FolderGone) else ""


def _is_below(error: OSError, folder: Path) -> bool:
    """Tell whether an error is of a file in the run folder, and not in a user's code."""
    name = error.filename if isinstance(error.filename, str) else ""
    return bool(name) and folder.absolute() in Path(name).absolute().parents and not users_line(error)


@contextmanager
def _traceback_to_log(folder: Path) -> Iterator[None]:
    """Write what a user's own code raised into ``log.txt`` whole; the terminal is told in one line.

    A process after the first has no log of its own, and may be on a machine without the folder.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if own := next((one for one in (error, error.__cause__) if one and users_line(one)), None):
            whole = "".join(traceback.format_exception(own))
            log.debug(whole)
            if not log.isEnabledFor(logging.DEBUG):
                with suppress(OSError), (folder / LOG).open("a") as file:
                    file.write(whole)
        raise


def _in_users_code(error: BaseException, folder: Path, advice: Callable[[], str]) -> str:
    return f"{in_one_line(error)}; the whole traceback is in {folder / LOG}; {advice()}"


def lower(model: MemoryPPO) -> str:
    """Say which settings to change for a run that needs less memory."""
    ppo = model.ppo
    blocks = f"set ppo.recompute (below {ppo.recompute or model.course.rollout_length})"
    another = f"more ppo.minibatches ({ppo.minibatches}) or fewer num_envs ({model.num_envs})"
    return f"{blocks}, or start a run with {another}"


def how_to_go_on(trainer: pl.Trainer, folder: Path, modules: str | None) -> str:
    """Return the command that goes on with a run, with the folder of modules that it was started with."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(each, Replacement) and not each.begun for each in callbacks):
        return f"it has not begun, and the run in {folder} is as it was; start again with the same command"
    words = ["memsuite", "fit", "--ckpt_path", "last", "--out", str(folder)]
    command = shlex.join([*words, *(["--modules", modules] if modules else [])])
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


def evaluated(verb: str, values: Mapping[str, float]) -> str:
    """Return the line that ``memsuite test`` or ``validate`` prints.

    Raises:
        UsageError: nothing was evaluated.
    """
    if "success" not in values:
        raise UsageError(f"nothing was evaluated: trainer.limit_{LIMITED[verb]}_batches leaves none")
    name, value = ("return", values["return_mean"]) if math.isnan(values["success"]) else ("success", values["success"])
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    digits = decimals(value, low, high) if name == "return" else 3
    interval = interval_of(low, high, digits)
    return f"{verb}: greedy {name} {value:.{digits}f} ({interval}, {values['episodes']:.0f} episodes)"


def summary(result: dict[str, Any], folder: Path) -> Table:
    """Return the summary that ends a run."""
    table = Table(
        title=f"{result['task']} {result['difficulty']}, {result['controller']}, seed {result['seed']}",
        show_header=False,
    )
    table.add_column()
    table.add_column(overflow="fold")  # a path that is cut off leads nowhere
    if result["success"] is None:
        value, low, high = (result[f"return_{name}"] for name in ("mean", "low", "high"))
        digits = decimals(value, low, high)
        interval = interval_of(low, high, digits)
        table.add_row("greedy return", f"{value:.{digits}f}  ({interval}, {episodes_of(result)})")
    else:
        _add_success(table, result)
    processes = f", {result['world_size']} processes" if result["world_size"] > 1 else ""
    trained = f"{result['env_steps']:,} environment steps, {result['steps_per_second']:,.0f} steps/s{processes}"
    table.add_row("trained", trained)
    if result["evaluation_share"] is not None:
        few = result["success"] is None and result["episodes_evaluated"] < FEW
        more = "; --evaluation_episodes 100 asks for more" if few else ""
        table.add_row("evaluated", f"in {result['evaluation_share']:.0%} of the time that training took{more}")
    table.add_row("run folder", str(folder))
    return table


def interval_of(low: float | None, high: float | None, digits: int) -> str:
    """Say a 95% interval; of one episode alone it is unknown."""
    if low is None or high is None or math.isnan(low):
        return "95% interval unknown"
    return f"95% interval {low:.{digits}f} to {high:.{digits}f}"


def episodes_of(result: dict[str, Any]) -> str:
    """Say how many episodes a result was evaluated on."""
    return counted(result["episodes_evaluated"], "episode")


def _add_success(table: Table, result: dict[str, Any]) -> None:
    interval = interval_of(result["success_low"], result["success_high"], 3)
    reached = "reached" if result["reached_target"] else "not reached"
    table.add_row("greedy success", f"{result['success']:.3f}  ({interval}, {episodes_of(result)})")
    if result["chance"] is not None:
        table.add_row("chance", f"{result['chance']:.3f}  (best without memory)")
    table.add_row("target", f"{result['target_success']:.2f}  {reached}")


def as_text(table: Table) -> str:
    """Return a table as plain text."""
    console = plain_console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return "\n" + capture.get()
