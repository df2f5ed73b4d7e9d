"""The run folder as a run takes it: named, refused if it holds another run, held for one process, with room enough."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import Namespace
from torch import nn

from memsuite.errors import UsageError
from memsuite.files import remove_leftovers, watched, write_atomically
from memsuite.runs.config import IDENTITY
from memsuite.runs.folder import CHECKPOINTS, HELD, LOG, METRICS, WEIGHTS, run_id
from memsuite.system import lock, locked_folder

PATIENCE = 0.5  # seconds: whoever only asks whether a folder is held takes its lock for less
SMALL = 1_000_000  # bytes for what a checkpoint holds besides weights and moments: episodes, generators, memory


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
    # The folder is locked, and the log too, for file systems that lock no folders. Both are let go when the process
    # ends, however.
    with locked_folder(folder, PATIENCE) as had, (folder / LOG).open("ab") as log:
        if not (had and lock(log, PATIENCE)):
            raise UsageError(f"another process is writing into {folder}; wait for its end or use another --out")
        remove_leftovers(folder)
        if not resuming:
            if not overwrite:
                refuse_held(folder)  # by a run that ended a moment ago
            for name in (*HELD, *WEIGHTS):
                (folder / name).unlink(missing_ok=True)
            log.truncate(0)
        with watched(folder):
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
