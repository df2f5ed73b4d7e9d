"""How far back a gradient reaches: the gradient of a loss at the query with respect to each step before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memsuite.analysis.probes.episodes import as_its_own, draw, first_steps, question

if TYPE_CHECKING:
    from memsuite.rl import ActorCritic
    from memsuite.tasks import Task


def gradient_reach(model: ActorCritic, task: Task, episodes: int = 64, decision: int = -1, seed: int = 0) -> Tensor:
    """Measure the norm of a loss gradient at every step of an episode, averaged over episodes.

    The loss is ``-log p(right action)`` of one scored decision, in nats; the gradient is with respect to the
    observation at each step (its decay is the vanishing gradient of Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063).
    Where it is 0, the decision does not depend on that observation, and training cannot change this.

    Args:
        model: controller and heads, as in ``module.model``.
        task: a scripted task.
        episodes: number of episodes in the average.
        decision: index of the scored decision; negative counts from the last.
        seed: seed of the episodes.

    Returns:
        ``[T]`` in nats per unit of observation; 0 after the decision.
    """
    script = draw(task, episodes, seed)
    targets, at = question(script, decision)
    x = as_its_own(model.controller, script.observations).detach().requires_grad_()
    with torch.enable_grad():
        logits, _, _ = model(x, model.init_state(episodes), first_steps(x))
        asked = logits[at, torch.arange(episodes)]
        if not asked.requires_grad:
            return x.new_zeros(len(x))
        (gradient,) = torch.autograd.grad(cross_entropy(asked, targets, reduction="sum"), x)
    norms: Tensor = gradient.norm(dim=2)
    return norms.mean(1)
