"""Checks of the Lightning Trainer before a run, whoever builds it."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import StochasticWeightAveraging

from memsuite.distributed import require_same
from memsuite.errors import UsageError
from memsuite.ops.products import check_products
from memsuite.runs import RunConfig
from memsuite.runs.ppo import PPOConfig, check_precision


def check_trainer(trainer: pl.Trainer) -> None:
    """Raise a usage error for a precision that breaks training, or for a callback that has no meaning here."""
    check_precision(trainer.precision)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StochasticWeightAveraging):
            raise UsageError(
                "StochasticWeightAveraging averages over epochs and schedules the learning rate by them, but a run has "
                "one epoch; WeightAveraging and EMAWeightAveraging average over iterations"
            )


def check_training_products(trainer: pl.Trainer, ppo: PPOConfig) -> None:
    """Raise a usage error if the products of a run cannot be computed as it asks, or where that would do nothing.

    Args:
        trainer: the Trainer of this process.
        ppo: the settings of the run.
    """
    check_products(ppo.products, trainer.strategy.root_device)
    if ppo.products != "float32" and trainer.precision != "32-true":
        raise UsageError(
            f"ppo.products {ppo.products} is for trainer.precision 32-true; with {trainer.precision} it does nothing"
        )


def check_start(trainer: pl.Trainer, config: RunConfig) -> None:
    """Check a Trainer that is about to begin, and that all processes have the same settings.

    Args:
        trainer: the Trainer of this process.
        config: the settings of the run.
    """
    check_trainer(trainer)
    if trainer.state.fn == "fit":
        check_training_products(trainer, config.ppo)
    every, resumed = trainer.val_check_interval, bool(trainer.ckpt_path)
    require_same(config.plain() | {"evaluate_every": every, "resumed": resumed})
