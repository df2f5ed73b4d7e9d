"""The callback that ends a run once it has reached its target."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from memsuite.errors import UsageError
from memsuite.module import MemoryPPO

ROUNDING = 1e-6  # what logs and rollouts say is in single precision, where nine of ten is slightly less than 0.9


class StopAtTarget(Callback):
    """End training once greedy success has reached the target in ``patience`` evaluations in a row.

    Args:
        target: success that must be reached, in [0, 1]; None takes the preset's.
        patience: number of evaluations in a row that must reach it.
        margin: success beyond the target that must be reached, so that the evaluation at the end, on other episodes,
            does not miss the target by chance.
    """

    def __init__(self, target: float | None = None, patience: int = 3, margin: float = 0.0) -> None:
        self.target, self.patience, self.margin = target, patience, margin
        self._held = 0

    def check(self, module: MemoryPPO) -> None:
        """Raise a usage error for settings that cannot be, or if the task scores no decision."""
        # Not in the constructor: the command line's parser wraps an error from a constructor in pages of its own text.
        for name, holds, bound in (
            ("target", self.target is None or 0 <= self.target <= 1, "in [0, 1], or null for the task's own"),
            ("patience", self.patience >= 1, "at least 1"),
            ("margin", 0 <= self.margin <= 1, "in [0, 1]"),
        ):
            if not holds:
                raise UsageError(f"StopAtTarget: {name} is {getattr(self, name)}; it must be {bound}")
        if math.isnan(module.preset.target_success):
            raise UsageError(
                f"StopAtTarget: {module.preset.task} scores no decision, so there is no success to stop at"
            )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse settings that cannot be, and a task without success."""
        self.check(cast(MemoryPPO, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the evaluations that reached the target, and stop."""
        if trainer.state.fn != "fit":
            return
        target = cast(MemoryPPO, pl_module).preset.target_success if self.target is None else self.target
        self._held = self._held + 1 if reaches(evaluated(trainer), min(1.0, target + self.margin)) else 0
        trainer.should_stop = trainer.should_stop or self._held >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the count of successful evaluations."""
        return {"held": self._held}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count."""
        self._held = state_dict["held"]


def evaluated(trainer: pl.Trainer, what: str = "success") -> float:
    """Return the greedy success of the evaluation that just ended, or its ``return_mean``."""
    return float(trainer.callback_metrics[f"evaluation/{what}"])


def reaches(success: float, wanted: float) -> bool:
    """Tell whether a success in single precision is at least that much; NaN, of no decision, never is."""
    return success >= wanted - ROUNDING
