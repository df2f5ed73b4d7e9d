"""The checkpoints and metrics that Lightning writes, in a form that lets a run killed at any moment resume."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.loggers import Logger

from memsuite.distributed import rank
from memsuite.errors import UsageError
from memsuite.files import check_there, write_atomically
from memsuite.runs.checkpoints import whole
from memsuite.runs.contents import walk
from memsuite.runs.folder import LAST, METRICS, PREVIOUS
from memsuite.runs.kinds import Wrong

log = logging.getLogger("memsuite")
NO_WAY_ON = "a run cannot be gone on with from what it saves"


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Save a checkpoint; raise the OSError of a failed write, which PyTorch's archive writer replaces by its own."""
    told: list[OSError] = []

    class Telling:
        def write(self, data: Any) -> int:
            try:
                return file.write(data)
            except OSError as error:
                told.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(checkpoint, Telling())  # type: ignore[arg-type]
    except Exception as error:
        raise (told[0] if told else error) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically, and read without running any code that they contain."""

    _read_back = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; an existing ``last.ckpt`` becomes ``previous.ckpt``.

        Raises:
            OSError: the file could not be written; the existing files are unchanged.
            UsageError: the checkpoint could not be read again, and is not written; or the first one of the run cannot.
        """
        path = Path(path)
        if "memsuite" in checkpoint:
            try:
                walk(checkpoint, "the checkpoint")
            except Wrong as wrong:
                raise UsageError(f"{NO_WAY_ON}: {wrong}") from wrong
        keep = path.with_name(PREVIOUS) if path.name == LAST else None
        write_atomically(path, lambda file: _save(checkpoint, file), keep)
        if not self._read_back and "memsuite" in checkpoint:
            check_readable(path)
        self._read_back = True

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a complete checkpoint; only plain values and tensors are allowed, whatever ``weights_only`` says.

        Raises:
            UsageError: the file is not a complete memsuite checkpoint.
        """
        del weights_only
        return whole(Path(path), map_location or "cpu")


def check_readable(path: Path) -> None:
    """Read a checkpoint back; raise a usage error that says why it cannot be read."""
    try:
        whole(path)
    except UsageError as error:
        raise UsageError(f"{NO_WAY_ON}: {error}") from error


class MetricsCSV(Logger):
    """One ``metrics.csv`` in the run folder: one row per call, environment steps as the x axis.

    If there are several processes, only the first writes.

    Rows are appended as they come. A row with a new column rewrites the file once, with a wider header.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._path = Path(folder) / METRICS
        self._columns: list[str] = []
        self._fresh = True

    @property
    def name(self) -> str:
        """Empty: the run folder is the name."""
        return ""

    @property
    def version(self) -> str:
        """Empty: one folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._path.parent)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds the hyperparameters."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append one row; ``step`` is the current number of environment steps."""
        row = {"env_steps": step, **metrics}
        if rank() > 0:
            return
        check_there(self._path)
        if self._fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._fresh = False
        if missing := [column for column in row if column not in self._columns]:
            rows = self._rows()
            self._columns += missing
            self._rewrite([*rows, row])
            return
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def save(self) -> None:
        """Flush the rows to disk, before a checkpoint refers to them."""
        if rank() == 0 and self._path.exists():
            check_there(self._path)
            with self._path.open("a") as file:
                os.fsync(file.fileno())

    def rewind(self, env_steps: int) -> None:
        """Continue an existing file: keep the rows up to ``env_steps``, drop the later ones."""
        self._fresh = False
        rows = self._rows() if rank() == 0 else []
        if rows:
            self._columns = list(rows[0])
            whole = [row for row in rows if re.fullmatch(r"\d*", row.get("env_steps") or "") and None not in row]
            if len(whole) < len(rows):
                log.warning("%s had %d rows that are none, and has lost them", self._path, len(rows) - len(whole))
            self._rewrite([row for row in whole if int(row["env_steps"] or 0) <= env_steps])

    def _rows(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        text = self._path.read_bytes().decode(errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a last line without a newline was cut short
        return list(csv.DictReader(io.StringIO(whole, newline="")))

    def _rewrite(self, rows: Iterable[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._path, lambda file: file.write(text.getvalue().encode()))
