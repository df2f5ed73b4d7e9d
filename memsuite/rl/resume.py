"""What the next iteration depends on besides the weights, as plain values and tensors, and how it is put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from memsuite.controllers.base import map_state
from memsuite.rl.rollout import Actor
from memsuite.tasks import Task


def acting_state(task: Task, actor: Actor, generators: dict[str, torch.Generator]) -> dict[str, Any]:
    """Return where the episodes, the memory and the generators stand between two rollouts."""
    return {
        "task": task.state_dict(),
        "state": actor.state,
        "generators": {name: generator.get_state() for name, generator in generators.items()},
        "random": global_random_states(),
    }


def restore_acting(
    saved: dict[str, Any], task: Task, generators: dict[str, torch.Generator], device: torch.device
) -> Actor:
    """Put back what :func:`acting_state` returned; the global generators are for later, when nothing else draws."""
    timestep = task.load_state_dict(saved["task"], generators["task"])
    for name, generator in generators.items():
        generator.set_state(saved["generators"][name])
    return Actor(timestep, map_state(lambda leaf: leaf.to(device), saved["state"]))


def global_random_states() -> dict[str, Any]:
    """Return the states of the generators that a user's own model or environment may draw from."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def restore_global_random_states(saved: dict[str, Any]) -> None:
    """Put back what :func:`global_random_states` returned; with another number of GPUs, theirs begin anew."""
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
    random.setstate(saved["python"])
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def go_on_after(loops: dict[str, Any], iteration: int) -> None:
    """Set Lightning's loops to after ``iteration`` iterations and the evaluation that belongs to the last of them.

    Lightning counts its hooks, so that what it would save depends on which of them saves, and on whether that run was
    at its end. Here the iteration says it all: whether there is a next one is for the resumed run's steps to say.
    """
    steps = ("ready", "started", "processed", "completed")

    def counts(*values: int) -> dict[str, dict[str, int]]:
        return {scope: dict(zip(steps, values, strict=True)) for scope in ("total", "current")}

    fit = loops["fit_loop"]
    fit["epoch_loop.batch_progress"] = {**counts(*[iteration] * 4), "is_last_batch": False}
    fit["epoch_loop.val_loop.batch_progress"] = {**counts(0, 0, 0, 0), "is_last_batch": False}
    fit["epoch_progress"] = counts(1, 1, 0, 0)
