"""``memsuite bench scaling``: the cost of a training step as the horizon grows, in time and in memory.

Every measurement runs in its own process, so that the peak memory is that of the measurement alone. It makes whole
training iterations on delayed cue in 8 environments: a rollout, and one epoch over one minibatch with full
backpropagation through time. A model is linear in the horizon if a step takes the same time and the same memory at
every horizon. The only models that are not linear in time are those that look at the whole episode anew at each step.
With ``--recompute N``, the intermediate values of N steps at a time are kept (``ppo.recompute``), and every horizon is
trained on once, without a warm-up: what is measured is the memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import prepare
from memsuite.bench.variants import arguments_of
from memsuite.controllers import controller_class
from memsuite.launch.allocator import steady_memory
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig, begin, collect, gae, minibatch_losses, stream

NUM_ENVS = 8
ENOUGH = 40_000  # smallest number of environment steps in a measurement
LONGEST_WINDOW = 5000  # steps; beyond them no model that looks at a window of the last steps, whose cost grows with it


def measure(
    console: Console, controllers: list[str], horizons: list[int], recompute: int | None, repeats: int
) -> list[dict[str, Any]]:
    """Measure every controller at every horizon; each round covers all horizons, so that they share the noise.

    Args:
        console: shows the current measurement.
        controllers: names of the sequence models, with arguments as in :mod:`memsuite.bench.variants`.
        horizons: episode lengths in steps.
        recompute: steps whose intermediate values are kept at a time; None for all.
        repeats: number of rounds; the medians are returned.
    """
    rows = []
    for controller in controllers:
        told = controller_class(arguments_of(controller)["controller"]).abilities
        bounded = told is None or told.state != "window"
        asked = [horizon for horizon in horizons if bounded or horizon <= LONGEST_WINDOW]
        runs: dict[int, list[dict[str, float]]] = {horizon: [] for horizon in asked}
        for repeat in range(repeats):
            for horizon in asked:
                with console.status(f"{controller} at horizon {horizon}, {repeat + 1} of {repeats}"):
                    runs[horizon].append(apart(controller, horizon, recompute))
        for horizon, found in runs.items():
            middle = {key: statistics.median(run[key] for run in found) for key in found[0]}
            rows.append({"controller": controller, "horizon": horizon, **middle})
    return rows


def apart(controller: str, horizon: int, recompute: int | None) -> dict[str, float]:
    """Run :func:`measure_one` in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_one, controller, horizon, recompute).result()


def measure_one(controller: str, horizon: int, recompute: int | None = None) -> dict[str, float]:
    """Return the cost of training per step: microseconds of CPU time, and kilobytes at the peak."""
    prepare()
    make_iteration(controller, 10, recompute)()
    before = peak_bytes()  # memory of Python, PyTorch and the first calls
    iterate = make_iteration(controller, horizon, recompute)
    if recompute is None:
        iterate()
    steps, spent = NUM_ENVS * horizon, []
    with steady_memory():
        for _ in range(max(1, ENOUGH // steps)):
            cpu = time.process_time()
            iterate()
            spent.append(time.process_time() - cpu)
    return {
        "microseconds": 1e6 * statistics.median(spent) / steps,
        "kilobytes": (peak_bytes() - before) / 1024 / steps,
        "peak_megabytes": peak_bytes() / 2**20,
    }


def make_iteration(controller: str, horizon: int, recompute: int | None) -> Any:
    """Return a function that collects one rollout and computes the loss and its gradient once."""
    ppo = PPOConfig(draws=1, advantage="gae", epochs=1, minibatches=1, entropy_coefficient=0.1, recompute=recompute)
    module = MemoryPPO(horizon=horizon, **arguments_of(controller), num_envs=NUM_ENVS, ppo=ppo)
    task, model, generator = module.task, module.model, stream(0, "task")
    actor = begin(task, model, NUM_ENVS, generator)
    columns = torch.arange(NUM_ENVS)

    def iterate() -> None:
        nonlocal actor
        trajectory, actor = collect(task, model, actor, horizon, generator)
        ended = trajectory.terminated | trajectory.truncated
        advantages, returns = gae(trajectory.rewards, trajectory.values, trajectory.next_values, ended, 0.99, 0.95)
        for share, terms in minibatch_losses(model, trajectory, advantages, returns, columns, module.ppo):
            (terms.total * share).backward()  # type: ignore[no-untyped-call]
        model.zero_grad()

    return iterate


def peak_bytes() -> int:
    """Return the largest memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(report: list[dict[str, Any]]) -> Table:
    """Lay out one row per controller: microseconds per step at each horizon, kilobytes at the two longest."""
    horizons = sorted({row["horizon"] for row in report})
    title = "Cost of a training step: CPU microseconds, and kilobytes at the peak"
    found = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    found.add_column("controller", no_wrap=True, min_width=16)
    for heading in [*(f"us {h:,}" for h in horizons), "last / first", *(f"kB {h:,}" for h in horizons[-2:])]:
        found.add_column(heading, justify="right", no_wrap=True)
    for controller in dict.fromkeys(row["controller"] for row in report):
        at = {row["horizon"]: row for row in report if row["controller"] == controller}
        times = [at[h]["microseconds"] if h in at else None for h in horizons]
        known = [value for value in times if value is not None]
        memory = [at[h]["kilobytes"] if h in at else None for h in horizons[-2:]]
        cells = [*times, known[-1] / known[0], *memory]
        formats = ["{:.1f}"] * len(times) + ["{:.2f}"] + ["{:.1f}"] * len(memory)
        found.add_row(controller, *("-" if c is None else f.format(c) for c, f in zip(cells, formats, strict=True)))
    return found
