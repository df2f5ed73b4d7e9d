"""Learning from shared scripts: the memory reads a script once, and several draws of actions learn from that reading.

If actions do not change the observations, environments with the same script differ only in their actions. One forward
and one backward pass through the memory then serve all of them, and only the steps whose action counts need the heads:
the scored steps of a scripted task. In an interactive task, the observations before the first action that matters are
read once, and the environments separate from there.

The current policy acts in a minibatch and learns from it ``ppo.epochs`` times; then the next minibatch follows. The
pass that draws the actions is also the pass that is differentiated, so with one epoch every ratio is 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memsuite.controllers.base import map_state
from memsuite.distributed import mean, total
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.groups import group_advantages
from memsuite.rl.minibatch import AdvantageScale
from memsuite.rl.policy.loss import LossTerms, cross_entropy, draws_loss
from memsuite.rl.rollout import Actor
from memsuite.runs.config import Objective
from memsuite.runs.ppo import ResolvedPPO
from memsuite.tasks import ScriptedTask, Task
from memsuite.tasks.parts import uniform_numbers
from memsuite.types import State


@dataclass(frozen=True)
class Drawn:
    """The draws at the decisions of a window, ``[N, K]`` each, without gradients.

    Attributes:
        actions: the drawn actions.
        log_probs: their log-probabilities at the time of the draw.
        returns: the return of each draw.
        advantages: the advantage of each draw.
        observations: ``[T, rows, D]``, the observations after the environments have separated; None for scripts.
        targets: the right actions ``[T, rows]`` after that point, if the objective needs them.
        alive: bool ``[T, rows]``, the episode was not over at that step.
    """

    actions: Tensor
    log_probs: Tensor
    returns: Tensor
    advantages: Tensor
    observations: Tensor | None = None
    targets: Tensor | None = None
    alive: Tensor | None = None


@dataclass(frozen=True)
class Decided:
    """The policy at the decisions of a window.

    Attributes:
        log_p: log-probabilities of all actions, ``[N, 1, A]`` where the draws of a group share them, otherwise
            ``[N, K, A]``.
        values: the critic's estimates, ``[N, 1]`` or ``[N, K]``; 0 without a critic.
        share: weight of one decision in the minibatch's mean, a scalar or ``[N, K]``.
        targets: the right actions, ``[N, 1]`` or ``[N, K]``; None where they are unknown.
    """

    log_p: Tensor
    values: Tensor
    share: Tensor
    targets: Tensor | None

    @property
    def entropy(self) -> Tensor:
        """The policy's entropy in nats, ``[N, 1]`` or ``[N, K]``."""
        return -(self.log_p.exp() * self.log_p).sum(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the log-probabilities of actions ``[N, K]``."""
        wide = self.log_p.expand(-1, actions.shape[1], -1)
        return wide.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def draw(log_p: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Draw ``draws`` actions at each decision by inverting the distribution function: ``[N, A] -> [N, draws]``."""
    cumulative = log_p.exp().cumsum(-1)
    uniform = uniform_numbers((len(log_p), draws), generator).to(log_p.dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform, right=True).clamp(max=log_p.shape[-1] - 1)


class SharedRollout(ABC):
    """One rollout of scripts that several environments share, and the losses of its minibatches.

    Args:
        task: a running task with one row per script.
        model: the network.
        actor: the end of the last rollout, with one row per script.
        ppo: the settings.
        objective: ``ppo``, or ``supervised`` for the cross-entropy of the right actions.
        scale: the divisor of the advantages; None for no scaling.
        generator: source of the actions.

    Attributes:
        counts: sums over the draws so far, ``[4]``: right decisions, scored decisions, rewards, and episodes that
            ended.
        windows: parts that a minibatch is read in.
        idle: bool, a scalar: the minibatch that was read last has no decision in any process, as a rollout of a part of
            an episode may have none. None where there always is one.
    """

    windows = 1
    idle: Tensor | None = None

    def __init__(
        self,
        task: Task,
        model: ActorCritic,
        actor: Actor,
        ppo: ResolvedPPO,
        objective: Objective,
        scale: AdvantageScale | None,
        generator: torch.Generator,
    ) -> None:
        self.task, self.model, self.ppo, self.supervised = task, model, ppo, objective == "supervised"
        self.scale, self.generator, self.state = scale, generator, actor.state
        self.counts = torch.zeros(4, dtype=torch.float64, device=actor.timestep.is_first.device)

    @abstractmethod
    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn]]:
        """Yield the decisions of each window of a minibatch, with a gradient, and the draws at them.

        Args:
            columns: the scripts of the minibatch, ``[M]``.
            drawn: the earlier draws, one entry per window; empty in the first pass, which draws.
        """

    @abstractmethod
    def end(self) -> Actor:
        """Return the beginning of the next rollout."""

    def losses(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[float, LossTerms]]:
        """Yield the loss of each window of a minibatch; call backward on it before taking the next one.

        Args:
            columns: the scripts of the minibatch, ``[M]``.
            drawn: the draws; the first pass fills the list, and later passes learn from it again.
        """
        if not drawn and self.scale is not None and self.windows > 1:
            # The scale is of all windows, so all are drawn before the first of them is learnt from.
            with torch.no_grad():
                found = [judged for _, judged in self.decisions(columns, [])]
            drawn += self._scaled(found)
        first = not drawn
        for decided, judged in self.decisions(columns, drawn):
            if first:
                (judged,) = self._scaled([judged])
                drawn.append(judged)
            if self.supervised:
                assert decided.targets is not None
                yield 1.0, cross_entropy(decided.log_prob(decided.targets), decided.entropy, decided.share)
            else:
                yield 1.0, self._loss(decided, judged)

    def _scaled(self, drawn: list[Drawn]) -> list[Drawn]:
        """Divide the advantages of all windows by their common scale, if there is one."""
        if self.scale is None or self.supervised:
            return drawn
        parts = self.scale(torch.cat([one.advantages for one in drawn])).split([len(one.advantages) for one in drawn])
        return [replace(one, advantages=part) for one, part in zip(drawn, parts, strict=True)]

    def _loss(self, decided: Decided, drawn: Drawn) -> LossTerms:
        with_critic = self.ppo.advantage == "gae"
        return draws_loss(
            decided.log_prob(drawn.actions),
            decided.entropy,
            decided.values,
            drawn.log_probs,
            drawn.advantages,
            drawn.returns if with_critic else decided.values,
            decided.share,
            clip=self.ppo.clip,
            value_coefficient=self.ppo.value_coefficient if with_critic else 0.0,
            entropy_coefficient=self.ppo.entropy_coefficient,
            entropy_weighting=self.ppo.entropy_weighting,
        )

    def advantages(self, returns: Tensor, values: Tensor) -> Tensor:
        """Return the advantage of each draw, ``[N, K]``, relative to its group or to the critic's estimate."""
        kind = self.ppo.advantage
        return returns - values.detach() if kind == "gae" else group_advantages(returns, kind)

    def outcome(self) -> Tensor:
        """Return ``[success, mean return of an episode, explained variance]`` over all processes.

        The mean return is NaN where rollouts are parts of episodes; the last is NaN always.
        """
        right, scored, rewards, episodes = total(self.counts)
        nothing = torch.full_like(right, torch.nan)
        return torch.stack([right / scored, torch.where(episodes > 0, rewards / episodes, nothing), nothing])


def wide(logits: Tensor) -> Tensor:
    """Return log-probabilities in 32 bits or more."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class SharedScript(SharedRollout):
    """A rollout of a scripted task: the memory reads each script once, and only scored steps have decisions.

    Args:
        steps: length of the rollout.
        given: the arguments of :class:`SharedRollout`.
    """

    task: ScriptedTask

    def __init__(self, steps: int, *given: Any) -> None:
        super().__init__(*given)
        self.block = self.task.advance(steps)
        self.windows = -(-steps // (self.ppo.bptt_steps or steps))
        self._ends: list[tuple[Tensor, State]] = []
        if steps % self.task.horizon == 0:  # the mean return is of whole episodes; parts of one have none
            self.counts[3] += self.block.terminated.sum() * self.ppo.draws

    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn]]:
        """Read the scripts in windows of ``ppo.bptt_steps``; the memory crosses windows, the gradient does not."""
        whole = len(columns) == self.block.is_first.shape[1]

        def pick(tensor: Tensor) -> Tensor:
            return tensor if whole else tensor.index_select(1, columns)

        observations, is_first = pick(self.block.observations), pick(self.block.is_first)
        targets, scored = pick(self.block.targets), pick(self.block.scored)
        state = self.state if whole else map_state(lambda leaf: leaf.index_select(0, columns), self.state)
        count = mean(scored.sum().double())
        share, self.idle = 1 / (count.clamp(min=1) * (1 if self.supervised else self.ppo.draws)), count == 0
        length, window = len(scored), self.ppo.bptt_steps or len(scored)
        before = list(drawn)
        for index, begin in enumerate(range(0, length, window)):
            at = slice(begin, begin + window)
            # Found before the memory reads, because on a GPU the host waits here for what the device has been given.
            where = scored[at].flatten().nonzero().squeeze(1)
            # Where blocks are computed again, the features of the other steps would be most of what is kept.
            keep = scored[at].any(1) if self.model.recompute else None
            features, state = self.model.features(observations[at], state, is_first[at], keep)
            seen = observations[at].flatten(0, 1).index_select(0, where)
            inside = where if keep is None else scored[at][keep].flatten().nonzero().squeeze(1)
            chosen = features.flatten(0, 1).index_select(0, inside)
            # As one row of a sequence, because the ops that are fused for sequences then apply here too.
            logits, values = self.model.heads(chosen.unsqueeze(0), seen.unsqueeze(0))
            right = targets[at].flatten().index_select(0, where).unsqueeze(1)
            decided = Decided(wide(logits[0]).unsqueeze(1), values[0].unsqueeze(1), share.to(values.dtype), right)
            yield decided, before[index] if before else self._judge(decided)
            state = map_state(Tensor.detach, state)
        self._ends.append((columns, state))

    def _judge(self, decided: Decided) -> Drawn:
        assert decided.targets is not None
        with torch.no_grad():
            if self.supervised:
                log_prob = decided.log_prob(decided.targets)
                self._count(log_prob.exp(), self.ppo.draws)  # the expected number of right draws
                return Drawn(decided.targets, log_prob, log_prob.exp(), torch.zeros_like(log_prob))
            actions = draw(decided.log_p[:, 0], self.ppo.draws, self.generator)
            correct = actions == decided.targets
            returns = correct.to(decided.log_p.dtype) * self.ppo.reward_scale
            self._count(correct, 1)
            advantages = self.advantages(returns, decided.values)
            return Drawn(actions, decided.log_prob(actions), returns, advantages)

    def _count(self, right: Tensor, times: int) -> None:
        found = right.double().sum() * times
        self.counts[:3] += torch.stack([found, found.new_full((), right.numel() * times), found])

    def end(self) -> Actor:
        """Join the memories of all minibatches; if the next step begins an episode, no memory is needed."""
        following, state = self.task.peek(), self.state
        if len(self.block.scored) % self.task.horizon:
            state = map_state(torch.clone, state)
            for columns, part in self._ends:  # of several passes over a minibatch, the last one is kept
                map_state(lambda whole, own, at=columns: whole.index_copy_(0, at, own.to(whole.dtype)), state, part)
        return Actor(following, state)
