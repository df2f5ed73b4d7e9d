"""The anchors as policies that can play: random, memoryless, window(k) and oracle.

They test a task's declared anchors. Each policy plays the task as an agent would, and sees only the permitted
observations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from memsuite.tasks.base import ScriptedTask, Task
from memsuite.tasks.parts import integers

Policy: TypeAlias = Callable[[Tensor, int, torch.Generator], Tensor]
"""Maps the observations of the episode so far ``[t + 1, B, D]``, t and a generator to actions ``[B]``."""


def random_policy(task: Task) -> Policy:
    """Act uniformly at random."""
    return lambda episode, step, generator: integers(task.num_actions, (episode.shape[1],), generator)


def window(task: Task, steps: int) -> Policy:
    """Act as well as the last ``steps`` observations allow."""
    return lambda episode, step, generator: task.best_guess(episode[-steps:], step, generator)


def memoryless(task: Task) -> Policy:
    """Act as well as the present observation allows."""
    return window(task, 1)


def oracle(task: Task) -> Policy:
    """Act as well as the whole episode so far allows."""
    return window(task, task.horizon)


@torch.no_grad()
def play(task: Task, policy: Policy, num_envs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Play one whole episode in each of ``num_envs`` environments.

    In a scripted task the actions do not change the observations, so only scored decisions are made; any other task is
    stepped.

    Returns:
        ``correct`` and ``scored``, bool ``[T, B]``.
    """
    if isinstance(task, ScriptedTask):
        return _play_script(task, policy, num_envs, generator)
    return _play_steps(task, policy, num_envs, generator)


def _play_script(
    task: ScriptedTask, policy: Policy, num_envs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    script = task.script(num_envs, generator)
    correct = torch.zeros_like(script.scored)
    for step in script.scored.any(1).nonzero().flatten().tolist():
        actions = policy(script.observations[: step + 1], step, generator)
        correct[step] = script.scored[step] & (actions == script.targets[step])
    return correct, script.scored


def _play_steps(task: Task, policy: Policy, num_envs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    now = task.reset(num_envs, generator)
    episode = now.observation.new_empty(task.horizon, *now.observation.shape)
    rows = []
    if ahead := task.known_steps:
        episode[:ahead] = task.look_ahead(now, ahead)
        actions = [policy(episode[: step + 1], step, generator) for step in range(ahead)]
        now = task.walk(torch.stack(actions))[1]
        rows += [(now.correct, now.scored)] * ahead  # which are blank
    for step in range(ahead, task.horizon):
        episode[step] = now.observation
        now = task.step(policy(episode[: step + 1], step, generator))
        rows.append((now.correct, now.scored))
    correct, scored = (torch.stack(column) for column in zip(*rows, strict=True))
    return correct, scored
