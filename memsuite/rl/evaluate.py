"""Evaluation on whole episodes with greedy actions; it does not affect training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from memsuite.controllers.base import is_own
from memsuite.controllers.copies import copied
from memsuite.distributed import from_first, rank
from memsuite.errors import UsageError
from memsuite.reading import plain_number
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.needs import check_evaluation
from memsuite.rl.randomness import own_randomness
from memsuite.rl.rollout import Actor, begin, collect
from memsuite.rl.streams import stream
from memsuite.tasks import ScriptedTask, Task

SCRIPTED_ENVS, STEPPED_ENVS = 256, 64  # environments side by side; fewer if each must be stepped
BLOCK = 32  # steps between two looks at whether all environments that end early have ended
MOST_STEPS = 1 << 22  # environments times horizon, about half a gigabyte: four environments at a million steps


def evaluate(task: Task, model: ActorCritic, episodes: int, generator: torch.Generator) -> dict[str, float]:
    """Act greedily in ``episodes`` whole episodes, on a copy of the task.

    It does not affect training: the global generators and the internal state of a task or a controller are unchanged
    afterwards. Draws from the global generators depend only on the seed of ``generator``.

    In a run of several processes all must call this function. The first one acts and sends the result to the others.
    The numbers are therefore those of a single process to the bit, and all processes base the same decisions on them.

    Returns:
        ``success``, ``success_low``, ``success_high`` (NaN where no decision is scored), ``return_mean``,
        ``return_low``, ``return_high`` and ``episodes``.

    Raises:
        UsageError: ``episodes`` is no whole number above 0, or an episode needs more memory than there is.
    """
    episodes = plain_number(episodes)
    if not isinstance(episodes, int) or isinstance(episodes, bool) or episodes < 1:
        raise UsageError(f"episodes is {episodes!r}; it must be a whole number above 0")
    check_evaluation(task, episodes)
    outcome = _evaluate(task, model, episodes, generator) if rank() == 0 else None
    return from_first(outcome)  # type: ignore[no-any-return]


@torch.no_grad()
def _evaluate(task: Task, model: ActorCritic, episodes: int, generator: torch.Generator) -> dict[str, float]:
    # Imported here because torchmetrics imports SciPy and matplotlib where they are installed, which takes a second.
    from memsuite.metrics import EpisodeReturn, Success

    # No synchronisation with other processes, because they do not evaluate.
    success = Success(sync_on_compute=False).to(generator.device)
    returns = EpisodeReturn(sync_on_compute=False).to(generator.device)
    task, side_by_side = task.fresh(), SCRIPTED_ENVS if isinstance(task, ScriptedTask) else STEPPED_ENVS
    side_by_side = max(1, min(side_by_side, MOST_STEPS // task.horizon))
    # What a model draws for itself must not be what the episodes are drawn from.
    own = stream(generator.initial_seed(), "global").initial_seed()
    with own_randomness(own), left_as_it_was(model) as model, contextlib.closing(task):
        for start in range(0, episodes, side_by_side):
            source = _source(task, generator, start)
            actor = begin(task, model, min(side_by_side, episodes - start), source)
            correct, scored, rewards, ended = _played(task, model, actor)
            # Later episodes are ignored: in environments that end early they would count short episodes twice.
            first = ended.cumsum(0) - ended == 0
            success.update(correct & first, scored & first)
            returns.update((rewards * first).sum(0))
    return success.compute() | returns.compute()


def _played(task: Task, model: ActorCritic, actor: Actor) -> list[Tensor]:
    """Play until the first episode of every environment has ended, which is within the horizon.

    Returns:
        ``correct``, ``scored``, ``rewards`` and whether an episode ended (0 or 1), ``[T, B]`` each.
    """
    at_once = isinstance(task, ScriptedTask) or task.can_fork  # episodes that all end at the horizon
    block, left, parts = task.horizon if at_once else BLOCK, task.horizon, []
    waiting = torch.ones_like(actor.timestep.is_first)
    while left and waiting.any():
        trajectory, actor = collect(task, model, actor, min(block, left), None)
        ended = trajectory.terminated | trajectory.truncated
        parts.append((trajectory.correct, trajectory.scored, trajectory.rewards, ended.long()))
        left, waiting = left - len(ended), waiting & ~ended.any(0)
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def _source(task: Task, generator: torch.Generator, start: int) -> torch.Generator:
    """Return the generator of the episodes from number ``start`` on, independent of what happened before.

    If all episodes end at once, as scripts do, the draws do not depend on the actions, and one generator serves all.
    In other tasks an episode that ends early is followed by another one, which draws from the generator too.
    """
    if start == 0 or isinstance(task, ScriptedTask) or task.can_fork:
        return generator
    return stream(generator.initial_seed(), f"episode{start}", generator.device)


@contextmanager
def left_as_it_was(model: ActorCritic) -> Iterator[ActorCritic]:
    """Yield the network in evaluation mode for the block; a copy if a user's controller may have internal state.

    The built-in controllers keep everything in the state that the caller holds.
    """
    if is_own(model.controller):
        yield copied(model).eval()
        return
    was_training = model.training
    try:
        yield model.eval()
    finally:
        model.train(was_training)
