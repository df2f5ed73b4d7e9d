"""Collects experience: the same trajectory either from a script at once, or by stepping.

A scripted task's observations do not depend on the actions, so its rollout runs the controller over the whole block,
samples all actions, and compares them with the targets. An interactive task may say how many observations at the
beginning of an episode no action changes (:attr:`~memsuite.tasks.base.Task.open_steps`); these are read as a sequence,
too. The distribution is the same as with stepping, and with the same generators so is the trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memsuite.controllers.base import map_state
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.policy.distributions import choose, sample
from memsuite.tasks import ScriptedTask, Task
from memsuite.tasks.parts import uniform_numbers
from memsuite.types import State, TimeStep, Trajectory

__all__ = ["Actor", "begin", "choose", "collect", "only_first", "sample"]

# Decisions computed at once without gradients, which bounds memory at any horizon. On a CPU they fit in the cache; on a
# GPU every block costs the same launches, and a small one leaves it idle.
CHUNK, LARGE_CHUNK = 32_768, 262_144


@dataclass(frozen=True)
class Actor:
    """The state between two rollouts: the step to act on next, and the memory that leads to it."""

    timestep: TimeStep
    state: State


def begin(task: Task, model: ActorCritic, num_envs: int, generator: torch.Generator) -> Actor:
    """Start a batch of episodes."""
    return Actor(task.reset(num_envs, generator), model.init_state(num_envs, generator.device))


@torch.no_grad()
def collect(
    task: Task,
    model: ActorCritic,
    actor: Actor,
    steps: int,
    generator: torch.Generator | None,
    *,
    by_stepping: bool = False,
) -> tuple[Trajectory, Actor]:
    """Collect ``steps`` steps from every environment.

    Args:
        task: a running task (:func:`begin`).
        model: the network that acts; evaluated without gradients.
        actor: the end of the last rollout.
        steps: length T of the rollout. It may differ from an episode's: the memory is carried on and reset inside.
        generator: source of the sampled actions; None acts greedily.
        by_stepping: step also where actions change nothing, which is every step of a scripted task and the beginning of
            an episode of some others; to compare the two paths.

    Returns:
        The trajectory, and the beginning of the next rollout.
    """
    num_envs, uniform = len(actor.timestep.is_first), None
    if generator is not None:  # drawn for all steps first, so that both paths use the same numbers
        uniform = uniform_numbers((steps, num_envs, *model.policy.shape), generator)
    if isinstance(task, ScriptedTask) and not by_stepping:
        return _collect_script(task, model, actor, steps, uniform)
    return _collect_steps(task, model, actor, steps, uniform, stretches=not by_stepping)


def _collect_script(
    task: ScriptedTask, model: ActorCritic, actor: Actor, steps: int, uniform: Tensor | None
) -> tuple[Trajectory, Actor]:
    block = task.advance(steps)
    state, parts = actor.state, []
    size = steps_at_once(block.is_first)
    for begin_at in range(0, steps, size):
        at = slice(begin_at, begin_at + size)
        logits, values, state = model(block.observations[at], state, block.is_first[at])
        actions = model.policy.choose(logits, None if uniform is None else uniform[at])
        parts.append((actions, model.policy.log_prob_taken(logits, actions), values))
    actions, log_probs, values = (torch.cat(part) for part in zip(*parts, strict=True))
    correct = block.scored & (actions == block.targets)
    following = task.peek()
    after = torch.where(block.terminated[-1], 0.0, model.step(following.observation, state, following.is_first)[1])
    next_values = torch.cat([values[1:], after.unsqueeze(0)]).masked_fill(block.terminated, 0.0)
    trajectory = Trajectory(
        observations=block.observations,
        is_first=block.is_first,
        actions=actions,
        log_probs=log_probs,
        values=values,
        next_values=next_values,
        rewards=correct.to(values.dtype),
        terminated=block.terminated,
        truncated=torch.zeros_like(block.terminated),
        scored=block.scored,
        correct=correct,
        initial_state=actor.state,
        draws=uniform,
    )
    return trajectory, Actor(following, state)


def _collect_steps(
    task: Task, model: ActorCritic, actor: Actor, steps: int, uniform: Tensor | None, stretches: bool
) -> tuple[Trajectory, Actor]:
    with model.heads_folded():
        return _steps(task, model, actor, steps, uniform, stretches)


def _steps(
    task: Task, model: ActorCritic, actor: Actor, steps: int, uniform: Tensor | None, stretches: bool
) -> tuple[Trajectory, Actor]:
    now, state = actor.timestep, actor.state
    rows: list[dict[str, Tensor]] = []
    known = task.known_steps if stretches else 0
    clock = None  # steps since all episodes began; a task with known steps begins all of them together
    while len(rows) < steps:
        # A GPU is asked only until the first beginning, because the host has to wait for each answer.
        if known and (clock is None or now.is_first.device.type == "cpu"):
            clock = 0 if bool(now.is_first.all()) else None
        ahead = min(known, steps - len(rows)) if clock == 0 else 0
        if clock is not None:
            clock = (clock + max(1, ahead)) % task.horizon
        if ahead:
            most = steps_at_once(now.is_first.unsqueeze(0))
            drawn = None if uniform is None else uniform[len(rows) : len(rows) + ahead]
            made, now, state = _stretch(task, model, now, state, ahead, drawn, most)
            rows += made
            continue
        logits, values, state = model.step(now.observation, state, now.is_first)
        actions = model.policy.choose(logits, None if uniform is None else uniform[len(rows)])
        following = task.step(actions)
        final = _final_values(model, following, state, values)
        rows.append(_row(now, following, actions, model.policy.log_prob_taken(logits, actions), values, final))
        now = following
    columns: dict[str, Any] = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    after = model.step(now.observation, state, now.is_first)[1]
    successors = torch.cat([columns["values"][1:], after.unsqueeze(0)])
    ended = columns["terminated"] | columns["truncated"]
    columns["next_values"] = torch.where(ended, columns["next_values"], successors)
    return Trajectory(initial_state=actor.state, draws=uniform, **columns), Actor(now, state)


def _row(
    now: TimeStep, following: TimeStep, actions: Tensor, log_probs: Tensor, values: Tensor, final: Tensor
) -> dict[str, Tensor]:
    return {
        "observations": now.observation,
        "is_first": now.is_first,
        "actions": actions,
        "log_probs": log_probs,
        "values": values,
        "next_values": final,
        "rewards": following.reward.to(values.dtype),
        "terminated": following.terminated,
        "truncated": following.truncated,
        "scored": following.scored,
        "correct": following.correct,
    }


def _stretch(
    task: Task,
    model: ActorCritic,
    now: TimeStep,
    state: State,
    count: int,
    uniform: Tensor | None,
    most: int,
) -> tuple[list[dict[str, Tensor]], TimeStep, State]:
    """Read steps whose observations no action changes as a sequence, as :func:`_collect_script` does, then take them.

    Args:
        task: the task, at the beginning of the stretch.
        model: the network that acts.
        now: the first step of the stretch.
        state: the memory before it.
        count: number of steps.
        uniform: the numbers that the actions of the stretch are drawn by.
        most: number of steps that are read at once.
    """
    observations, is_first = task.look_ahead(now, count), only_first(now, count)
    parts = []
    for begin_at in range(0, count, most):
        at = slice(begin_at, begin_at + most)
        logits, values, state = model(observations[at], state, is_first[at])
        actions = model.policy.choose(logits, None if uniform is None else uniform[at])
        parts.append((actions, model.policy.log_prob_taken(logits, actions), values))
    actions, log_probs, values = (torch.cat(part) for part in zip(*parts, strict=True))
    rewards, following = task.walk(actions)
    no = torch.zeros_like(is_first)
    columns = {
        "observations": observations,
        "is_first": is_first,
        "actions": actions,
        "log_probs": log_probs,
        "values": values,
        "next_values": torch.zeros_like(values),
        "rewards": rewards.to(values.dtype),
        **dict.fromkeys(("terminated", "truncated", "scored", "correct"), no),
    }
    each = zip(*(column.unbind() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in each], following, state


def steps_at_once(is_first_TB: Tensor) -> int:
    """Return how many steps of the environments of ``is_first`` the controller reads at once on its device."""
    chunk = CHUNK if is_first_TB.device.type == "cpu" else LARGE_CHUNK
    return max(1, chunk // is_first_TB.shape[1])


def only_first(now: TimeStep, count: int) -> Tensor:
    """Return ``is_first`` ``[count, B]`` of steps of which only the first begins an episode."""
    return torch.cat([now.is_first.unsqueeze(0), torch.zeros_like(now.is_first).expand(count - 1, -1)])


def _final_values(model: ActorCritic, following: TimeStep, state: State, like: Tensor) -> Tensor:
    """Return the values of the final observations of truncated rows, given the memory before them; 0 elsewhere,
    ``[B]``.

    The step works on a copy of the state, because the state itself continues into the next episode, where it is reset.
    """
    if following.final_observation is None:
        return torch.zeros_like(like)
    no_reset = torch.zeros_like(following.is_first)
    values = model.step(following.final_observation, map_state(torch.clone, state), no_reset)[1]
    return torch.where(following.truncated & ~following.terminated, values, 0.0)
