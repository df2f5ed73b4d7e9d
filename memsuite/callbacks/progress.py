"""The progress display of a run."""

from __future__ import annotations

import logging
import math
import time
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from memsuite.module import MemoryPPO

log = logging.getLogger("memsuite")


class ProgressBar(Callback):
    """Environment steps, steps/s, sampled success and time left: a live bar on a terminal, otherwise a line at times.

    Args:
        every_seconds: seconds between two lines when there is no terminal.
    """

    def __init__(self, every_seconds: float = 10.0) -> None:
        self.every_seconds = every_seconds
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        if not trainer.is_global_zero:
            return
        module = cast(MemoryPPO, pl_module)
        self._began, self._began_steps = time.perf_counter(), module.env_steps
        self._trained = module.seconds["training"][0]
        self._next_line = self._began + self.every_seconds
        console = Console(stderr=True)
        if console.is_terminal:
            columns = "{task.fields[steps]} steps  {task.fields[rate]} steps/s  {task.fields[success]}"
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                TextColumn(columns),
                TextColumn("time left"),
                TimeRemainingColumn(compact=True),
                console=console,
                refresh_per_second=4,
            )
            self._row = self._bar.add_task("", total=module.course.budget, steps="0", rate="-", success="")
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Update the bar, or log a line when it is due."""
        module, now = cast(MemoryPPO, pl_module), time.perf_counter()
        if not trainer.is_global_zero:
            return
        rate = (module.env_steps - self._began_steps) / max(module.seconds["training"][0] - self._trained, 1e-9)
        pace = (now - self._began) / max(1, module.env_steps - self._began_steps)  # includes evaluations, for time left
        steps, success = f"{module.env_steps:,}", achieved(module.statistics)
        if self._bar is not None:
            self._bar.update(self._row, completed=module.env_steps, steps=steps, rate=f"{rate:,.0f}", success=success)
        elif now >= self._next_line:
            self._next_line = now + self.every_seconds
            left = (module.course.budget - module.env_steps) * pace
            log.info("%s steps, %s steps/s, %s, %.0f s left", steps, f"{rate:,.0f}", success, left)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the messages after it are readable."""
        self.on_train_end(trainer, pl_module)


def achieved(statistics: dict[str, float]) -> str:
    """Return the sampled success of the last rollout as text, or its return where no decision is scored.

    A rollout of a part of an episode may have neither.
    """
    for name, digits in (("success", 2), ("return", 1)):
        if not math.isnan(statistics[name]):
            return f"{name} {statistics[name]:.{digits}f}"
    return "no decision and no end of an episode"
