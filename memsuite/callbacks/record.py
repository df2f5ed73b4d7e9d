"""The record of a run: its settings, its success, its hardware and its cost."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from memsuite.callbacks.stopping import evaluated, reaches
from memsuite.distributed import total, world_size
from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.module import MemoryPPO
from memsuite.rl.moved import memory_moved
from memsuite.runs import RunResult
from memsuite.runs.checkpoints import begin_with
from memsuite.runs.folder import RESULT
from memsuite.runs.provenance import commit, hardware, kernels, versions
from memsuite.system import cpu_seconds

log = logging.getLogger("memsuite")
ROLLOUTS = 10  # the window that other published code uses


class RunRecord(Callback):
    """Evaluate at the end of ``fit``, write ``result.json``, and keep the values that a summary needs.

    The result names the command line that started the run, and after it, joined by ``&&``, those that extended it. One
    that only goes on, after the run was killed, is not among them, unless the checkpoint is of a version without them.

    Args:
        folder: the run folder.
        command: the command line of this process; None takes that of the interpreter.
    """

    def __init__(self, folder: str | Path, command: str | None = None) -> None:
        self.folder = Path(folder)
        # As text, though a process that reads names as ASCII has them otherwise.
        self.command = os.fsencode(command or shlex.join(sys.argv)).decode(errors="backslashreplace")
        self.steps_to_target: int | None = None
        self.seconds_to_target: tuple[float, float] | None = None
        self.steps_to_90_sampled: int | None = None
        self._sampled: list[float] = []
        self._commands: list[tuple[str, int]] = []  # of earlier processes, with the steps that each asked for
        self.result: dict[str, Any] | None = None
        self._spent = (0.0, 0.0)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks; a resumed run continues its earlier count."""
        self._began, self._device = (time.perf_counter(), cpu_seconds()), pl_module.device
        steps = int(cast(MemoryPPO, pl_module).config.steps or 0)
        if not self._commands or self._commands[-1][1] != steps:
            self._commands.append((self.command, steps))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Record when nine in ten of the actions sampled for training were first right.

        This is the field's usual measure of sample efficiency: a mean over the last ten rollouts, without evaluations.
        """
        module = cast(MemoryPPO, pl_module)
        success = module.statistics["success"]
        if self.steps_to_90_sampled is not None or math.isnan(success):
            return
        self._sampled = [*self._sampled[1 - ROLLOUTS :], success]
        if len(self._sampled) == ROLLOUTS and reaches(sum(self._sampled) / ROLLOUTS, 0.9):
            self.steps_to_90_sampled = module.env_steps

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record when the target was first reached, in steps and in seconds since the start, evaluations included."""
        module = cast(MemoryPPO, pl_module)
        if trainer.state.fn != "fit":
            return
        success = evaluated(trainer)
        reached = f"return {evaluated(trainer, 'return_mean'):.5g}" if math.isnan(success) else f"success {success:.3f}"
        log.debug("%d steps: greedy %s", module.env_steps, reached)
        if self.steps_to_target is None and reaches(success, module.preset.target_success):
            self.steps_to_target, self.seconds_to_target = module.env_steps, self._spent_so_far()

    def state_dict(self) -> dict[str, Any]:
        """Return the values that the record needs after a resume."""
        seconds = list(self.seconds_to_target) if self.seconds_to_target else None
        spent = list(self._spent_so_far())
        sampled = {"steps_to_90_sampled": self.steps_to_90_sampled, "sampled": self._sampled}
        reached = {"steps_to_target": self.steps_to_target, "seconds_to_target": seconds}
        return {**reached, "spent": spent, "commands": [list(one) for one in self._commands], **sampled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values of :meth:`state_dict`."""
        self.steps_to_target = state_dict["steps_to_target"]
        seconds = state_dict.get("seconds_to_target")  # not in older checkpoints
        self.seconds_to_target = tuple(seconds) if seconds else None
        self._spent = tuple(state_dict["spent"])
        self.steps_to_90_sampled = state_dict.get("steps_to_90_sampled")  # not in older checkpoints either
        self._sampled = state_dict.get("sampled", [])
        self._commands = [(one, steps) for one, steps in state_dict.get("commands") or []]

    def _spent_so_far(self) -> tuple[float, float]:
        """Return the wall seconds, and the CPU seconds of all processes."""
        wall, cpu = time.perf_counter() - self._began[0], cpu_seconds() - self._began[1]
        if world_size() > 1:
            cpu = float(total(torch.tensor(cpu, dtype=torch.float64, device=self._device)))
        return self._spent[0] + wall, self._spent[1] + cpu

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate on the test episodes and write the result."""
        module = cast(MemoryPPO, pl_module)
        with trainer.precision_plugin.test_step_context():  # as the evaluations on the way
            outcome = module.evaluate(module.evaluation_episodes, "test")
        wall, cpu = self._spent_so_far()
        if not trainer.is_global_zero:
            return
        wall_to_target, cpu_to_target = self.seconds_to_target or (None, None)
        self.result = RunResult(
            **describe_run(module, outcome),
            steps_to_target=self.steps_to_target,
            wall_seconds_to_target=wall_to_target,
            cpu_seconds_to_target=cpu_to_target,
            steps_to_90_sampled=self.steps_to_90_sampled,
            wall_seconds=wall,
            cpu_seconds=cpu,
            kernels=kernels(module.device),
            hardware=hardware(module.device),
            versions=versions(),
            commit=commit(),
            command=" && ".join(command for command, _ in self._commands),
            config=module.config.plain(),
        ).as_dict()
        write_json(self.folder / RESULT, self.result)


def describe_run(module: MemoryPPO, outcome: dict[str, float]) -> dict[str, Any]:
    """Return the settings and the success of a run, under the names of :class:`~memsuite.runs.RunResult`."""
    task, preset = module.task, module.preset
    anchors = task.anchors()
    training = module.seconds["training"][0]
    return {
        "task": preset.task,
        "difficulty": preset.difficulty,
        "controller": module.config.controller,
        "seed": module.config.seed,
        "horizon": task.horizon,
        "env_steps": module.env_steps,
        "iterations": module.iteration,
        "episodes_evaluated": int(outcome["episodes"]),
        **{name: outcome[name] for name in ("success", "success_low", "success_high")},
        **{name: outcome[name] for name in ("return_mean", "return_low", "return_high")},
        "score": anchors.score(outcome["success"]),
        "chance": anchors.memoryless,
        "target_success": preset.target_success,
        "reached_target": outcome["success"] >= preset.target_success,
        "random": anchors.random,
        "oracle": anchors.oracle,
        "unbound": anchors.unbound,
        "steps_to_remember": task.steps_to_remember(),
        "steps_per_second": module.env_steps / training if training else None,
        "evaluation_share": module.seconds["evaluation"][0] / training if training else None,
        "world_size": world_size(),
        "precision": str(module.trainer.precision),
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        "skipped_updates": module.guard.total,
        "curriculum": module.course.curriculum,
        "state_floats": module.model.controller.state_floats(),
        "encoder": None if module.model.encoder is None else module.model.encoder.describe(),
        "objective": module.config.objective,
        "init_from": module.config.init_from,
        "scripts": round(module.course.episodes / module.ppo.draws),
        "memory_moved": how_far_moved(module),
    }


def how_far_moved(module: MemoryPPO) -> dict[str, float] | None:
    """Return how far training has moved each part of the network (:func:`~memsuite.rl.memory_moved`).

    None if the run began with the weights of another run whose files no longer exist at their path.
    """
    start = module.fresh_model()
    if module.config.init_from is not None:
        try:
            begin_with(start, module.config.init_from)
        except UsageError:
            return None
    return memory_moved(module.model, start)
