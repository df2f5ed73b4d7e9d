"""Learning from shared scripts in an interactive task: the opening is read once, then the environments separate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from memsuite.controllers.base import map_state
from memsuite.distributed import mean
from memsuite.rl.groups import returns_to_go
from memsuite.rl.rollout import Actor
from memsuite.rl.shared import Decided, Drawn, SharedRollout, SharedScript, draw, wide
from memsuite.tasks import ScriptedTask, Task
from memsuite.types import State, TimeStep


@dataclass
class Walk:
    """The steps since the environments separated: lists with one entry per step, with one row per environment.

    Attributes:
        log_p: log-probabilities of all actions, ``[rows, A]``, with a gradient.
        values: the critic's estimates, ``[rows]``.
        observations: ``[rows, D]``.
        actions: ``[rows]``.
        targets: the right actions, ``[rows]``, if the objective needs them.
        rewards: ``[rows]``.
        alive: bool ``[rows]``, the first episode was not over before the step.
        counts: numbers of right and of scored decisions, ``[2]``.
    """

    log_p: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    observations: list[Tensor] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    alive: list[Tensor] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)


class SharedWalk(SharedRollout):
    """A rollout of whole episodes of an interactive task, one script per group of environments.

    Args:
        given: the arguments of :class:`~memsuite.rl.shared.SharedRollout`.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        task, actor = self.task, given[2]
        self.opening, self.is_first, self.now = read_opening(task, actor.timestep)
        self.counts[3] += len(self.now.is_first) * self.ppo.draws

    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn | None]]:
        """Read the opening of each script once, then act, or read the steps of an earlier pass again."""
        state = self._state_after_opening(columns)
        rows = columns.repeat_interleave(self.ppo.draws)
        state = self.model.controller.fork(state, self.ppo.draws, self.task.horizon - self.task.passive_steps)
        with self.model.heads_folded():
            walk = self._act(rows, state) if not drawn else self._repeat(drawn[0], state)
        log_p, values = self._grouped(walk.log_p), self._grouped(walk.values)
        alive = self._grouped(walk.alive).to(values.dtype)
        share = alive / mean(alive.sum()).clamp(min=1)
        targets = self._grouped(walk.targets) if walk.targets else None
        decided = Decided(log_p, values, share, targets)
        yield decided, drawn[0] if drawn else self._judge(walk, decided)

    def _state_after_opening(self, columns: Tensor) -> State:
        state = map_state(lambda leaf: leaf.index_select(0, columns), self.state)
        opening, is_first = (x.index_select(1, columns) for x in (self.opening, self.is_first))
        length, window = len(opening), self.ppo.bptt_steps or self.task.horizon
        cut = max(0, length - window)
        if cut:
            with torch.no_grad():
                state = self.model.features(opening[:cut], state, is_first[:cut])[1]
        return self.model.features(opening[cut:], state, is_first[cut:])[1] if length else state

    def _act(self, rows: Tensor, state: State) -> Walk:
        fork, walk = self.task.fork(rows), Walk()
        observation, is_first = (x.index_select(0, rows) for x in (self.now.observation, self.now.is_first))
        alive = torch.ones_like(is_first)
        for _ in range(self.task.horizon - self.task.passive_steps):
            state = self._decide(walk, observation, state, is_first)
            action = draw(walk.log_p[-1].detach(), 1, self.generator).squeeze(1)
            walk.targets += [fork.best_actions()] if self.supervised else []
            walk.observations.append(observation)
            walk.actions.append(action)
            walk.alive.append(alive)
            following = fork.step(action)
            walk.rewards.append(following.reward * alive)
            walk.counts.append(torch.stack([(mask & alive).sum() for mask in (following.correct, following.scored)]))
            observation, is_first = following.observation, following.is_first
            alive = alive & ~(following.terminated | following.truncated)
        return walk

    def _repeat(self, drawn: Drawn, state: State) -> Walk:
        """Read the observations of a walk again with the current parameters."""
        assert drawn.observations is not None
        walk = Walk()
        no_reset = torch.zeros(drawn.observations.shape[1], dtype=torch.bool, device=drawn.observations.device)
        for t, observation in enumerate(drawn.observations):
            first = no_reset if t or self.task.passive_steps else ~no_reset
            state = self._decide(walk, observation, state, first)
        walk.alive = list(drawn.alive)  # type: ignore[arg-type]
        walk.targets = [] if drawn.targets is None else list(drawn.targets)
        return walk

    def _decide(self, walk: Walk, observation: Tensor, state: State, is_first: Tensor) -> State:
        logits, values, state = self.model.step(observation, state, is_first)
        walk.log_p.append(wide(logits))
        walk.values.append(values)
        return state

    def _grouped(self, steps: list[Tensor]) -> Tensor:
        """Return a list of one entry per step, ``[rows, ..]``, as groups: ``[steps x scripts, draws, ..]``."""
        whole = torch.stack(steps)
        return whole.view(-1, self.ppo.draws, *whole.shape[2:])

    def _judge(self, walk: Walk, decided: Decided) -> Drawn:
        with torch.no_grad():
            rewards = torch.stack(walk.rewards)
            self.counts[:2] += torch.stack(walk.counts).sum(0)
            self.counts[2] += rewards.double().sum()
            scaled = rewards.to(decided.values.dtype) * self.ppo.reward_scale
            returns = self._grouped(list(returns_to_go(scaled, self.ppo.discount)))
            actions, advantages = self._grouped(walk.actions), self.advantages(returns, decided.values)
            observations, alive = torch.stack(walk.observations), torch.stack(walk.alive)
            targets = torch.stack(walk.targets) if walk.targets else None
            return Drawn(actions, decided.log_prob(actions), returns, advantages, observations, targets, alive)

    def end(self) -> Actor:
        """Advance the task to the next episodes; the memory is not needed there."""
        timestep = self.now
        for _ in range(self.task.horizon - self.task.passive_steps):
            timestep = self.task.step(torch.zeros_like(self.now.is_first, dtype=torch.int64))
        return Actor(timestep, self.state)


def read_opening(task: Task, timestep: TimeStep) -> tuple[Tensor, Tensor, TimeStep]:
    """Advance past the steps at an episode's beginning that no action changes.

    Args:
        task: a running task, at the beginning of an episode.
        timestep: the current step of the task.

    Returns:
        The observations ``[T, B, D]`` and ``is_first`` ``[T, B]`` of those steps, and the step that follows.
    """
    passive = torch.zeros_like(timestep.is_first, dtype=torch.int64)
    seen = []
    for _ in range(task.passive_steps):
        seen.append(timestep)
        timestep = task.step(passive)
    if not seen:
        empty = timestep.observation.new_empty(0, *timestep.observation.shape)
        return empty, timestep.is_first.new_empty(0, *timestep.is_first.shape), timestep
    return torch.stack([one.observation for one in seen]), torch.stack([one.is_first for one in seen]), timestep


def share(steps: int, task: Task, *given: Any) -> SharedRollout:
    """Begin a rollout of shared scripts, of the class that suits the task.

    Args:
        steps: length of the rollout.
        task: a running task.
        given: the other arguments of :class:`~memsuite.rl.shared.SharedRollout`.
    """
    return SharedScript(steps, task, *given) if isinstance(task, ScriptedTask) else SharedWalk(task, *given)
