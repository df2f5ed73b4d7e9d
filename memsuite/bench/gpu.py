"""``memsuite bench gpu``: training in 4,096 environments of 1,000 steps, and the time to learn the golden task.

Every measurement runs in its own process and has a time limit. If one is slow or runs out of memory, the others are
still measured, and the report gives the reason for each one that did not finish.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.table import Table

from memsuite.bench.measure import Cycles, parameter_count, prepare, spent, train_briefly
from memsuite.callbacks import StopAtTarget
from memsuite.errors import UsageError
from memsuite.launch.trainer import TRAINER_DEFAULTS
from memsuite.module import MemoryPPO

NUM_ENVS, HORIZON = 4096, 1000
CONTROLLERS = ("gru", "lru", "pseudo_mamba", "mamba", "transformer")
LIMIT = 45  # seconds for a measurement, so that `make gpu-check` with its tests stays below eight minutes
ITERATIONS = 4  # the first one warms up, and the last one cannot be timed because no iteration follows it
GOLDEN: dict[str, Any] = {"task_args": {"num_cues": 8}, "horizon": 200, "num_envs": 32, "steps": 200_000}


def measure(
    console: Console,
    device: str = "cuda",
    num_envs: int = NUM_ENVS,
    horizon: int = HORIZON,
    controllers: tuple[str, ...] = CONTROLLERS,
) -> dict[str, Any]:
    """Measure every controller, then the golden task.

    Args:
        console: shows the current measurement.
        device: Lightning's name of the accelerator.
        num_envs: environments of the training runs.
        horizon: length of an episode in steps.
        controllers: names of the sequence models.

    Raises:
        UsageError: PyTorch finds no GPU.
    """
    from memsuite.ops.build import cuda

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("this needs a GPU that PyTorch can use, but torch.cuda.is_available() is false here")

    training = []
    for controller in controllers:
        row = {"controller": controller, "num_envs": num_envs, "horizon": horizon}
        with console.status(f"training {controller} on {device}"):
            training.append(row | apart("training", device, controller, str(num_envs), str(horizon)))
    with console.status(f"the golden task on {device}"):
        golden = apart("golden", device)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    kernels = {"compiled": cuda.STATUS.library is not None, "reason": cuda.STATUS.reason}
    return {"device": name, "kernels": kernels, "training": training, "golden": golden}


def apart(*arguments: str) -> dict[str, Any]:
    """Run one measurement in a separate process; return its numbers, or the reason for their absence."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "memsuite.bench.gpu", *arguments]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished after {LIMIT} s"}
    wall = time.perf_counter() - began
    if child.returncode:
        return {"failed": (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1][:300]}
    return {**json.loads(child.stdout.strip().splitlines()[-1]), "process_seconds": wall}


def measure_training(device: str, controller: str, num_envs: str, horizon: str) -> dict[str, Any]:
    """Return the environment steps per second of whole iterations through Lightning, and the peak GPU memory."""
    cycles = Cycles()
    module = train_briefly(controller, int(num_envs), int(horizon), ITERATIONS, cycles, device)
    steps, wall = int(num_envs) * int(horizon), spent(cycles.marks, "total", 0, warm_up=1)
    shares = {name: spent(cycles.marks, name, 0, warm_up=1) / wall for name in ("rollout", "update")}
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {
        "steps_per_second": steps / wall,
        "share": shares,
        "gigabytes": memory,
        "parameters": parameter_count(module),
    }


def measure_golden(device: str) -> dict[str, Any]:
    """Train the golden task until greedy success reaches its target; ``process_seconds`` is that time."""
    module = MemoryPPO(**GOLDEN)
    stop = StopAtTarget(patience=1)
    settings: dict[str, Any] = {**TRAINER_DEFAULTS, "accelerator": device, "val_check_interval": 5}
    pl.Trainer(**settings, callbacks=[stop]).fit(module)
    success = module.evaluate(module.evaluation_episodes, "test")["success"]
    return {"env_steps": module.env_steps, "success": success, "reached": success >= module.preset.target_success}


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: one row for each training run, and the golden task as the caption."""
    golden = report["golden"]
    below = golden.get("failed") or (
        f"golden task: success {golden['success']:.3f} after {golden['env_steps']:,} steps and "
        f"{golden['process_seconds']:.1f} s from start to end"
    )
    found = Table("controller", "environments", "horizon", "steps / s", "GB", title=report["device"], caption=below)
    for row in report["training"]:
        speed = row.get("failed") or f"{row['steps_per_second']:,.0f}"
        memory = f"{row['gigabytes']:.1f}" if row.get("gigabytes") else ""
        found.add_row(row["controller"], f"{row['num_envs']:,}", f"{row['horizon']:,}", speed, memory)
    return found


if __name__ == "__main__":
    prepare(torch.get_num_threads())
    what, *rest = sys.argv[1:]
    print(json.dumps((measure_training if what == "training" else measure_golden)(*rest)))
