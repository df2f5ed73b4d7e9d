"""What memsuite asks of Lightning's Trainer and its loggers, and what of the Trainer means nothing here."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse._deprecated import JsonargparseDeprecationWarning

from memsuite.errors import UsageError
from memsuite.module import MemoryPPO
from memsuite.rl import check_precision
from memsuite.runs.recipes import usual_evaluations

TRAINER_DEFAULTS = {
    "max_epochs": 1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "accelerator": "auto",
    "devices": 1,
}
# What Lightning's loop would do with these is done by PPO's settings, or by ours.
NOT_HERE: dict[str, tuple[Any, str]] = {
    "max_epochs": (1, "--steps"),
    "max_steps": (-1, "--steps"),
    "min_epochs": (None, "--steps"),
    "min_steps": (None, "--steps"),
    "limit_train_batches": (None, "--steps"),  # the result would claim all steps that were asked for
    "overfit_batches": (0.0, "--steps"),
    "fast_dev_run": (False, "--steps"),
    "val_check_interval": (None, "--evaluate_every"),
    "check_val_every_n_epoch": (None, "--evaluate_every"),
    "gradient_clip_val": (None, "--model.ppo.max_grad_norm"),
    "enable_checkpointing": (False, "--checkpoint_every"),  # those of Lightning would come beside ours
    "accumulate_grad_batches": (1, "--model.ppo.minibatches"),
}
ADVICE = (
    ".*does not have many workers.*",
    ".*`training_step` returned `None`.*",
    ".*GPU available but not used.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*in eval mode at the start of training.*",
    ".*your dataloader is not resumable.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*recommended to use `self.log.*sync_dist=True.*",
)


def check_trainer(settings: Any) -> None:
    """Raise a usage error for a setting of the Trainer that would do nothing, or what nobody means by it.

    Args:
        settings: all of the Trainer's, as the parser has read them.
    """
    check_precision(settings.precision)
    for name, (value, instead) in NOT_HERE.items():
        if settings[name] != value:
            raise UsageError(f"trainer.{name} is not how a run is told this here; use {instead}")
    if settings.logger is True:
        raise UsageError("trainer.logger is true; metrics.csv is written anyway, and other loggers are named by class")


def iterations_between_evaluations(module: MemoryPPO, asked: int | None) -> int:
    """Return how many iterations a run takes from one evaluation to the next.

    Args:
        module: of the run.
        asked: what the user has asked for; None for the usual number of evaluations.
    """
    course, config = module.course, module.config
    number = usual_evaluations(config.task, course.budget, course.full_task.horizon, module.evaluation_episodes)
    return min(asked or max(5, course.iterations // number), course.iterations)


def quiet_lightning() -> None:
    """Keep Lightning's advice about data loaders and devices, which does not apply here, off the screen."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)  # what Lightning 2.6 calls, not we
    for text in ADVICE:
        warnings.filterwarnings("ignore", text)


def wandb_logger(folder: Path, config: Namespace, name: str, resuming: bool) -> Any:
    """Return the W&B logger for this run; a run that goes on goes on under its id there.

    Args:
        folder: the run folder.
        config: the settings.
        name: of the run, when it begins.
        resuming: the run of that folder is gone on with.
    """
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    before = sorted((folder / "wandb").glob("*run-*/run-*.wandb")) if resuming else []
    number = before[-1].stem.removeprefix("run-") if before else None
    again: dict[str, Any] = {"id": number, "resume": "allow"} if number else {}
    offline = config.wandb_mode == "offline"
    shown = None if number else name  # a run that goes on has the name of its first start
    logger = WandbLogger(project="memsuite", name=shown, save_dir=str(folder.absolute()), offline=offline, **again)
    logger._wandb_init.pop("anonymous", None)  # which W&B has given up, and warns of
    return logger
