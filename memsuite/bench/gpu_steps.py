"""The steps of ``memsuite bench gpu``; as a program, it prints what each step of a stage found as a line of JSON."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.bench.gpu import CLOSE
from memsuite.bench.measure import Cycles, parameter_count, prepare, spent, train_briefly
from memsuite.bench.op_cases import CASES
from memsuite.bench.variants import arguments_of
from memsuite.callbacks import StopAtTarget
from memsuite.controllers import Controller, make_controller
from memsuite.controllers.copies import copied
from memsuite.launch.trainer import TRAINER_DEFAULTS
from memsuite.module import MemoryPPO
from memsuite.shipped import find

ITERATIONS = 4  # the first one warms up, and the last one cannot be timed because no iteration follows it
STEPS, ROWS, WIDTH = 150, 6, 12  # of the sequences whose numbers are compared
MOST = 15  # lines of a profile


def build(device: str) -> dict[str, Any]:
    """Compile and load the kernels; return the seconds it took, and the reason if there are none."""
    from memsuite.ops.build import cuda

    began = time.perf_counter()
    status = cuda.load() if device == "cuda" else cuda.STATUS
    holds = status.library is not None or device != "cuda"
    return {"seconds": time.perf_counter() - began, "reason": status.reason, "holds": holds}


def worst(found: Any, expected: Any) -> float:
    """Return the largest difference of two lists of tensors, each as a share of the expected one's largest number."""
    most = 0.0
    for one, other in zip(found, expected, strict=True):
        size = float(other.double().abs().max()) if other.numel() else 0.0
        if size:
            most = max(most, float((one.double().cpu() - other.double()).abs().max()) / size)
    return most


def compare_op(device: str, name: str) -> dict[str, Any]:
    """Run an op forward and backward on both devices."""
    op, draw, _ = CASES[name]
    torch.manual_seed(0)
    inputs = draw(STEPS, ROWS)
    results = []
    for where in ("cpu", device):
        given = [x.detach().to(where) if isinstance(x, Tensor) else x for x in inputs]
        leaves = [
            x.requires_grad_() for x in given if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
        ]
        outputs = pytree.tree_leaves(getattr(torch.ops.memsuite, op)(*given))
        made = [x for x in outputs if isinstance(x, Tensor) and x.requires_grad]
        torch.manual_seed(1)
        drawn = [torch.randn(x.shape, dtype=x.dtype).to(where) for x in made[:1]]
        grads = torch.autograd.grad(made[:1], leaves, drawn, allow_unused=True)
        results.append([_real(x) for x in (*made[:1], *grads) if x is not None])
    error = worst(results[1], results[0])
    return {"error": error, "holds": error < CLOSE}


def compare_controller(device: str, name: str) -> dict[str, Any]:
    """Read a sequence with resets and a step on both devices; compare features, states and gradients."""
    torch.manual_seed(0)
    asked = arguments_of(name)
    arguments = {"hidden_dim": 64} | asked["controller_args"]
    model = make_controller(asked["controller"], input_dim=WIDTH, memory_horizon=100, **arguments)
    x, first = torch.randn(STEPS, ROWS, WIDTH), torch.rand(STEPS, ROWS) < 0.03
    expected = _read(model, x, first)
    moved = copied(model).to(device)
    error = worst(_read(moved, x.to(device), first.to(device)), expected)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        mixed = worst(_read(moved, x.to(device), first.to(device)), expected)
    return {"error": error, "error_in_bf16": mixed, "holds": error < CLOSE}


def _read(model: Controller, x: Tensor, first: Tensor) -> list[Tensor]:
    model.zero_grad()
    features, state = model.forward_sequence(x, model.init_state(x.shape[1], x.device), first)
    # Not the mean square: features that are normalised have hardly any gradient of it.
    drawn = torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    (features.float() * drawn).mean().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        one, after = model.forward_step(x[0], model.reset_mask(state, first[1]))
    kept = [leaf for leaf in pytree.tree_leaves((state, after)) if leaf.is_floating_point() or leaf.is_complex()]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [_real(leaf.detach()) for leaf in (features, one, *kept, *grads)]


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def learn(device: str, **settings: Any) -> dict[str, Any]:
    """Train the golden task until greedy success reaches its target; ``seconds_taken`` is that time."""
    module = MemoryPPO(**yaml.safe_load(find("configuration", "golden").read_text()))
    given: dict[str, Any] = {**TRAINER_DEFAULTS, "accelerator": device, "val_check_interval": 5, **settings}
    with tempfile.TemporaryDirectory() as folder:
        pl.Trainer(**given, default_root_dir=folder, callbacks=[StopAtTarget(patience=1)]).fit(module)
    success = module.evaluate(module.evaluation_episodes, "test")["success"]
    return {"env_steps": module.env_steps, "success": success, "holds": success >= module.preset.target_success}


def learn_in_processes(device: str) -> dict[str, Any]:
    """Do the same with Lightning's DDP of one process, which is NCCL on a GPU."""
    return learn(device, devices=1, strategy="ddp")


def train(device: str, controller: str, num_envs: str, horizon: str) -> dict[str, Any]:
    """Return the environment steps per second of whole iterations through Lightning, and the peak GPU memory."""
    cycles = Cycles()
    module = train_briefly(controller, int(num_envs), int(horizon), ITERATIONS, cycles, device)
    steps, wall = int(num_envs) * int(horizon), spent(cycles.marks, "total", 0, warm_up=1)
    found: dict[str, Any] = {"steps_per_second": steps / wall, "parameters": parameter_count(module)}
    if device == "cuda":
        # No shares of the sections: the host only queues a rollout, and waits for all of an iteration at its end.
        found["gigabytes"] = torch.cuda.max_memory_allocated() / 2**30
    else:
        found["share"] = {name: spent(cycles.marks, name, 0, warm_up=1) / wall for name in ("rollout", "update")}
    return found


def profile(device: str, controller: str, num_envs: str, horizon: str) -> dict[str, Any]:
    """Return the operations that take longest in two iterations, with their milliseconds and their number."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        train_briefly(controller, int(num_envs), int(horizon), 2, Cycles(), device)
    kind = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, kind))[:MOST]
    lines = [{"name": one.key, "milliseconds": getattr(one, kind) / 1e3, "calls": one.count} for one in events]
    return {"longest": events[0].key, "lines": lines}


STEPS_OF: dict[str, Callable[..., dict[str, Any]]] = {
    "build": build,
    "ops": compare_op,
    "controllers": compare_controller,
    "golden": learn,
    "training": train,
    "processes": learn_in_processes,
    "profile": profile,
}


def run(stage: str, device: str, steps: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Run the steps of a stage; yield what each found, or the reason why it failed."""
    for arguments in steps.values():
        began = time.perf_counter()
        try:
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            found = STEPS_OF[stage](device, *arguments)
        except (Exception, SystemExit) as error:
            found = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        yield {**found, "seconds_taken": time.perf_counter() - began}


if __name__ == "__main__":
    prepare(torch.get_num_threads())
    logging.getLogger("memsuite").setLevel(logging.ERROR)
    for found in run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])):
        print(json.dumps(found), flush=True)
