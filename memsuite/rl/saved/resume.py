"""The state of a run besides its weights, as plain values and tensors, and how to restore it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from memsuite.blame import in_one_line, users_line
from memsuite.controllers.base import map_state
from memsuite.distributed import rank, world_size
from memsuite.errors import Stopped, UsageError
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.randomness import global_random_states, restore_global_random_states, seed_global_generators
from memsuite.rl.rollout import Actor, begin
from memsuite.rl.streams import stream
from memsuite.runs.provenance import kernels
from memsuite.tasks import Task

log = logging.getLogger("memsuite")


def open_streams(seed: int, device: torch.device, after: int = 0) -> dict[str, torch.Generator]:
    """Return the generators of this process: its own for episodes and actions, a common one for the minibatches.

    Args:
        seed: the run's seed.
        device: the device on which episodes and actions are drawn.
        after: number of earlier iterations, for a run that continues with fresh episodes.
    """
    later = f"/after{after}" if after else ""
    which = later + (f"/rank{rank()}" if rank() else "")
    streams = {name: stream(seed, name + which, device) for name in ("task", "actions")}
    return {**streams, "permutations": stream(seed, f"permutations{later}")}


def own_state(ranks: list[dict[str, Any]], seed: int, iteration: int, generators: dict[str, torch.Generator]) -> Any:
    """Return the state of this process from a checkpoint; None if it has another number of processes or kind of device.

    In that case the generators are set to episodes that were not seen before, and a warning says what is not exact. The
    generators of a GPU and of a CPU draw other numbers, and neither takes the state of the other.
    """
    before, now = ranks[0].get("machine"), machine()
    if rank() == 0 and before is not None and (differs := [name for name in now if before.get(name) != now[name]]):
        changes = ", ".join(f"{name} {before.get(name)}, now {now[name]}" for name in differs)
        log.warning("the run began with %s: it goes on exactly but for rounding, the bits may differ", changes)
    device, state = generators["task"].device, ranks[0]["generators"]["task"]
    if len(state) != len(generators["task"].get_state()):
        other = f"of a run on another kind of device, this run on {device.type}"
    elif len(ranks) != world_size():
        other = f"of world size {len(ranks)}, this run of {world_size()}"
    else:
        return ranks[rank()]
    log.warning(
        "the checkpoint is %s: weights, optimiser, counts and metrics continue exactly, "
        "episodes and memories begin anew",
        other,
    )
    generators.update(open_streams(seed, device, iteration))
    generators["permutations"].set_state(ranks[0]["generators"]["permutations"])
    return None


def machine() -> dict[str, Any]:
    """Return what the last bits depend on besides the settings: the kernels, the threads, PyTorch and the device."""
    return {
        "kernels": str(kernels()["level"]) if kernels()["compiled"] else "of PyTorch",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def acting_state(
    task: Task, actor: Actor, running_return: Tensor, generators: dict[str, torch.Generator]
) -> dict[str, Any]:
    """Return the state of the episodes, the memory and the generators of this process between two rollouts."""
    return {
        "task": task.state_dict(),
        "state": map_state(torch.clone, actor.state),  # a view would be saved with all that is behind it
        "running_return": running_return,
        "generators": {name: generator.get_state() for name, generator in generators.items()},
        "random": global_random_states(),
        "machine": machine(),
    }


def start_acting(
    task: Task, model: ActorCritic, num_envs: int, generators: dict[str, torch.Generator], saved: dict[str, Any] | None
) -> tuple[Actor, Tensor]:
    """Begin ``num_envs`` episodes, or restore the state of :func:`acting_state` except the global generators.

    Returns:
        The actor, and the rewards that the running episodes have gathered, ``[B]``.
    """
    # Where the weights are in double precision, observations are from the first step on, as they are while training.
    with usual_dtype(next(model.parameters()).dtype):
        return _start_acting(task, model, num_envs, generators, saved)


def _start_acting(
    task: Task, model: ActorCritic, num_envs: int, generators: dict[str, torch.Generator], saved: dict[str, Any] | None
) -> tuple[Actor, Tensor]:
    device = generators["task"].device
    if saved is None:
        return begin(task, model, num_envs, generators["task"]), torch.zeros(num_envs, device=device)
    try:
        timestep = task.load_state_dict(saved["task"], generators["task"])
        for name, generator in generators.items():
            generator.set_state(saved["generators"][name])
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        if users_line(error) or isinstance(error, UsageError | Stopped):
            raise
        raise UsageError(f"the episodes in the checkpoint cannot be gone on with: {in_one_line(error)}") from error
    state = map_state(lambda leaf: leaf.to(device), saved["state"])
    # In an episode that begins nothing is gathered yet; a task may begin one where it cannot go on with the saved one.
    return Actor(timestep, state), saved["running_return"].to(device).masked_fill(timestep.is_first, 0)


@contextlib.contextmanager
def usual_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make tensors of this kind of number where none is named."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def set_global_random_states(saved: dict[str, Any] | None, seed: int) -> None:
    """Restore the global generators of :func:`acting_state`; with another number of GPUs, those of the GPUs begin anew.

    At the beginning of a run, each process after the first gets its own seed.
    """
    if saved is not None:
        restore_global_random_states(saved["random"])
    elif rank() > 0:
        seed_global_generators(stream(seed, f"global/rank{rank()}").initial_seed())


def make_ready(module: LightningModule, loops: dict[str, Any] | None, iteration: int) -> None:
    """Make Lightning go on after ``iteration`` iterations and the evaluation of the last one, in all digits.

    It loads the weights before it converts the module to its precision, so those of ``64-true`` would be rounded to
    float32 on the way; the module is therefore converted here. Its loops are set to that point: Lightning counts its
    hooks, so its saved state depends on which hook saved it, and on whether that run was at its end. Here the iteration
    determines the whole state; the steps of the resumed run decide whether there is a next one.
    """
    if str(module.trainer.precision) == "64-true":
        module.double()
    if loops is None:  # a checkpoint of the weights alone, which can be evaluated
        return
    steps = ("ready", "started", "processed", "completed")

    def counts(*values: int) -> dict[str, dict[str, int]]:
        return {scope: dict(zip(steps, values, strict=True)) for scope in ("total", "current")}

    fit = loops["fit_loop"]
    fit["epoch_loop.batch_progress"] = {**counts(*[iteration] * 4), "is_last_batch": False}
    fit["epoch_loop.val_loop.batch_progress"] = {**counts(0, 0, 0, 0), "is_last_batch": False}
    fit["epoch_progress"] = counts(1, 1, 0, 0)
