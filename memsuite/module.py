"""MemoryPPO: one PPO iteration per training step, with full backpropagation through time, and its bookkeeping."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from memsuite.distributed import gathered, require_same, world_size
from memsuite.ops.products import products_in
from memsuite.rl import (
    Actor,
    ActorCritic,
    AdvantageScale,
    Iterations,
    collect,
    envs_per_process,
    evaluate,
    gae,
    rollout_outcome,
    stream,
)
from memsuite.rl.credit import credit_of
from memsuite.rl.guard import UpdateGuard
from memsuite.rl.needs import check_needs
from memsuite.rl.optimizer import make_optimizer
from memsuite.rl.outcome import STATISTICS, gather_statistics
from memsuite.rl.resolve import build_config, model_of, plan, resolve, shares_scripts
from memsuite.rl.saved.classes import own_defaults
from memsuite.rl.saved.fits import check_saved
from memsuite.rl.saved.restore import restored
from memsuite.rl.saved.resume import (
    acting_state,
    make_ready,
    open_streams,
    own_state,
    set_global_random_states,
    start_acting,
)
from memsuite.rl.shared_walk import share
from memsuite.rl.update import Update, learn_from_shared, learn_from_trajectory
from memsuite.runs import SCHEMA, RunConfig
from memsuite.runs.checkpoints import begin_with
from memsuite.runs.ppo import ResolvedPPO
from memsuite.runs.trust import sealed
from memsuite.system import Seconds
from memsuite.trainers import check_start
from memsuite.trial import try_out
from memsuite.types import Trajectory

log = logging.getLogger("memsuite")


class MemoryPPO(pl.LightningModule):
    """Train a controller on a memory task with PPO.

    A training step is one iteration: a rollout, advantages, epochs of minibatches along environments, each with full
    backpropagation through time. The whole run is one epoch: a Trainer that asks for more epochs trains no more steps.

    Args:
        config: the settings; None for the defaults.
        settings: single settings that replace those of ``config``, by the names of :class:`~memsuite.runs.RunConfig`:
            ``MemoryPPO(task="copy_memory", seed=1, ppo=PPOConfig(epochs=2))``.

    Attributes:
        config: the settings with every default filled in. Every checkpoint contains them, and they are enough to build
            this module again (:func:`memsuite.load`), even if the defaults have changed.
    """

    _running_return: Tensor

    def __init__(self, config: RunConfig | None = None, **settings: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        given, self.course = plan(build_config(config, settings))
        self.preset, self.task = self.course.preset, self.course.full_task
        self.config = resolve(given, self.course)
        self.ppo = ppo = cast(ResolvedPPO, self.config.ppo)
        self.num_envs, self.seed = cast(int, self.config.num_envs), self.config.seed
        self.evaluation_episodes = cast(int, self.config.evaluation_episodes)
        self.credit = credit_of(ppo, self.task)
        self.model = self.fresh_model()
        self.shares = shares_scripts(self.config)
        self.advantage_scale = AdvantageScale()
        self.guard = UpdateGuard(ppo.max_skipped_updates)
        self.actor: Actor | None = None
        self.seconds = Seconds()
        self._generators: dict[str, torch.Generator] = {}
        self._resume: Any = None
        self._stream = Iterations(self.course)

    @property
    def iteration(self) -> int:
        """Iterations done so far."""
        return self.course.iteration

    @property
    def env_steps(self) -> int:
        """Environment steps trained on so far."""
        return self.course.env_steps

    def fresh_model(self) -> ActorCritic:
        """Build the network with the initial weights of the run's seed."""
        return model_of(self.config, self.task)

    def train_on(self, args: dict[str, int]) -> None:
        """Train on the task with these arguments, in new episodes, from the next rollout on.

        Evaluations keep the task's own arguments. A checkpoint contains the arguments of training.
        """
        self.course.train_on(args)
        if self.actor is not None:
            self._act(len(self._running_return), None)

    def _act(self, num_envs: int, saved: dict[str, Any] | None) -> None:
        task = self.course.task
        self.actor, self._running_return = start_acting(task, self.model, num_envs, self._generators, saved)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running episodes out of a copy: training the copy begins new ones."""
        return {**super().__getstate__(), "actor": None, "_generators": {}}

    @_restricted_classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, map_location: Any = None, **settings: Any) -> MemoryPPO:  # type: ignore[override]
        """Build the saved module with its settings (:func:`~memsuite.rl.saved.restore.restored`)."""
        return restored(cls, checkpoint_path, map_location, settings)

    # -- Lightning's hooks ----------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser of the run."""
        return make_optimizer(self.model, self.ppo)

    def train_dataloader(self) -> Iterations:
        """Return the iterations of the run."""
        return self._stream

    def val_dataloader(self) -> list[str]:
        """Return one batch: the name of the random stream of the validation episodes."""
        return ["validation"]

    def test_dataloader(self) -> list[str]:
        """Return one batch: the stream of the test episodes, other than validation's."""
        return ["test"]

    def setup(self, stage: str) -> None:
        """Check that all processes agree, the trainer suits and the memory is enough; try what is the user's own."""
        check_start(self.trainer, self.config)
        check_needs(self, self.num_envs // world_size() if stage == "fit" else 0, str(self.trainer.precision))
        try_out(self.config, self.task, self.model, self.trainer.strategy.root_device, str(self.trainer.precision))

    def on_fit_start(self) -> None:
        """Start the episodes, or continue those of the checkpoint."""
        require_same({"iteration": self.iteration})
        self._generators = open_streams(self.seed, self.device, self.iteration)
        if self._resume is not None:
            for logger in self.loggers:
                if hasattr(logger, "rewind"):
                    logger.rewind(self.env_steps)
            self._resume = own_state(self._resume["ranks"], self.seed, self.iteration, self._generators)
        elif self.config.init_from is not None and not self.iteration:
            begin_with(self.model, self.config.init_from)
        self._act(envs_per_process(self.num_envs, world_size(), self.ppo) // self.ppo.draws, self._resume)

    def on_train_start(self) -> None:
        """Restore the global generators last, when nothing else draws from them any more."""
        set_global_random_states(self._resume, self.seed)
        self._resume = None

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        self.course.task.close()

    def on_train_epoch_end(self) -> None:
        """End a training of many or unlimited epochs when the budget is used."""
        self.trainer.should_stop = self.trainer.should_stop or self.iteration >= self.course.iterations

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration and the whole state of the next iteration, as plain values and tensors."""
        config = self.config.plain()
        checkpoint["memsuite"] = {"schema": SCHEMA, **sealed(config), **self.course.state_dict()}
        if defaults := own_defaults(config):
            checkpoint["memsuite"]["defaults"] = defaults
        if self.actor is not None:
            checkpoint["memsuite"]["run"] = {
                "ranks": gathered(acting_state(self.course.task, self.actor, self._running_return, self._generators)),
                "guard": self.guard.state_dict(),
                "precision": str(self.trainer.precision),
                "seconds": {name: list(spent) for name, spent in self.seconds.items()},
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the entries of :meth:`on_save_checkpoint`; they are applied when ``fit`` starts."""
        check_saved(checkpoint, self, self.trainer)
        saved = checkpoint["memsuite"]
        make_ready(self, checkpoint.get("loops"), saved["iteration"])
        self.course.load_state_dict(saved)
        self._resume = saved.get("run")
        if self._resume is not None:
            self.seconds.update(self._resume["seconds"])
            self.guard.load_state_dict(self._resume["guard"])

    # -- one iteration --------------------------------------------------------------------------------------------

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Collect a rollout and learn from it."""
        with products_in(self.ppo.products), self.seconds.timed("training"):
            statistics = self._learn_from_shared() if self.shares else self._learn_from_trajectory()
            self.course.count()
            with self.seconds.timed("logging"):
                self._record(statistics)

    def _learn_from_shared(self) -> Tensor:
        """Draw scripts, then act in each minibatch of them and learn from it; return the same as :meth:`update`."""
        assert self.actor is not None
        with self.seconds.timed("rollout"):
            scale = self.advantage_scale if self.ppo.normalise_advantages else None
            given = self.course.task, self.model, self.actor, self.ppo, self.config.objective, scale
            rollout = share(self.course.rollout_length, *given, self._generators["actions"])
        with self.seconds.timed("update"):
            scripts, permutations = len(self.actor.timestep.is_first), self._generators["permutations"]
            found = learn_from_shared(self._step(), rollout, scripts, self.ppo, permutations)
            self.actor = rollout.end()
        return gather_statistics(found, rollout.outcome())

    def _learn_from_trajectory(self) -> Tensor:
        assert self.actor is not None
        with self.seconds.timed("rollout"):
            given = self.course.task, self.model, self.actor, self.course.rollout_length
            trajectory, self.actor = collect(*given, self._generators["actions"])
        with self.seconds.timed("update"):
            return self.update(trajectory)

    def _step(self) -> Update:
        """Return the object that applies a minibatch's loss, at the current learning rate."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        factor = self.course.left if self.ppo.anneal else 1.0
        for group in optimizer.param_groups:
            group["lr"] = self.ppo.learning_rate * group["scale"] * factor
        apart = self.ppo.gradient_clip == "by_group"
        groups = list(self.model.parameters_by_part().values()) if apart else [list(self.model.parameters())]
        return Update(groups, optimizer, self.manual_backward, self.guard, self.ppo.max_grad_norm)

    def update(self, trajectory: Trajectory) -> Tensor:
        """Run the epochs over one rollout; return STATISTICS, then one flag per update: 1 if it was skipped."""
        ended, rewards = trajectory.terminated | trajectory.truncated, trajectory.rewards * self.ppo.reward_scale
        values, following = trajectory.values, trajectory.next_values
        advantages, returns = gae(rewards, values, following, ended, *self.credit(trajectory))
        scaled = self.advantage_scale(advantages) if self.ppo.normalise_advantages else advantages
        given = self.model, trajectory, scaled, returns, self.ppo, self._generators["permutations"]
        found = learn_from_trajectory(self._step(), *given)
        outcome, self._running_return = rollout_outcome(trajectory, returns, self._running_return)
        return gather_statistics(found, outcome)

    def _record(self, statistics: Tensor) -> None:
        """Copy the iteration's statistics to the host, once, and pass them to the loggers."""
        values = statistics.tolist()
        self.statistics = dict(zip(STATISTICS, values, strict=False))
        flags = values[len(STATISTICS) :]
        skipped = int(sum(flags))
        row = {"iteration": self.iteration, **self.statistics, "skipped_updates": skipped}
        row |= {f"training_{name}": value for name, value in self.course.args.items()}
        self.log_row(row | ({"world_size": world_size()} if world_size() > 1 else {}))
        if skipped:
            log.warning("%d steps: %d updates skipped, loss or gradient not finite", self.env_steps, skipped)
        self.guard.count(flags)

    def log_row(self, row: dict[str, Any]) -> None:
        """Pass one row to every logger, with environment steps as the x axis."""
        for logger in self.loggers:
            logger.log_metrics(row, step=self.env_steps)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def evaluate(self, episodes: int, name: str) -> dict[str, float]:
        """Act greedily in the first ``episodes`` of the named stream (:func:`memsuite.rl.evaluate`).

        The episodes of a stream are the same in every call.
        """
        with self.seconds.timed("evaluation"):
            return evaluate(self.task, self.model, episodes, stream(self.seed, name, self.device))

    def validation_step(self, batch: str, batch_idx: int) -> None:
        """Evaluate; during ``fit`` on a quarter of the episodes, with a row for the loggers."""
        on_the_way = self.trainer.state.fn == "fit"
        outcome = self.evaluate(max(1, self.evaluation_episodes // (4 if on_the_way else 1)), batch)
        self.log_dict({f"evaluation/{key}": float(value) for key, value in outcome.items()}, batch_size=1, logger=False)
        if on_the_way:
            self.log_row({"iteration": self.iteration, **{f"evaluation_{key}": v for key, v in outcome.items()}})

    def test_step(self, batch: str, batch_idx: int) -> None:
        """Evaluate on the test episodes."""
        outcome = self.evaluate(self.evaluation_episodes, batch)
        self.log_dict({f"test/{key}": float(value) for key, value in outcome.items()}, batch_size=1, logger=False)
