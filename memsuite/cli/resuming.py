"""Going on with a run from the command line: which checkpoint is meant, and whether it is the same run."""

from __future__ import annotations

import copy
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.cli import SaveConfigCallback

from memsuite.analysis.loading import find_checkpoint
from memsuite.errors import UsageError
from memsuite.files import LAST, PREVIOUS, write_atomically

log = logging.getLogger("memsuite")
# What a run cannot change on its way: its episodes, its network, and how the steps of an iteration are counted.
FIXED = ("task", "difficulty", "horizon", "task_args", "controller", "controller_args", "num_envs", "seed")


class SaveConfig(SaveConfigCallback):
    """Write ``config.yaml`` into the run folder, whole or not at all, without what belongs to one start only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write it."""
        config = copy.deepcopy(self.config)
        config.out, config.ckpt_path, config.overwrite, config.devices = None, None, False, None
        text = self.parser.dump(config, skip_none=False)
        folder = trainer.loggers[0].save_dir  # trainer.log_dir would wait for the processes that save nothing
        assert folder is not None
        write_atomically(Path(folder) / self.config_filename, lambda file: file.write(text.encode()))


def asked_checkpoint(verb: str, arguments: list[str]) -> Path | None:
    """Find the checkpoint the arguments ask for: a file, a run folder, or ``last`` for the one of ``--out``.

    ``fit --ckpt_path last`` in a folder without one begins anew, so that one command starts a run and goes on with it.
    """
    asked = options(arguments, "--ckpt_path")
    if not asked:
        return None
    if asked[-1] != "last":
        return find_checkpoint(asked[-1])
    out = options(arguments, "--out")
    if not out:
        raise UsageError("--ckpt_path last means the last checkpoint of a run: name its folder with --out")
    folder = Path(out[-1])
    if verb == "fit" and not any((folder / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS)):
        return None
    return find_checkpoint(folder)


def folder_of(checkpoint: Path | None) -> Path | None:
    """Return the run folder a checkpoint lies in, if it lies in one: there the run goes on."""
    return checkpoint.parent.parent if checkpoint and checkpoint.parent.name == "checkpoints" else None


def own_settings(arguments: list[str], checkpoint: Path | None) -> list[str]:
    """Return the options by which a run goes on, or begins anew, with its own settings: those of its ``config.yaml``.

    A checkpoint knows the model's; how often to evaluate, the precision and the like are here.
    """
    folder = folder_of(checkpoint)
    if checkpoint is None and options(arguments, "--ckpt_path"):
        folder = Path(options(arguments, "--out")[-1])
        log.warning("%s holds no checkpoint yet: starting from the beginning", folder)
    own = folder / "config.yaml" if folder else None
    return ["--config", str(own)] if own and own.is_file() else []


def check_whole(checkpoint: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that holds the weights and not the run."""
    if "ranks" not in checkpoint["memsuite"].get("run", {}) or not {"loops", "optimizer_states"} <= set(checkpoint):
        raise UsageError(
            "the checkpoint is of an earlier version of memsuite, of no training, or of the weights alone: "
            "memsuite.load opens it, but a run cannot go on from it"
        )


def check_same_run(checkpoint: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to go on with another task, network or number of environments than the checkpoint's.

    Args:
        checkpoint: what memsuite has added to it.
        asked: the configuration of the run that would go on.
    """
    saved = checkpoint["config"]
    pairs = [(name, saved.get(name), asked.get(name)) for name in FIXED]
    pairs.append(("model.ppo.rollout_length", *(side["ppo"].get("rollout_length") for side in (saved, asked))))
    for name, before, now in pairs:
        if (before or None) != (now or None):
            raise UsageError(f"{name} is {before} in the checkpoint, not {now}; leave it out to go on, or start a run")


def options(arguments: list[str], name: str) -> list[str]:
    """Return the values of a command-line option, spelt ``--name value`` or ``--name=value``."""
    apart = [(i, value) for i, (this, value) in enumerate(pairwise(arguments)) if this == name]
    joined = [(i, this.partition("=")[2]) for i, this in enumerate(arguments) if this.startswith(f"{name}=")]
    return [value for _, value in sorted(apart + joined)]
