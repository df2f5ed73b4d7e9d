"""A curriculum: training begins with short episodes or small sizes, and they grow as they are learnt."""

from __future__ import annotations

import logging
import math
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from memsuite.callbacks.stopping import reaches
from memsuite.distributed import require_same
from memsuite.errors import UsageError, unknown
from memsuite.module import MemoryPPO

log = logging.getLogger("memsuite")


class Curriculum(Callback):
    """Train on short episodes first, and on longer ones as they are learnt, up to the full task.

    Whenever the sampled success of ``patience`` rollouts in a row has reached ``success``, the argument is multiplied
    by ``factor`` and new episodes begin. Evaluations always use the full task, with about as many environment steps
    between two evaluations as without a curriculum. The budget counts environment steps, so short episodes allow more
    iterations. ``result.json`` records the curriculum and the steps at which it grew; ``metrics.csv`` records the
    argument of each rollout.

    Args:
        start: the first value of the argument, below its value in the full task.
        factor: growth from one stage to the next, above 1; the last stage is the full task.
        success: sampled success that a rollout must reach, above 0 and at most 1. Actions are sampled: with an entropy
            bonus, an agent that has learnt everything may stay below 1.
        patience: number of rollouts in a row that must reach it.
        argument: a whole-number argument of the task that does not change its observations and actions: ``horizon``,
            or a size such as ``num_cues`` or ``seq_len``.
    """

    grows = True  # a run that began with such a callback does not go on without one

    def __init__(
        self, start: int, factor: float = 2.0, success: float = 0.9, patience: int = 1, argument: str = "horizon"
    ) -> None:
        self.start, self.factor, self.success, self.patience = start, factor, success, patience
        self.argument = argument
        self._held = 0
        self._every: float | None = None

    def stages(self, module: MemoryPPO) -> list[int]:
        """Return the value of the argument at each stage, from ``start`` to its value in the full task.

        Raises:
            UsageError: a setting is outside its bounds, the task does not have the argument, or the task cannot be
                built at one of the stages.
        """
        self._check_bounds()
        name, arguments = module.preset.task, module.course.full_arguments()
        if math.isnan(module.preset.target_success):
            raise UsageError(f"Curriculum: {name} scores no decision, so there is no success to decide when to grow")
        if self.argument not in arguments:
            raise unknown(f"argument of {name}", self.argument, arguments)
        full = arguments[self.argument]
        if not isinstance(full, int):
            raise UsageError(f"Curriculum: {name}'s {self.argument} is {full!r}; only whole numbers can grow")
        if self.start >= full:
            raise UsageError(f"Curriculum: start is {self.start}; it must be below the task's {self.argument}, {full}")
        sizes = [self.start]
        while sizes[-1] < full:
            sizes.append(min(full, max(sizes[-1] + 1, int(sizes[-1] * self.factor))))
        for size in sizes:
            task = module.course.make_task({self.argument: size})
            if (task.layout, task.action_space) != (module.task.layout, module.task.action_space):
                raise UsageError(f"Curriculum: {self.argument} changes the observations or the actions of {name}")
        return sizes

    def _check_bounds(self) -> None:
        # Not in the constructor: the command line's parser wraps an error from a constructor in pages of its own text.
        for name, holds, bound in (
            ("start", self.start >= 1, "at least 1"),
            ("factor", 1 < self.factor < math.inf, "above 1"),
            ("success", 0 < self.success <= 1, "above 0 and at most 1"),
            ("patience", self.patience >= 1, "at least 1"),
        ):
            if not holds:
                raise UsageError(f"Curriculum: {name} is {getattr(self, name)}; it must be {bound}")

    def check(self, module: MemoryPPO) -> None:
        """Raise a usage error if the task cannot be learnt in these stages."""
        self.stages(module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the first stage, or continue with the checkpoint's."""
        module = cast(MemoryPPO, pl_module)
        course, names = module.course, ("argument", "start", "factor", "success", "patience")
        settings = {name: getattr(self, name) for name in names}
        require_same({f"Curriculum: {name}": value for name, value in settings.items()})
        self._sizes = self.stages(module)
        before = course.curriculum
        if before is None and course.iteration:
            raise UsageError("the checkpoint is of a run without a Curriculum; a resumed run cannot add one")
        for name, value in settings.items():
            if before is not None and before[name] != value:
                raise UsageError(f"Curriculum: {name} is {before[name]} in the checkpoint, not {value}")
        if before is None:
            module.train_on({self.argument: self.start})
        course.curriculum = {**settings, "stages": before["stages"] if before else [self._now(module)]}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the interval between evaluations."""
        self._every = trainer.val_check_batch
        self._set_evaluations(trainer, cast(MemoryPPO, pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Grow when the success allows it. The success is over all processes, so all grow together."""
        module = cast(MemoryPPO, pl_module)
        success, size = module.statistics["success"], module.course.args[self.argument]
        if math.isnan(success) or size >= self._sizes[-1]:  # a rollout shorter than an episode may hold no decision
            return
        self._held = self._held + 1 if reaches(success, self.success) else 0
        if self._held < self.patience:
            return
        self._held = 0
        larger = next(one for one in self._sizes if one > size)
        module.train_on({self.argument: larger})
        assert module.course.curriculum is not None
        module.course.curriculum["stages"].append(self._now(module))
        self._set_evaluations(trainer, module)
        log.info("%s steps: success %.2f, %s now %d", f"{module.env_steps:,}", success, self.argument, larger)

    def _now(self, module: MemoryPPO) -> dict[str, int]:
        return {**module.course.args, "env_steps": module.env_steps}

    def _set_evaluations(self, trainer: pl.Trainer, module: MemoryPPO) -> None:
        """Have every stage take as many environment steps from one evaluation to the next, and so their relative cost.

        An interval in which a stage ends has fewer or more, because Lightning counts iterations from the beginning.
        """
        if self._every is not None and self._every != math.inf:
            whole = module.ppo.rollout_length or module.task.horizon
            trainer.val_check_batch = max(1, round(self._every * whole / module.course.rollout_length))

    def state_dict(self) -> dict[str, Any]:
        """Return the count of successful rollouts; the module keeps the stage."""
        return {"held": self._held}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count."""
        self._held = state_dict["held"]
