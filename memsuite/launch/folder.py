"""The run folder as a run takes it: named, refused if it holds another run, held for one process, with room enough."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from torch import nn

from memsuite.errors import UsageError
from memsuite.files import remove_leftovers, watched, write_atomically, write_json
from memsuite.launch.sources import Sources, keep_sources, sources_of
from memsuite.runs.asked import asked
from memsuite.runs.config import IDENTITY, RunConfig
from memsuite.runs.folder import (
    ASKED,
    CHECKPOINTS,
    HARMFUL,
    HELD,
    LOG,
    LOGGERS,
    METRICS,
    RESULT,
    RETENTION,
    SOURCE,
    WEIGHTS,
    mark,
    run_id,
)
from memsuite.runs.trust import ONE_START
from memsuite.system import lock, locked_folder

PATIENCE = 0.5  # seconds: whoever only asks whether a folder is held takes its lock for less
LONGEST = 60  # letters of what a run's name says of its settings
# What belongs to one start of a run, or to where it runs and who is told.
NOT_OF_A_NAME = (*ONE_START, "device", "wandb_mode", "checkpoint_every", "trainer.logger", "trainer.devices")
SMALL = 1_000_000  # bytes for what a checkpoint holds besides weights and moments: episodes, generators, memory


def run_name(config: Namespace, usual: Namespace) -> str:
    """Name a run after what tells it from others: ``delayed_cue-medium/gru-learning_rate0.002/seed0``.

    Two runs have one name only if no setting differs that may change what they compute. Where the settings that are
    not the usual ones make a long name, its end is a short hash of them.

    Args:
        config: the settings.
        usual: every setting's default.
    """
    own, defaults = flat_settings(config), flat_settings(usual)
    other = {key: value for key, value in own.items() if value != defaults.get(key)}
    marks = "".join(f"-{mark(key, value)}" for key, value in other.items())
    leaves = {key.rpartition(".")[2] for key in other}
    if len(marks) > LONGEST or HARMFUL.search(marks) or len(leaves) < len(other):
        digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:8]
        marks = f"{HARMFUL.sub('_', marks)[:LONGEST].rstrip('-_.')}-{digest}"
    return run_id({name: config[name] for name in IDENTITY}, marks)


def flat_settings(config: Namespace) -> dict[str, Any]:
    """Return the settings that may change what a run computes, with dots, as plain values."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict) and "class_path" not in value:
            for key, each in value.items():
                add(f"{name}.{key}" if name else str(key), each)
        elif value is not None and not name.startswith(NOT_OF_A_NAME) and name not in IDENTITY:
            found[name] = json.loads(json.dumps(value, default=str))

    add("", config.as_dict())
    return found


@contextmanager
def own_folder(folder: Path, resuming: bool, overwrite: bool) -> Iterator[int]:
    """Hold the run folder for this process alone; refuse one that holds another run or cannot be written.

    Nothing is computed before, and what another process writes there is not touched. Yields how many bytes of the log
    were there.
    """
    try:
        os.fsencode(folder).decode()  # in whatever way this process reads names
    except UnicodeDecodeError as error:
        raise UsageError(f"the name {str(folder)!a} is no text, which tables need; use another --out") from error
    if not (resuming or overwrite):
        refuse_held(folder)
    try:
        _try_writing(folder)
    except OSError as error:
        raise UsageError(f"cannot write the run folder {folder}: {error.strerror}") from error
    # The folder is locked, and the log too, for file systems that lock no folders. Both are let go when the process
    # ends, however.
    with locked_folder(folder, PATIENCE) as had, (folder / LOG).open("ab") as log:
        if not (had and lock(log, PATIENCE)):
            raise UsageError(f"another process is writing into {folder}; wait for its end or use another --out")
        remove_leftovers(folder)
        if not (resuming or overwrite):
            refuse_held(folder)  # by a run that ended a moment ago
        with watched(folder):
            yield log.tell()


def begin_folder(folder: Path, config: RunConfig, trainer: pl.Trainer, replaced_log: int | None) -> None:
    """Copy the user's files into the run folder: now, or if it holds a run that is replaced, once that is deleted.

    Args:
        folder: the run folder.
        config: the settings of the new run.
        trainer: gets a callback that deletes the old run.
        replaced_log: bytes of the old run's log; None if no run is replaced.
    """
    sources = sources_of(config)  # read now: they may be those of the run that is deleted
    if replaced_log is not None and held(folder):
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [each for each in callbacks if not isinstance(each, Replacement)]
        callbacks[:] = [Deleting(folder, sources, replaced_log), *others]
    else:
        keep_sources(folder, sources)


class Replacement(pl.Callback):
    """Belongs to a run that replaces the one in its folder; knows whether that is still as it was.

    Attributes:
        begun: it is not.
    """

    begun = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember that training begins."""
        self.begun = True


def replacement(folder: Path, asked_for: bool) -> list[pl.Callback]:
    """Return the callback of a run that replaces the one in its folder, if it is asked to and there is one."""
    return [Replacement()] if asked_for and held(folder) else []


class Deleting(Replacement):
    """Deletes the run that the folder holds once the new one has passed its trial, when nothing is left but to train.

    Args:
        folder: the run folder.
        sources: of the new run, from :func:`~memsuite.launch.sources.sources_of`.
        logged: bytes of the old run's log, which the new one has gone on with so far.
    """

    def __init__(self, folder: Path, sources: Sources, logged: int) -> None:
        self.folder, self.sources, self.logged = folder, sources, logged
        self.asked = asked()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Delete and begin.

        A process may be killed in between: a folder without its result does not count as finished, one without
        checkpoints is begun anew, and from then on it is named after the new run.
        """
        super().on_train_start(trainer, pl_module)
        self._delete(RESULT, *WEIGHTS)
        if self.asked is None:
            self._delete(ASKED)
        else:
            write_json(self.folder / ASKED, self.asked)
        self._delete(*HELD, LOGGERS)
        for measured in self.folder.glob(f"{Path(RETENTION).stem}*.json"):  # of the network that is replaced
            if "checkpoint" in measured.read_text(errors="replace"):
                measured.unlink()
        shutil.rmtree(self.folder / SOURCE, ignore_errors=True)
        log = self.folder / LOG
        log.write_bytes(log.read_bytes()[self.logged :])
        keep_sources(self.folder, self.sources)

    def _delete(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def held(folder: Path) -> list[str]:
    """Return what the folder holds of a run, or of what a run would replace."""
    return [name for name in (*HELD, *WEIGHTS, SOURCE) if (folder / name).exists()]


def refuse_held(folder: Path) -> None:
    """Raise a usage error if the folder holds a run, or something that a run would replace."""
    if there := held(folder):
        raise UsageError(
            f"{folder} already holds a run ({there[0]}); add --ckpt_path last to go on with it, --overwrite to replace "
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
