"""The density of recall: how the success of a trained agent falls with the distance of what is asked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memsuite.metrics import wilson_interval
from memsuite.tasks import ScriptedTask

if TYPE_CHECKING:
    from memsuite.module import MemoryPPO

BINS = 8  # of distances, where more occur


@torch.no_grad()
def recall_density(
    module: MemoryPPO, episodes: int = 256, task_args: Mapping[str, Any] | None = None
) -> list[dict[str, Any]] | None:
    """Measure the success of greedy actions by the steps since the asked item was shown, from one trained agent.

    POPGym Arcade (arXiv 2503.01450) asks by a gradient how much of an old observation is recalled; here it is counted
    which decisions are right. A memory that fades is right about what is near and wrong about what is far.

    Args:
        module: a trained module (:func:`memsuite.load`).
        episodes: number of random episodes; of very long ones fewer, as evaluations run side by side.
        task_args: arguments of the task that replace those of training.

    Returns:
        A row for each distance, or for each of :data:`BINS` ranges of them: ``nearest`` and ``farthest`` in steps,
        ``success`` with its interval ``success_low``, ``success_high``, and ``decisions``. None for a task whose
        decisions do not ask for one item each.
    """
    from memsuite.rl import stream
    from memsuite.rl.evaluate import MOST_STEPS, left_as_it_was

    arguments = {**(module.config.task_args or {}), **(task_args or {}), "horizon": module.task.horizon}
    task = module.preset.make(**arguments)
    if not isinstance(task, ScriptedTask):
        return None
    episodes = max(1, min(episodes, MOST_STEPS // task.horizon))
    script = task.script(episodes, stream(module.seed, "density"))
    shown = task.shown_at(script)
    if shown is None:
        return None
    asked, begins = script.scored.any(1), torch.zeros_like(script.scored)
    begins[0] = True
    with left_as_it_was(module.model) as model:
        features, _ = model.features(script.observations, model.init_state(episodes), begins, asked)
        logits, _ = model.heads(features, script.observations[asked])
    scored = script.scored[asked]
    right = (logits.argmax(-1) == script.targets[asked])[scored]
    steps = torch.arange(task.horizon).unsqueeze(1)
    episode = torch.arange(episodes).expand_as(script.scored)
    return by_distance(right, (steps - shown)[script.scored], episode[script.scored])


def by_distance(right: Tensor, distance: Tensor, episode: Tensor) -> list[dict[str, Any]]:
    """Return the rows of :func:`recall_density` from decisions, their distances and their episodes, ``[N]`` each."""
    found: Tensor = torch.unique(distance)
    if len(found) > BINS:
        edges = torch.linspace(float(found[0]), float(found[-1]) + 1, BINS + 1, dtype=torch.float64)
        parts = [(distance >= low) & (distance < high) for low, high in itertools.pairwise(edges.tolist())]
    else:
        parts = [distance == one for one in found]
    rows = []
    for part in parts:
        if count := int(part.sum()):
            success = float(right[part].double().mean())
            low, high = wilson_interval(success, _independent(right[part], episode[part]))
            ends = {"nearest": int(distance[part].min()), "farthest": int(distance[part].max())}
            rows.append({**ends, "success": success, "success_low": low, "success_high": high, "decisions": count})
    return rows


def _independent(right: Tensor, episode: Tensor) -> float:
    """Return how many independent decisions have the variance of these, which one memory makes in each episode.

    The variance of the ratio of right decisions is estimated from its spread between episodes (Kish 1965), as for the
    success of a run (:class:`memsuite.metrics.Success`).
    """
    ratio = right.double().mean()
    residuals = torch.zeros(int(episode.max()) + 1, dtype=torch.float64).index_add_(0, episode, right.double() - ratio)
    variance = float(residuals.square().sum()) / len(right) ** 2
    spread = float(ratio * (1 - ratio))
    # Where all decisions are alike there is no spread to see, and episodes alone are known to be independent.
    return min(len(right), max(1.0, spread / variance)) if variance > 0 else float(len(torch.unique(episode)))
