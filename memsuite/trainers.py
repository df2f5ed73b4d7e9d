"""Checks of the Lightning Trainer before a run, whoever builds it."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import StochasticWeightAveraging

from memsuite.distributed import require_same
from memsuite.errors import UsageError
from memsuite.runs import RunConfig
from memsuite.runs.ppo import check_precision


def check_trainer(trainer: pl.Trainer) -> None:
    """Raise a usage error for a precision that breaks training, or for a callback that has no meaning here."""
    check_precision(trainer.precision)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                "StochasticWeightAveraging averages over epochs and schedules the learning rate by them, but a run has "
                "one epoch; WeightAveraging and EMAWeightAveraging average over iterations"
            )


def check_start(trainer: pl.Trainer, config: RunConfig) -> None:
    """Check a Trainer that is about to begin, and that all processes have the same settings.

    Args:
        trainer: the Trainer of this process.
        config: the settings of the run.
    """
    check_trainer(trainer)
    every, resumed = trainer.val_check_interval, bool(trainer.ckpt_path)
    require_same(config.plain() | {"evaluate_every": every, "resumed": resumed})
