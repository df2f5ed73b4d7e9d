"""Going on with a run from the command line: which checkpoint is meant, and whether it is the same run."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.cli import SaveConfigCallback

from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.files import write_atomically
from memsuite.launch.arguments import options
from memsuite.reading import read_mapping
from memsuite.runs import RunConfig
from memsuite.runs.checkpoints import completed_checkpoint, find_checkpoint
from memsuite.runs.config import FREE, FREE_PPO, NAMES, PPO_NAMES, lift
from memsuite.runs.folder import ASKED, CHECKPOINTS, CONFIG, RESULT, WEIGHTS
from memsuite.runs.recipes import LATER, LATER_ARGUMENTS
from memsuite.runs.seal import SEALED
from memsuite.runs.trust import ONE_START, check_configuration
from memsuite.shipped import find
from memsuite.tasks import TASKS

WRITTEN = ("wandb_mode", "evaluate_every", "checkpoint_every")  # what fit writes of a run, and not which run it is
log = logging.getLogger("memsuite")


class SaveConfig(SaveConfigCallback):
    """Write ``config.yaml`` into the run folder, whole or not at all, without what belongs to one start only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write it before the trial, unless it would take the place of another run's."""
        if not self.config.overwrite:
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write it when nothing is left but to train, where another run is replaced."""
        if self.config.overwrite and trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write it."""
        config = copy.deepcopy(self.config)
        config.out, config.ckpt_path, config.overwrite, config.devices = None, None, False, None
        config.trust, config.modules = False, None
        text = self.parser.dump(config, skip_none=False)
        folder = trainer.loggers[0].save_dir  # trainer.log_dir would wait for the processes that save nothing
        assert folder is not None
        write_atomically(Path(folder) / self.config_filename, lambda file: file.write(text.encode()))


def asked_checkpoint(verb: str, arguments: list[str]) -> Path | None:
    """Find the checkpoint the arguments ask for: a file, a run folder, or ``last`` for the one of ``--out``.

    ``fit --ckpt_path last`` in a folder without one begins anew, so that one command starts a run and goes on with it.
    """
    asked = options(arguments, "--ckpt_path")
    idle = set() if verb == "fit" else {"overwrite", *WRITTEN, *["out"] * (asked[-1:] != ["last"])}
    if nothing := sorted(idle & option_names(arguments)):
        raise UsageError(
            f"--{nothing[0]} does nothing here: memsuite {verb} evaluates and writes nothing; leave it out"
        )
    if not asked:
        return None
    if asked[-1] != "last":
        return find_checkpoint(asked[-1])
    out = options(arguments, "--out")
    if not out:
        raise UsageError("--ckpt_path last means the last checkpoint of a run: name its folder with --out")
    folder = Path(out[-1])
    if verb == "fit" and not any((folder / name).is_file() for name in WEIGHTS):
        return None
    return find_checkpoint(folder)


def folder_of(checkpoint: Path | None) -> Path | None:
    """Return the run folder a checkpoint lies in, if it lies in one: there the run goes on."""
    return checkpoint.parent.parent if checkpoint and checkpoint.parent.name == CHECKPOINTS else None


def own_settings(arguments: list[str], checkpoint: Path | None, known: Mapping[str, Any]) -> list[str]:
    """Return the options by which a run goes on, or begins anew, with its own settings: those of its ``config.yaml``.

    A checkpoint knows the model's; how often to evaluate, the precision and the like are here.

    Args:
        arguments: of the command line.
        checkpoint: what the run goes on from, if anything.
        known: the settings in the checkpoint where this user has made it, which may then stand beside it too.
    """
    folder = folder_of(checkpoint)
    if checkpoint is None and options(arguments, "--ckpt_path"):
        folder = Path(options(arguments, "--out")[-1])
        if (folder / RESULT).is_file():
            raise UsageError(
                f"{folder} holds a finished run without a checkpoint to go on from; --overwrite begins anew there"
            )
        log.warning("%s holds no checkpoint yet: starting from the beginning", folder)
    own = folder / CONFIG if folder else None
    if not own or not own.is_file():
        if folder and not checkpoint and not (folder / ASKED).is_file() and not asks_for_settings(arguments):
            raise UsageError(
                f"{folder} holds no settings of a run to go on with: correct --out, or give the settings too, as when "
                "the run was started"
            )
        return []
    if not is_trusted(arguments):
        content = lift(read_mapping(own, "configuration", "task: delayed_cue"))
        same = {name for name in SEALED if name in known and content.get(name) == known[name]}
        check_configuration(own, content, typed_names(arguments) | same)
    return ["--config", str(own)]


def asks_for_settings(arguments: list[str]) -> bool:
    """Tell whether a command line says what run it means, and not only where it is and how it is shown."""
    return not option_names(arguments) <= {*ONE_START, *WRITTEN, "device", "devices"} - {"config"}


def option_names(arguments: list[str]) -> set[str]:
    """Return the names of the options on a command line, without their dashes and values."""
    return {word.partition("=")[0].lstrip("-") for word in arguments if word.startswith("-")}


def is_trusted(arguments: list[str]) -> bool:
    """Tell whether modules may be imported that a checkpoint, or the configuration beside it, names.

    ``--trust`` says so. So does ``--ckpt_path last``: whoever goes on with the run of ``--out`` writes into its folder,
    and takes it for his own.
    """
    return "--trust" in arguments or options(arguments, "--ckpt_path")[-1:] == ["last"]


def typed_names(arguments: list[str]) -> set[str]:
    """Return the settings that the user has given himself, on the command line or in his own configuration."""
    words = {word.partition("=")[0].removeprefix("--").removeprefix("model.").partition(".")[0] for word in arguments}
    for path in [*options(arguments, "--config"), *options(arguments, "-c")]:
        words |= set(lift(read_mapping(find("configuration", path), "configuration", "task: delayed_cue")))
    return {name for name in ("task", "controller") if name in words}


def check_whole(path: Path, checkpoint: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that holds the weights and not the run."""
    if "ranks" not in checkpoint["memsuite"].get("run", {}) or not {"loops", "optimizer_states"} <= set(checkpoint):
        raise UsageError(
            f"{path} is of an earlier version of memsuite, of no training, or of the weights alone: "
            "memsuite.load opens it, but a run cannot go on from it"
        )


def check_same_kind(checkpoint: dict[str, Any] | None, task: str, controller: str) -> None:
    """Refuse another built-in task or controller than the checkpoint's, whose arguments and weights do not fit it."""
    saved = completed_checkpoint(checkpoint) if checkpoint else {}
    for name, asked, built_in in (("task", task, TASKS), ("controller", controller, CONTROLLERS)):
        before = saved.get(name, asked)
        if asked != before and asked in built_in:  # a class of one's own may have moved
            text = f"{name} is {before} in the checkpoint, not {asked}"
            raise UsageError(f"{text}; leave it out, or name a checkpoint of {asked}")


def check_same_run(checkpoint: dict[str, Any], asked: RunConfig) -> None:
    """Refuse to go on with other settings than the checkpoint's, but for those that a run may change on its way.

    Args:
        checkpoint: what memsuite has added to it.
        asked: the settings of the run that would go on, every default filled in.
    """
    saved, now_asked = completed_checkpoint(checkpoint), asked.plain()
    # A setting that came after the checkpoint is not in it; the run was made with what is now its default.
    for name in ("task_args", "controller_args"):
        later = {key: LATER_ARGUMENTS[key] for key in now_asked[name] or {} if key in LATER_ARGUMENTS}
        saved[name] = {**later, **(saved.get(name) or {})}
    pairs = [(name, saved[name], now_asked[name]) for name in NAMES if name in saved and name not in FREE]
    # The defaults of these are values; those of the other settings that came later are rules.
    ppo = {**{name: LATER[name] for name in ("products", "matrix_decay")}, **saved["ppo"]}
    held = [name for name in PPO_NAMES if name in ppo and name not in FREE_PPO]
    pairs += [(f"model.ppo.{name}", ppo[name], now_asked["ppo"][name]) for name in held]
    for name, before, now in pairs:
        alike = name == "init_from" and before and now and os.path.normpath(before) == os.path.normpath(now)
        if (before or None) != (now or None) and not alike:
            raise UsageError(f"{name} is {before} in the checkpoint, not {now}; leave it out to go on, or start a run")
    trained = int(checkpoint.get("env_steps", 0))  # where it says more than was asked for, check_run says what is wrong
    if asked.steps is not None and asked.steps < trained <= (saved.get("steps") or trained):
        raise UsageError(f"steps is {asked.steps}, but the run has made {trained} already; name more, or start a run")
