"""``memsuite bench``: how fast the tasks draw, how fast the controllers train, and where an iteration's time goes.

One thread. Rates are environment steps per second of CPU time (user and system, of this process) and of wall time,
medians over repeats. Training is the work that the field's peers were measured on: delayed cue with 8 cues, 64
environments, one whole episode a rollout, hidden width 128, 4 epochs of 4 minibatches along environments, full
backpropagation through time.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from memsuite.callbacks import ProgressBar
from memsuite.cli.allocator import keep_freed_memory, modules_left_alone
from memsuite.cli.bench_gpu import bench_gpu, gpu_table
from memsuite.cli.bench_ops import bench_ops, ops_table
from memsuite.cli.bench_peers import bench_peers, parse_peers, peers_table
from memsuite.cli.bench_scaling import HORIZONS, bench_scaling, scaling_table
from memsuite.cli.bench_threads import bench_threads, threads_table
from memsuite.cli.plain import PlainParser, for_tables, names_among, whole_numbers
from memsuite.cli.trainer import TRAINER_DEFAULTS, quiet_lightning
from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.module import MemoryPPO
from memsuite.rl import PPOConfig
from memsuite.runs.provenance import commit, hardware, versions
from memsuite.storage import MetricsCSV
from memsuite.tasks import TASKS, ScriptedTask, Task, make_task

PARTS = ("environments", "training")  # and "scaling", "ops", "gpu", "threads" and "peers", which are asked for
# (horizon, environments): the usual sizes, then blocks of about as many steps from the shortest horizon to the longest.
BLOCKS = ((200, 64), (200, 1024), (50, 4096), (1000, 205), (5000, 41), (20000, 10))
SECTIONS = ("rollout", "update", "logging", "lightning")


def main(verb: str, arguments: list[str]) -> int:
    """Measure, print the tables (or JSON), and write the JSON file if one is asked for."""
    options = parse(arguments)
    quiet_lightning()
    keep_freed_memory()
    logging.getLogger("memsuite").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(stderr=True)
    report: dict[str, Any] = {"hardware": hardware(torch.device("cpu")), "versions": versions(), "commit": commit()}
    report["command"] = " ".join(["memsuite", verb, *arguments])
    if "environments" in options.only:
        with console.status("drawing episodes"):
            report["environments"] = bench_environments(options.tasks, options.repeats)
    if "training" in options.only:
        report["training"] = []
        for controller in options.controllers:
            for horizon in options.horizons:
                with console.status(f"training {controller} at horizon {horizon}"):
                    report["training"].append(bench_training(controller, horizon, options.repeats))
    if "scaling" in options.only:
        report["scaling"] = bench_scaling(options.controllers, options.horizons, options.repeats, console)
    if "ops" in options.only:
        with console.status("ops, compiled and not"):
            report["ops"] = bench_ops(options.repeats)
    if "gpu" in options.only:
        report["gpu"] = bench_gpu(console)
    if "peer" in options.only:
        report["peers"] = beside_peers(options, console)
    if "threads" in options.only:
        report["threads"] = bench_threads(
            options.threads, options.controllers, options.horizons, options.repeats, console
        )
    if options.out:
        write_json(Path(options.out), report)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for table in tables(report):
            for_tables().print(table)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite bench", description=__doc__.partition(":")[2])
    names: dict[str, Iterable[str]] = {"tasks": TASKS, "controllers": CONTROLLERS, "only": PARTS}
    for name, valid in names.items():
        parser.add_argument(f"--{name}", default=",".join(valid), help="comma-separated; default: all")
    parser.add_argument("--scaling", action="store_true", help="the cost of a step as the horizon grows, and only that")
    parser.add_argument("--ops", action="store_true", help="the ops against their references, and only that")
    parser.add_argument("--gpu", action="store_true", help="training on a GPU in large batches, and only that")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="training with one thread and with N in turn, and only that"
    )
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME=COMMAND",
        help="training, in turn with this command, whose last line is JSON with steps_per_cpu_second; may be repeated",
    )
    parser.add_argument("--horizons", help="comma-separated; default: 50,200,1000, for --scaling 200,1000,5000,20000")
    parser.add_argument("--repeats", type=int, default=5, help="counted repeats of each measurement; default: 5")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--out", help="write the JSON to this file too")
    options = parser.parse_args(arguments)
    if options.out and Path(options.out).is_dir():
        raise UsageError(f"--out {options.out} is a folder; name a file")
    for name, valid in names.items():
        setattr(options, name, names_among(name.removesuffix("s"), getattr(options, name), valid))
    asked = [part for part in ("scaling", "ops", "gpu", "threads", "peer") if getattr(options, part)]
    options.peer = parse_peers(options.peer or [])
    options.only = asked or options.only
    if options.gpu and not torch.cuda.is_available():
        raise UsageError("--gpu needs a device that PyTorch can use: torch.cuda.is_available() is false here")
    if options.threads is not None and options.threads < 2:
        raise UsageError(f"--threads is {options.threads}; the least to set against one is 2")
    if options.horizons is None:
        usual = "200" if options.peer or options.threads else "50,200,1000"
        options.horizons = ",".join(map(str, HORIZONS)) if options.scaling else usual
    options.horizons = whole_numbers("--horizons", options.horizons)
    if options.repeats < 1:
        raise UsageError(f"--repeats is {options.repeats}; the least is 1")
    return options


def rates(steps: int, work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Return the steps per CPU second and per second of ``work``: medians over repeats of at least 50 ms each."""
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


def bench_environments(tasks: list[str], repeats: int) -> list[dict[str, Any]]:
    """Measure every task at its medium size, in the blocks of :data:`BLOCKS`."""
    rows = []
    for name in tasks:
        scripted = issubclass(TASKS[name], ScriptedTask)
        for horizon, num_envs in BLOCKS if scripted else BLOCKS[:2]:
            task = make_task(name, "medium", horizon=horizon)
            generator = torch.Generator().manual_seed(0)
            steps, work = _environment_work(task, num_envs, generator)
            row = {"task": name, "num_envs": num_envs, "horizon": task.horizon}
            rows.append(row | {"scripted": isinstance(task, ScriptedTask)} | rates(steps, work, repeats))
    return rows


def _environment_work(task: Task, num_envs: int, generator: torch.Generator) -> tuple[int, Callable[[], Any]]:
    """Return the work of one measurement and the environment steps it makes: a whole script, or a step."""
    if isinstance(task, ScriptedTask):
        scripted = task
        return num_envs * task.horizon, lambda: scripted.script(num_envs, generator)
    task.reset(num_envs, generator)
    return num_envs, lambda: task.step(torch.randint(task.num_actions, (num_envs,), generator=generator))


class _Cycles(Callback):
    """Record the clocks at the start of every iteration, and what the module's sections had spent by then."""

    def __init__(self) -> None:
        self.marks: list[dict[str, tuple[float, float]]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Take one mark."""
        module = cast(MemoryPPO, pl_module)
        mark = {name: (spent[0], spent[1]) for name, spent in module.seconds.items()}
        self.marks.append(mark | {"total": (time.perf_counter(), time.process_time())})


def bench_training(controller: str, horizon: int, repeats: int) -> dict[str, Any]:
    """Train through Lightning and time whole iterations, from the start of one to the start of the next."""
    count = max(1, 400 // horizon) * repeats + 3  # two to warm up, and the last one has no successor
    cycles = _Cycles()
    module = train_briefly(controller, 64, horizon, count, cycles, "cpu")
    steps = 64 * horizon
    wall, cpu = (spent(cycles.marks, "total", clock) for clock in (0, 1))
    row = {
        "controller": controller,
        "horizon": horizon,
        "parameters": sum(p.numel() for p in module.model.parameters()),
    }
    row |= {"steps_per_cpu_second": steps / cpu, "steps_per_second": steps / wall}
    shares = {name: spent(cycles.marks, name, 1) / cpu for name in ("rollout", "update", "logging")}
    return row | {"share": shares | {"lightning": 1 - spent(cycles.marks, "training", 1) / cpu}}


def beside_peers(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure the controllers at the horizons in turn with the peers."""
    ours = {
        f"{controller}, H = {horizon}": partial(bench_training, controller, horizon, 2)
        for controller in options.controllers
        for horizon in options.horizons
    }
    return bench_peers(options.peer, ours, options.repeats, console)


def train_briefly(controller: str, num_envs: int, horizon: int, count: int, cycles: Callback, device: str) -> MemoryPPO:
    """Train for ``count`` iterations through Lightning."""
    module = MemoryPPO(
        horizon=horizon,
        task_args={"num_cues": 8, "vocabulary": 8},
        controller=controller,
        num_envs=num_envs,
        steps=count * num_envs * horizon,
        ppo=PPOConfig(epochs=4, minibatches=4, discount=0.99, gae_lambda=0.95),
    )
    with tempfile.TemporaryDirectory() as folder, modules_left_alone():
        settings: dict[str, Any] = {**TRAINER_DEFAULTS, "logger": MetricsCSV(folder), "accelerator": device}
        trainer = pl.Trainer(**settings, callbacks=[ProgressBar(), cycles], limit_val_batches=0)
        trainer.fit(module)
    return module


def spent(marks: list[dict[str, tuple[float, float]]], name: str, clock: int, warm_up: int = 2) -> float:
    """Return the median seconds an iteration spent in a section, by wall (0) or CPU (1) clock, warm-up left out."""
    times = [mark[name][clock] for mark in marks[warm_up:]]
    return statistics.median(after - before for before, after in pairwise(times))


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the tables of a report."""
    found = []
    if "environments" in report:
        table = Table("task", "environments", "horizon", "steps / CPU-s", "steps / s", title="Environment steps")
        for row in report["environments"]:
            speeds = [f"{row[key] / 1e6:,.1f} M" for key in ("steps_per_cpu_second", "steps_per_second")]
            table.add_row(row["task"], str(row["num_envs"]), str(row["horizon"]), *speeds)
        found.append(table)
    if "training" in report:
        table = Table("controller", "horizon", "steps / CPU-s", "steps / s", *SECTIONS, title="Training steps")
        for row in report["training"]:
            speeds = [f"{row[key]:,.0f}" for key in ("steps_per_cpu_second", "steps_per_second")]
            shares = [f"{100 * row['share'][name]:.1f}%" for name in SECTIONS]
            table.add_row(row["controller"], str(row["horizon"]), *speeds, *shares)
        found.append(table)
    if "scaling" in report:
        found.append(scaling_table(report["scaling"]))
    if "ops" in report:
        found.append(ops_table(report["ops"]))
    if "gpu" in report:
        found.append(gpu_table(report["gpu"]))
    if "threads" in report:
        found.append(threads_table(report["threads"]))
    if "peers" in report:
        found.append(peers_table(report["peers"]))
    return found
