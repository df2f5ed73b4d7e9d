"""Shared parts of the measurements: a quiet process, rates of repeated work, and a brief training run.

Rates are environment steps per second of CPU time (user and system, of this process) and of wall-clock time, as medians
over repeats.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from memsuite.bench.variants import arguments_of
from memsuite.callbacks import ProgressBar
from memsuite.launch.allocator import keep_freed_memory, steady_memory
from memsuite.launch.trainer import TRAINER_DEFAULTS, quiet_lightning
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.storage import MetricsCSV

Mark = dict[str, tuple[float, float]]  # wall-clock and CPU seconds of each section of an iteration


# The settings that the peers use as well: one draw per step, a critic, four passes over a rollout.
PEERS_PPO = PPOConfig(
    draws=1,
    advantage="gae",
    learning_rate=1e-3,
    recurrent_lr_scale=0.01,
    epochs=4,
    minibatches=4,
    entropy_coefficient=0.1,
    normalise_advantages=True,
    discount=0.99,
    gae_lambda=0.95,
)


def prepare(threads: int = 1) -> None:
    """Prepare this process for measurements: no advice messages, memory that is kept, a fixed number of threads."""
    quiet_lightning()
    logging.getLogger("memsuite").setLevel(logging.WARNING)
    keep_freed_memory()
    torch.set_num_threads(threads)


def rates(steps: int, work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Return the number of steps that ``work`` makes per second of CPU time and of wall-clock time.

    Args:
        steps: environment steps that one call of ``work`` makes.
        work: the work to measure; it is called once before the measurement.
        repeats: number of measurements, of at least 50 ms each; their median is returned.
    """
    began = time.perf_counter()
    work()
    loops = max(1, round(0.05 / max(time.perf_counter() - began, 1e-6)))
    cpus, walls = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(loops):
            work()
        walls.append((time.perf_counter() - wall) / loops)
        cpus.append((time.process_time() - cpu) / loops)
    return {
        "steps_per_cpu_second": steps / statistics.median(cpus),
        "steps_per_second": steps / statistics.median(walls),
    }


class Cycles(Callback):
    """Record, at the start of every iteration, both clocks and the seconds of the module's sections so far."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Record one mark."""
        module = cast(MemoryPPO, pl_module)
        mark = {name: (spent[0], spent[1]) for name, spent in module.seconds.items()}
        self.marks.append(mark | {"total": (time.perf_counter(), time.process_time())})


def train_briefly(
    controller: str,
    num_envs: int,
    horizon: int,
    count: int,
    cycles: Cycles,
    device: str,
    ppo: PPOConfig = PEERS_PPO,
) -> MemoryPPO:
    """Train the benchmark's work through Lightning, and return the trained module.

    The work is the one on which published PPO implementations are measured: delayed cue with 8 cues, rollouts of one
    whole episode, one layer of hidden width 128, 4 epochs of 4 minibatches along environments, full backpropagation
    through time.

    Args:
        controller: name of the sequence model, with arguments as in :mod:`memsuite.bench.variants`.
        num_envs: number of environments.
        horizon: length of an episode in steps.
        count: number of iterations.
        cycles: records the clocks.
        device: Lightning's name of the accelerator.
        ppo: settings of PPO; the default are the peers' settings.
    """
    asked = arguments_of(controller)
    module = MemoryPPO(
        horizon=horizon,
        task_args={"num_cues": 8, "vocabulary": 8},
        controller=asked["controller"],
        controller_args={"depth": 1} | asked["controller_args"],
        num_envs=num_envs,
        steps=count * num_envs * horizon,
        ppo=ppo,
    )
    with tempfile.TemporaryDirectory() as folder, steady_memory():
        settings: dict[str, Any] = {**TRAINER_DEFAULTS, "logger": MetricsCSV(folder), "accelerator": device}
        trainer = pl.Trainer(**settings, callbacks=[ProgressBar(), cycles], limit_val_batches=0)
        trainer.fit(module)
    return module


def spent(marks: list[Mark], name: str, clock: int, warm_up: int = 2) -> float:
    """Return the median seconds of an iteration in a section.

    Args:
        marks: the marks of :class:`Cycles`.
        name: the section; ``total`` for the whole iteration.
        clock: 0 for wall-clock time, 1 for CPU time.
        warm_up: number of iterations at the beginning that are ignored.
    """
    times = [mark[name][clock] for mark in marks[warm_up:]]
    return statistics.median(after - before for before, after in pairwise(times))


def parameter_count(module: MemoryPPO) -> int:
    """Return the number of parameters of a module's network."""
    return sum(parameter.numel() for parameter in module.model.parameters())
