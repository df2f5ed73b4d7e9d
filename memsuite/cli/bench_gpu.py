"""``memsuite bench --gpu``: training at 4,096 environments and 1,000 steps, and the golden task's time to target.

Every measurement is a process of its own with a limit of time, so that one that is slow or out of memory costs the
others nothing; what did not finish is in the report with the reason. Written without a GPU at hand: not yet run on one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

NUM_ENVS, HORIZON = 4096, 1000
CONTROLLERS = ("gru", "lru", "pseudo_mamba", "mamba", "transformer")
LIMIT = 45  # seconds of a measurement: all of it, and the tests before it, take less than eight minutes
ITERATIONS = 4  # of which the first warms up, and the last has no successor
GOLDEN: dict[str, Any] = {"task_args": {"num_cues": 8}, "horizon": 200, "num_envs": 32, "steps": 200_000}


def bench_gpu(
    console: Console,
    device: str = "cuda",
    num_envs: int = NUM_ENVS,
    horizon: int = HORIZON,
    controllers: tuple[str, ...] = CONTROLLERS,
) -> dict[str, Any]:
    """Measure every controller, then the golden task."""
    from memsuite.ops import _build_cuda

    training = []
    for controller in controllers:
        row = {"controller": controller, "num_envs": num_envs, "horizon": horizon}
        with console.status(f"training {controller} on {device}"):
            training.append(row | apart("training", device, controller, str(num_envs), str(horizon)))
    with console.status(f"the golden task on {device}"):
        golden = apart("golden", device)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    kernels = {"compiled": _build_cuda.STATUS.library is not None, "reason": _build_cuda.STATUS.reason}
    return {"device": name, "kernels": kernels, "training": training, "golden": golden}


def apart(*arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own; return its numbers, or why there are none."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "memsuite.cli.bench_gpu", *arguments]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished after {LIMIT} s"}
    wall = time.perf_counter() - began
    if child.returncode:
        return {"failed": (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1][:300]}
    return {**json.loads(child.stdout.strip().splitlines()[-1]), "process_seconds": wall}


def measure_training(device: str, controller: str, num_envs: str, horizon: str) -> dict[str, Any]:
    """Return environment steps per second of whole iterations through Lightning, and the most memory they held."""
    from memsuite.cli.bench import _Cycles, spent, train_briefly

    cycles = _Cycles()
    module = train_briefly(controller, int(num_envs), int(horizon), ITERATIONS, cycles, device)
    steps, wall = int(num_envs) * int(horizon), spent(cycles.marks, "total", 0, warm_up=1)
    shares = {name: spent(cycles.marks, name, 0, warm_up=1) / wall for name in ("rollout", "update")}
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {
        "steps_per_second": steps / wall,
        "share": shares,
        "gigabytes": memory,
        "parameters": sum(p.numel() for p in module.model.parameters()),
    }


def measure_golden(device: str) -> dict[str, Any]:
    """Train the golden task until greedy success reaches its target; ``process_seconds`` is then the time to it."""
    import lightning.pytorch as pl

    from memsuite.callbacks import StopAtTarget
    from memsuite.cli.trainer import TRAINER_DEFAULTS
    from memsuite.module import MemoryPPO

    module = MemoryPPO(**GOLDEN)
    stop = StopAtTarget(patience=1)
    settings: dict[str, Any] = {**TRAINER_DEFAULTS, "accelerator": device, "val_check_interval": 5}
    pl.Trainer(**settings, callbacks=[stop]).fit(module)
    success = module.evaluate(module.evaluation_episodes, "test")["success"]
    return {"env_steps": module.env_steps, "success": success, "reached": success >= module.preset.target_success}


def gpu_table(report: dict[str, Any]) -> Table:
    """Return the table of a report's training rows, and the golden task below it."""
    golden = report["golden"]
    below = golden.get("failed") or (
        f"golden task: success {golden['success']:.3f} after {golden['env_steps']:,} steps and "
        f"{golden['process_seconds']:.1f} s from start to end"
    )
    table = Table("controller", "environments", "horizon", "steps / s", "GB", title=report["device"], caption=below)
    for row in report["training"]:
        speed = row.get("failed") or f"{row['steps_per_second']:,.0f}"
        memory = f"{row['gigabytes']:.1f}" if row.get("gigabytes") else ""
        table.add_row(row["controller"], f"{row['num_envs']:,}", f"{row['horizon']:,}", speed, memory)
    return table


if __name__ == "__main__":
    from memsuite.cli.trainer import quiet_lightning

    quiet_lightning()
    what, *rest = sys.argv[1:]
    print(json.dumps((measure_training if what == "training" else measure_golden)(*rest)))
