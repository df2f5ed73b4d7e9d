"""``memsuite fit``, ``validate`` and ``test``: a LightningCLI with the short forms a person would type."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from memsuite import trainers
from memsuite.callbacks import Checkpoints, Curriculum, ProgressBar, RunRecord, StopAtTarget
from memsuite.errors import Stopped, UsageError, unknown
from memsuite.launch.allocator import keep_freed_memory, steady_memory
from memsuite.launch.arguments import options, told_of_classes
from memsuite.launch.folder import begin_folder, check_space, own_folder, replacement, run_name
from memsuite.launch.hints import hint_at_retention
from memsuite.launch.loggers import end_wandb, go_on_logging, in_run_folder
from memsuite.launch.messages import as_text, evaluated, how_to_go_on, log_to, summary, told_in_one_line
from memsuite.launch.parser import Parser
from memsuite.launch.plain import console as plain_console
from memsuite.launch.plain import flat
from memsuite.launch.processes import PARENT, check_processes, choose_devices, end_with_parent, place, started
from memsuite.launch.resuming import (
    SaveConfig,
    asked_checkpoint,
    check_same_kind,
    check_same_run,
    check_whole,
    folder_of,
    is_trusted,
    own_settings,
    typed_names,
)
from memsuite.launch.sources import look_beside
from memsuite.launch.trainer import (
    TRAINER_DEFAULTS,
    check_trainer,
    iterations_between_evaluations,
    quiet_lightning,
    wandb_logger,
)
from memsuite.module import MemoryPPO
from memsuite.reading import positive
from memsuite.rl import envs_per_process
from memsuite.rl.needs import check_needs
from memsuite.rl.saved.classes import check_defaults
from memsuite.rl.saved.fits import check_run
from memsuite.rl.saved.restore import check_size, settings_of
from memsuite.runs import PPOConfig, RunConfig
from memsuite.runs.checkpoints import begin_with, check_weights, completed_checkpoint, read_checkpoint
from memsuite.runs.config import NAMES, check_seed
from memsuite.runs.folder import CHECKPOINTS, RESULT
from memsuite.runs.seal import is_sealed
from memsuite.runs.trust import check_names
from memsuite.storage import AtomicCheckpointIO, MetricsCSV


class FitCLI(LightningCLI):
    """The options of ``fit``, ``validate`` and ``test``: the short forms, then every nested key of Lightning's."""

    def __init__(self, verb: str, arguments: list[str]) -> None:
        self.verb, self.given = verb, arguments
        self.command = shlex.join(["memsuite", verb, *arguments])
        self.checkpoint = asked_checkpoint(verb, arguments)
        look_beside(arguments, folder_of(self.checkpoint), "--trust" in arguments)
        read = read_checkpoint(self.checkpoint) if self.checkpoint else None
        self.saved: dict[str, Any] | None = read["memsuite"] if read else None
        own = False
        if self.checkpoint and read:
            config = completed_checkpoint(read["memsuite"])
            own = is_sealed(read["memsuite"])
            if not (own or is_trusted(arguments)):
                check_names(self.checkpoint, config, typed_names(arguments))
            if not is_trusted(arguments):
                check_defaults(self.checkpoint, read["memsuite"])
            with settings_of(self.checkpoint):
                check_size(self.checkpoint, read["state_dict"], RunConfig.from_plain(config))
        if verb == "fit":
            known = read["memsuite"]["config"] if read and own else {}
            arguments = [*own_settings(arguments, self.checkpoint, known), *arguments]
        super().__init__(
            MemoryPPO,
            args=arguments,
            run=False,
            parser_class=Parser,
            parser_kwargs={
                "prog": f"memsuite {verb}",
                "description": "Train or evaluate an agent.",
                "allow_abbrev": False,
            },
            save_config_callback=SaveConfig,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
        if self.checkpoint and read:
            if verb == "fit":
                check_whole(self.checkpoint, read)
                check_same_run(read["memsuite"], self.model.config)
            check_weights(self.checkpoint, read["state_dict"], self.model, self.model.config.controller)
            if verb == "fit":
                check_run(self.checkpoint, read, self.model, self.trainer)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of a run at the top, and what belongs to this start of it."""
        parser.add_class_arguments(RunConfig, None, skip={"ppo"})
        parser.add_argument("--out", type=str | None, default=None, help="run folder (default: runs/TASK-.../seedN)")
        parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
        parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
        parser.add_argument(
            "--devices", type=positive | None, default=None, help="processes on this machine that share the run"
        )
        parser.add_argument("--wandb_mode", type=str, default="disabled", help="offline, online or disabled")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="a checkpoint, a run folder, or last: that of --out"
        )
        trust = "import the modules that the checkpoint names, for a task or a controller of your own"
        parser.add_argument("--trust", action="store_true", help=trust)
        modules = "a folder in which files of your own are found, besides the current one and those of --config"
        parser.add_argument("--modules", type=str | None, default=None, help=modules)
        parser.add_argument(
            "--evaluate_every",
            type=positive | None,
            default=None,
            help="iterations between evaluations (default: a twentieth of the run's, at least 5)",
        )
        parser.add_argument("--checkpoint_every", type=positive, default=50, help="iterations between checkpoints")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add Lightning's Trainer, and PPO's settings under ``model.ppo``."""
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
        parser.add_class_arguments(PPOConfig, "model.ppo")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take a checkpoint's own settings for the defaults."""
        if self.saved is not None:
            config = completed_checkpoint(self.saved)
            config |= {f"model.ppo.{key}": value for key, value in config.pop("ppo").items()}
            parser.set_defaults(config)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, after a look at the files; ``model.task`` and the like mean the settings at the top."""
        self.config = parser.parse_args(cast(Parser, parser).lifted(args))

    def _set_seed(self) -> None:
        check_seed(self.config.seed)
        pl.seed_everything(self.config.seed, verbose=False)

    def instantiate_classes(self) -> None:
        """Build the module and the trainer from the settings."""
        with told_of_classes():
            self.config_init = self.parser.instantiate_classes(self.config)
        settings = {name: self.config_init[name] for name in NAMES}
        self.model = MemoryPPO(RunConfig(**settings, ppo=self.config_init.model.ppo))
        self.trainer = self.instantiate_trainer()

    def before_instantiate_classes(self) -> None:
        """Turn the short forms that stand for several of Lightning's settings into those."""
        config = self.config
        if config.ckpt_path and not options(self.given, "--ckpt_path"):
            raise UsageError("ckpt_path is no setting of a run; give it on the command line: --ckpt_path ...")
        if config.trust and "--trust" not in self.given:
            raise UsageError("trust is no setting of a run; give it on the command line: --trust")
        check_same_kind(self.saved, config.task, config.controller)
        self.run_name = run_name(config, self.parser.get_defaults())
        self.out = Path(config.out or folder_of(self.checkpoint) or f"runs/{self.run_name}")
        config.out = str(self.out)
        choose_devices(config, self.given)
        check_trainer(config.trainer)
        if config.wandb_mode not in ("offline", "online", "disabled"):
            raise unknown("wandb_mode", config.wandb_mode, ("offline", "online", "disabled"))

    @property
    def env_steps(self) -> int:
        """Environment steps of the checkpoint."""
        return int((self.saved or {}).get("env_steps", 0))

    @property
    def resumes(self) -> bool:
        """Whether the run folder's own run is gone on with, or begun again where it left no checkpoint."""
        if self.checkpoint is None:
            return self.config.ckpt_path == "last" and not (self.out / RESULT).exists()
        return self.checkpoint.parent.resolve() == (self.out / CHECKPOINTS).resolve()  # a link to other space may be

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer around the run folder."""
        config = self.config
        given = self.config_init.trainer.logger
        loggers: list[Any] = [MetricsCSV(self.out)]  # first: it tells Lightning where the run lies
        given = given if isinstance(given, list) else [given] if given else []
        loggers += [in_run_folder(logger, self.out) for logger in given]
        if self.verb == "fit":
            if config.wandb_mode != "disabled":
                loggers.append(wandb_logger(self.out, config, self.run_name, self.resumes))
            self.record = RunRecord(self.out, self.command)
            callbacks = replacement(self.out, config.overwrite and not self.resumes)
            callbacks += [ProgressBar(), Checkpoints(self.out, config.checkpoint_every), self.record]  # it comes last
            kwargs["val_check_interval"] = iterations_between_evaluations(self.model, config.evaluate_every)
        else:
            loggers, callbacks = [], []
            self.save_config_callback = None
        plugins = self.config_init.trainer.plugins
        plugins = plugins if isinstance(plugins, list) else [plugins] if plugins else []
        if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            plugins = [*plugins, place(config.trainer.devices, config.trainer.num_nodes)]
        kwargs |= {"logger": loggers or False, "plugins": [*plugins, AtomicCheckpointIO()]}
        trainer_config = {**self.config_init.trainer, **kwargs}
        try:
            trainer = self._instantiate_trainer(trainer_config, callbacks)
        except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
            raise UsageError(f"trainer: {flat(str(error))}") from error
        check_processes(trainer)
        trainers.check_trainer(trainer)
        for callback in cast(list[Any], trainer.callbacks):  # type: ignore[attr-defined]
            if isinstance(callback, Curriculum | StopAtTarget):
                callback.check(self.model)
        return trainer


def main(verb: str, arguments: list[str]) -> int:
    """Run the verb."""
    end_with_parent()
    quiet_lightning()
    if os.environ.get("LOCAL_RANK", "0") != "0":  # what is said here, the first process says
        logging.getLogger("memsuite").setLevel(logging.CRITICAL)
    keep_freed_memory()
    cli = FitCLI(verb, arguments)
    if verb == "fit":
        return fit(cli)
    if cli.checkpoint is None:
        raise UsageError(f"{verb} needs a trained agent: --ckpt_path FILE or RUN_FOLDER")
    run = cli.trainer.validate if verb == "validate" else cli.trainer.test
    prefix = "evaluation" if verb == "validate" else "test"
    with started(cli.trainer, [verb, *arguments], lambda: "nothing was evaluated"):
        run(cli.model, ckpt_path=str(cli.checkpoint), verbose=False)
    if cli.trainer.global_rank > 0:
        return 0
    metrics = cli.trainer.callback_metrics
    print(evaluated(verb, {key.removeprefix(f"{prefix}/"): float(value) for key, value in metrics.items()}))
    return 0


def fit(cli: FitCLI) -> int:
    """Train, and print the summary; of several processes the first one writes and speaks."""
    trainer, checkpoint = cli.trainer, str(cli.checkpoint) if cli.checkpoint else None
    advice = functools.partial(how_to_go_on, trainer, cli.out, cli.config.modules)
    envs = envs_per_process(cli.model.num_envs, trainer.world_size, cli.model.ppo)
    if trainer.global_rank > 0:
        return fit_along(cli, checkpoint, advice)
    trainers.check_training_products(trainer, cli.model.ppo)
    check_needs(cli.model, envs, str(trainer.precision))
    check_space(cli.out, cli.model)
    if not cli.resumes and cli.model.config.init_from:
        begin_with(cli.model.fresh_model(), cli.model.config.init_from)  # before there is a folder
    with contextlib.ExitStack() as stack:
        logged = stack.enter_context(own_folder(cli.out, cli.resumes, cli.config.overwrite))
        log = stack.enter_context(log_to(cli.out))
        stack.enter_context(told_in_one_line(cli.out, cli.model, advice))
        log.debug(cli.command)
        begin_folder(cli.out, cli.model.config, trainer, None if cli.resumes or not cli.config.overwrite else logged)
        hint_at_retention(cli.model)
        stack.enter_context(steady_memory(cli.model.ppo.recompute is not None))
        go_on_logging(trainer, cli.out, cli.resumes, cli.env_steps, cli.model.config.plain())
        stack.push(lambda kind, *_: end_wandb(trainer.loggers, kind))
        with started(trainer, ["fit", *cli.given], advice):
            trainer.fit(cli.model, ckpt_path=checkpoint)
        if cli.record.result is None:
            raise UsageError("nothing was trained: trainer.max_time leaves no iteration")
        table = summary(cli.record.result, cli.out)
        plain_console().print(table)
        log.debug(as_text(table))
    return 0


def fit_along(cli: FitCLI, checkpoint: str | None, advice: Callable[[], str]) -> int:
    """Train as a process after the first; say only what the first one cannot know."""
    logging.getLogger("memsuite").setLevel(logging.CRITICAL)
    try:
        told, begun = told_in_one_line(cli.out, cli.model, advice), started(cli.trainer, ["fit", *cli.given], advice)
        with told, steady_memory(cli.model.ppo.recompute is not None), begun:
            cli.trainer.fit(cli.model, ckpt_path=checkpoint)
    except (Stopped, UsageError) as end:
        if not (end.together if isinstance(end, Stopped) else PARENT in os.environ):
            raise
        time.sleep(1)  # who started us ends the others once one has ended: let the first one say why before
        return end.status if isinstance(end, Stopped) else 2
    return 0
