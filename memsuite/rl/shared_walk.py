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
from memsuite.rl.rollout import Actor, only_first
from memsuite.rl.shared import Decided, Drawn, SharedRollout, SharedScript, draw, wide
from memsuite.tasks import ScriptedTask, Task
from memsuite.types import State, TimeStep


@dataclass
class Walk:
    """The decisions of a rollout: lists of blocks of consecutive steps, with one row per environment.

    Attributes:
        log_p: log-probabilities of all actions, ``[T, rows, A]``, with a gradient.
        values: the critic's estimates, ``[T, rows]``.
        observations: ``[T, rows, D]``, of the steps after the environments have separated.
        actions: ``[T, rows]``.
        targets: the right actions, ``[T, rows]``, if the objective needs them.
        rewards: ``[T, rows]``.
        alive: bool ``[T, rows]``, the first episode was not over before the step.
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

    The observations that no action changes are read once a script. Where actions change rewards there, each environment
    draws its own from that one reading; after it, every environment is stepped.

    Args:
        given: the arguments of :class:`~memsuite.rl.shared.SharedRollout`.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        task, actor = self.task, given[2]
        self.open = task.known_steps - task.passive_steps  # decisions that are made from the common reading
        self.opening, self.is_first, self.now = read_opening(task, actor.timestep)
        self.counts[3] += len(self.now.is_first) * self.ppo.draws

    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn]]:
        """Read the opening of each script once, then act, or read the steps of an earlier pass again."""
        features, state = self._read_opening(columns)
        rows = columns.repeat_interleave(self.ppo.draws)
        state = self.model.controller.fork(state, self.ppo.draws, self.task.horizon - self.task.known_steps)
        walk = Walk()
        with self.model.heads_folded():
            if self.open:
                self._decide_at_once(walk, torch.cat(features), self.opening[-self.open :].index_select(1, columns))
            if drawn:
                self._repeat(walk, drawn[0], state)
            else:
                self._act(walk, rows, state)
        log_p, values = self._grouped(walk.log_p), self._grouped(walk.values)
        alive = self._grouped(walk.alive).to(values.dtype)
        share = alive / mean(alive.sum()).clamp(min=1)
        targets = self._grouped(walk.targets) if walk.targets else None
        decided = Decided(log_p, values, share, targets)
        yield decided, drawn[0] if drawn else self._judge(walk, decided)

    def _read_opening(self, columns: Tensor) -> tuple[list[Tensor], State]:
        """Return the features of the decisions in the opening, blocks of ``[T, M, F]``, and the memory after it.

        The gradient is cut every ``ppo.bptt_steps``, counted from the end. A part that neither reaches the end nor has
        a decision needs none.
        """
        state = map_state(lambda leaf: leaf.index_select(0, columns), self.state)
        opening, is_first = (x.index_select(1, columns) for x in (self.opening, self.is_first))
        length, window, found = len(opening), self.ppo.bptt_steps or self.task.horizon, []
        begins = [0, *range(length % window or window, length, window)] if length else []
        for begin, end in zip(begins, [*begins[1:], length], strict=False):
            needed = end == length or end > length - self.open
            with torch.set_grad_enabled(needed and torch.is_grad_enabled()):
                state = map_state(Tensor.detach, state)
                features, state = self.model.features(opening[begin:end], state, is_first[begin:end])
            found.append(features[max(0, length - self.open - begin) :])
        return found, state

    def _decide_at_once(self, walk: Walk, features: Tensor, observations: Tensor) -> None:
        """Add the decisions of the opening, from features ``[T, M, F]``: each environment has those of its script."""
        logits, values = self.model.heads(features, observations)
        walk.log_p.append(wide(logits).repeat_interleave(self.ppo.draws, 1))
        walk.values.append(values.repeat_interleave(self.ppo.draws, 1))

    def _act(self, walk: Walk, rows: Tensor, state: State) -> None:
        fork = self.task.fork(rows)
        observation, is_first = (x.index_select(0, rows) for x in (self.now.observation, self.now.is_first))
        if self.open:
            now = self._act_at_once(walk, fork)
            observation, is_first = now.observation, now.is_first
        alive = torch.ones_like(is_first)
        for _ in range(self.task.horizon - self.task.known_steps):
            state = self._decide(walk, observation, state, is_first)
            action = draw(walk.log_p[-1][0].detach(), 1, self.generator).squeeze(1)
            walk.targets += [fork.best_actions().unsqueeze(0)] if self.supervised else []
            walk.observations.append(observation.unsqueeze(0))
            walk.actions.append(action.unsqueeze(0))
            walk.alive.append(alive.unsqueeze(0))
            following = fork.step(action)
            walk.rewards.append((following.reward * alive).unsqueeze(0))
            walk.counts.append(torch.stack([(mask & alive).sum() for mask in (following.correct, following.scored)]))
            observation, is_first = following.observation, following.is_first
            alive = alive & ~(following.terminated | following.truncated)

    def _act_at_once(self, walk: Walk, fork: Task) -> TimeStep:
        """Draw the actions of the opening, ``[T, rows]``, and take them."""
        log_p = walk.log_p[0].detach()
        actions = draw(log_p.flatten(0, 1), 1, self.generator).view(log_p.shape[:2])
        if self.supervised:  # what is right may depend on the steps before
            right, rewards = [], []
            for action in actions:
                right.append(fork.best_actions())
                now = fork.step(action)
                rewards.append(now.reward)
            walk.targets.append(torch.stack(right))
            walk.rewards.append(torch.stack(rewards))
        else:
            found, now = fork.walk(actions)
            walk.rewards.append(found)
        walk.actions.append(actions)
        walk.alive.append(torch.ones_like(actions, dtype=torch.bool))
        return now

    def _repeat(self, walk: Walk, drawn: Drawn, state: State) -> None:
        """Read the observations of a walk again with the current parameters."""
        assert drawn.observations is not None
        assert drawn.alive is not None
        no_reset = torch.zeros(drawn.observations.shape[1], dtype=torch.bool, device=drawn.observations.device)
        for t, observation in enumerate(drawn.observations):
            first = no_reset if t or self.task.known_steps else ~no_reset
            state = self._decide(walk, observation, state, first)
        walk.alive = [drawn.alive]
        walk.targets = [] if drawn.targets is None else [drawn.targets]

    def _decide(self, walk: Walk, observation: Tensor, state: State, is_first: Tensor) -> State:
        logits, values, state = self.model.step(observation, state, is_first)
        walk.log_p.append(wide(logits).unsqueeze(0))
        walk.values.append(values.unsqueeze(0))
        return state

    def _grouped(self, blocks: list[Tensor]) -> Tensor:
        """Return blocks of steps, ``[T, rows, ..]``, as groups: ``[steps x scripts, draws, ..]``."""
        whole = torch.cat(blocks)
        return whole.view(-1, self.ppo.draws, *whole.shape[2:])

    def _judge(self, walk: Walk, decided: Decided) -> Drawn:
        with torch.no_grad():
            rewards = torch.cat(walk.rewards)
            self.counts[:2] += torch.stack(walk.counts).sum(0)
            self.counts[2] += rewards.double().sum()
            scaled = rewards.to(decided.values.dtype) * self.ppo.reward_scale
            returns = self._grouped([returns_to_go(scaled, self.ppo.discount)])
            actions, advantages = self._grouped(walk.actions), self.advantages(returns, decided.values)
            observations, alive = torch.cat(walk.observations), torch.cat(walk.alive)
            targets = torch.cat(walk.targets) if walk.targets else None
            return Drawn(actions, decided.log_prob(actions), returns, advantages, observations, targets, alive)

    def end(self) -> Actor:
        """Advance the task to the next episodes; the memory is not needed there."""
        passive = torch.zeros_like(self.now.is_first, dtype=torch.int64)
        if self.open:
            self.task.walk(passive.expand(self.open, -1))
        for _ in range(self.task.horizon - self.task.known_steps):
            timestep = self.task.step(passive)
        return Actor(timestep, self.state)


def read_opening(task: Task, timestep: TimeStep) -> tuple[Tensor, Tensor, TimeStep]:
    """Read the observations at an episode's beginning that no action changes, and advance past the passive steps.

    Args:
        task: a running task, at the beginning of an episode.
        timestep: the current step of the task.

    Returns:
        The observations ``[T, B, D]`` and ``is_first`` ``[T, B]`` of those steps, and the step after the passive ones.
    """
    if not (count := task.known_steps):
        empty = timestep.observation.new_empty(0, *timestep.observation.shape)
        return empty, timestep.is_first.new_empty(0, *timestep.is_first.shape), timestep
    seen, is_first = task.look_ahead(timestep, count), only_first(timestep, count)
    if task.passive_steps:
        passive = torch.zeros_like(timestep.is_first, dtype=torch.int64)
        timestep = task.walk(passive.expand(task.passive_steps, -1))[1]
    return seen, is_first, timestep


def share(steps: int, task: Task, *given: Any) -> SharedRollout:
    """Begin a rollout of shared scripts, of the class that suits the task.

    Args:
        steps: length of the rollout.
        task: a running task.
        given: the other arguments of :class:`~memsuite.rl.shared.SharedRollout`.
    """
    return SharedScript(steps, task, *given) if isinstance(task, ScriptedTask) else SharedWalk(task, *given)
