"""The checkpoints of a run: at regular iterations, at the end, and when a signal stops the run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from memsuite.distributed import largest, rank
from memsuite.errors import Stopped
from memsuite.files import link
from memsuite.module import MemoryPPO
from memsuite.runs.folder import CHECKPOINTS, LAST, PREVIOUS

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Checkpoints(Callback):
    """Write ``checkpoints/last.ckpt`` every ``every`` iterations, at the end, and on SIGTERM or SIGINT.

    A checkpoint that is due is written when the next iteration begins or the run ends. This is after the evaluation
    that belongs to the iteration, so the row of the evaluation is never lost. On a signal, the current iteration and
    its evaluation, if it has one, are finished and saved before the run stops; a second signal ends the process at
    once. Any of several processes may get the signal: they exchange it when the next iteration begins, so all stop
    together, and the first process writes the state of all.

    Args:
        folder: the run folder.
        every: iterations between two checkpoints.

    Raises:
        Stopped: after a signal, with status 128 + the signal's number.
    """

    def __init__(self, folder: str | Path, every: int = 50) -> None:
        self.path, self.every = Path(folder) / CHECKPOINTS / LAST, every
        self._due = False
        self._saved: int | None = None
        self._watch = SignalWatch()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle the signals from now on instead of Lightning; before this point there is nothing to save."""
        if trainer.received_sigterm:
            raise Stopped("stopped by SIGTERM before training began", 128 + signal.SIGTERM)
        source = Path(trainer.ckpt_path) if trainer.ckpt_path else None
        own = source is not None and source.parent.resolve() == self.path.parent.resolve()  # either may be a link
        if source is not None and own and source.name == PREVIOUS and rank() == 0:
            link(source, self.path)  # a damaged last.ckpt must not replace the intact previous.ckpt
        ours = own and source is not None and source.name in (LAST, PREVIOUS)
        self._saved = cast(MemoryPPO, pl_module).iteration if ours else None
        self._watch.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Mark a checkpoint as due; while updates are being skipped, the last good checkpoint stays."""
        module = cast(MemoryPPO, pl_module)
        self._due = module.iteration % self.every == 0 and not module.guard.in_a_row

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save a checkpoint that is due; stop if there was a signal."""
        received = largest(self._watch.received, pl_module.device)
        if self._due or received:
            self._save(trainer, pl_module)
        self._stop_if_asked(received, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the run; the final evaluation that follows ends at once on a signal."""
        self._save(trainer, pl_module)
        self._stop_if_asked(largest(self._watch.received, pl_module.device), pl_module)
        self._watch.stop_at_once(lambda number: self._stop_if_asked(number, pl_module))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the signals to whoever had them."""
        self._watch.end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers."""
        self._watch.end()

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iteration = cast(MemoryPPO, pl_module).iteration
        if iteration != self._saved:
            for logger in trainer.loggers:
                logger.save()  # before a checkpoint refers to its rows
            trainer.save_checkpoint(self.path)
        self._saved, self._due = iteration, False

    @staticmethod
    def _stop_if_asked(received: int, pl_module: pl.LightningModule) -> None:
        if received:
            name, steps = signal.Signals(received).name, cast(MemoryPPO, pl_module).env_steps
            raise Stopped(f"stopped by {name} after {steps:,} steps, all saved", 128 + received, together=True)


class SignalWatch:
    """Remembers the first SIGTERM or SIGINT; a second one has its default effect, at once.

    Attributes:
        received: the signal's number, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}
        self._stop: Callable[[int], None] | None = None

    def start(self) -> None:
        """Install the handlers; outside the main thread, where Python allows no handlers, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def stop_at_once(self, stop: Callable[[int], None]) -> None:
        """Call ``stop`` with the number of the next signal as soon as it comes."""
        self._stop = stop

    def end(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._stop = {}, None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if self._stop is not None:
            self._stop(number)
        if sys.stderr.isatty():  # os.write bypasses Python's buffers, which may be in use
            os.write(2, b"\nfinishing this iteration; a second signal stops at once\n")
