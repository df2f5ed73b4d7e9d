"""What a Trainer may not be asked to do with a run, whoever builds it."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import StochasticWeightAveraging

from memsuite.errors import UsageError
from memsuite.runs.ppo import check_precision


def check_trainer(trainer: pl.Trainer) -> None:
    """Raise a usage error for a precision that training would not survive, or a callback that means nothing here."""
    check_precision(trainer.precision)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                "StochasticWeightAveraging averages over epochs and schedules the learning rate by them, and a run is "
                "one epoch; WeightAveraging and EMAWeightAveraging average over iterations"
            )
