"""Evaluation: whole episodes, greedy actions, nothing of training touched."""

from __future__ import annotations

import torch

from memsuite.distributed import from_first, rank
from memsuite.metrics import EpisodeReturn, Success
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.rollout import begin, collect
from memsuite.tasks import ScriptedTask, Task

SCRIPTED_ENVS, STEPPED_ENVS = 256, 64  # environments side by side: a script is drawn whole, the others cost each
MOST_STEPS = 1 << 22  # of all of them in an episode, about half a gigabyte: at a million steps, four environments


def evaluate(task: Task, model: ActorCritic, episodes: int, generator: torch.Generator) -> dict[str, float]:
    """Act greedily through ``episodes`` whole episodes, on a copy of the task.

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
    was_training = model.training
    model.eval()
    # Nothing to add up with other processes: they do not evaluate.
    success = Success(sync_on_compute=False).to(generator.device)
    returns = EpisodeReturn(sync_on_compute=False).to(generator.device)
    task = task.fresh()
    side_by_side = SCRIPTED_ENVS if isinstance(task, ScriptedTask) else STEPPED_ENVS
    side_by_side = max(1, min(side_by_side, MOST_STEPS // task.horizon))
    for start in range(0, episodes, side_by_side):
        actor = begin(task, model, min(side_by_side, episodes - start), generator)
        # No episode is longer than the horizon, so the first of every environment ends within it; what follows in the
        # environments that end early would count short episodes twice.
        trajectory, _ = collect(task, model, actor, task.horizon, None)
        ended = (trajectory.terminated | trajectory.truncated).long()
        first = ended.cumsum(0) - ended == 0
        success.update(trajectory.correct & first, trajectory.scored & first)
        returns.update((trajectory.rewards * first).sum(0))
    model.train(was_training)
    return success.compute() | returns.compute()
