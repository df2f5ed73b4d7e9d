"""Evaluation: whole episodes, greedy actions, nothing of training touched."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from memsuite.controllers.base import is_own
from memsuite.distributed import from_first, rank
from memsuite.metrics import EpisodeReturn, Success
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.randomness import own_randomness
from memsuite.rl.rollout import begin, collect
from memsuite.rl.streams import stream
from memsuite.tasks import ScriptedTask, Task

SCRIPTED_ENVS, STEPPED_ENVS = 256, 64  # environments side by side: a script is drawn whole, the others cost each
MOST_STEPS = 1 << 22  # of all of them in an episode, about half a gigabyte: at a million steps, four environments


def evaluate(task: Task, model: ActorCritic, episodes: int, generator: torch.Generator) -> dict[str, float]:
    """Act greedily through ``episodes`` whole episodes, on a copy of the task.

    It changes nothing of training: neither the global generators, nor what a task or a controller keeps in itself. What
    is drawn from the global generators depends on ``generator``'s seed alone.

    In a run of several processes all call it, the first one acts and tells the others: the numbers are those of one
    process to the bit, and whoever decides by them decides alike everywhere.

    Returns:
        ``success``, ``success_low``, ``success_high`` (NaN where no decision is scored), ``return_mean``,
        ``return_low``, ``return_high`` and ``episodes``.
    """
    outcome = _evaluate(task, model, episodes, generator) if rank() == 0 else None
    return from_first(outcome)  # type: ignore[no-any-return]


@torch.no_grad()
def _evaluate(task: Task, model: ActorCritic, episodes: int, generator: torch.Generator) -> dict[str, float]:
    # Nothing to add up with other processes: they do not evaluate.
    success = Success(sync_on_compute=False).to(generator.device)
    returns = EpisodeReturn(sync_on_compute=False).to(generator.device)
    task, side_by_side = task.fresh(), SCRIPTED_ENVS if isinstance(task, ScriptedTask) else STEPPED_ENVS
    side_by_side = max(1, min(side_by_side, MOST_STEPS // task.horizon))
    with own_randomness(generator.initial_seed()), left_as_it_was(model) as model, contextlib.closing(task):
        for start in range(0, episodes, side_by_side):
            source = _source(task, generator, start)
            actor = begin(task, model, min(side_by_side, episodes - start), source)
            # No episode is longer than the horizon, so the first of every environment ends within it; what follows in
            # the environments that end early would count short episodes twice.
            trajectory, _ = collect(task, model, actor, task.horizon, None)
            ended = (trajectory.terminated | trajectory.truncated).long()
            first = ended.cumsum(0) - ended == 0
            success.update(trajectory.correct & first, trajectory.scored & first)
            returns.update((trajectory.rewards * first).sum(0))
    return success.compute() | returns.compute()


def _source(task: Task, generator: torch.Generator, start: int) -> torch.Generator:
    """Return the generator of the episodes from number ``start`` on, whatever was done in those before.

    Where episodes end all at once, as scripts do, what is drawn does not depend on the actions and one generator serves
    all. Elsewhere an episode that ends early is followed by another, which draws from it too.
    """
    if start == 0 or isinstance(task, ScriptedTask) or task.can_fork:
        return generator
    return stream(generator.initial_seed(), f"episode{start}", generator.device)


@contextmanager
def left_as_it_was(model: ActorCritic) -> Iterator[ActorCritic]:
    """Give the network in evaluation mode for the block; a copy where the controller may keep something of its own.

    The built-in ones keep everything in their state, which the caller has.
    """
    if is_own(model.controller):
        yield copy.deepcopy(model).eval()
        return
    was_training = model.training
    try:
        yield model.eval()
    finally:
        model.train(was_training)
