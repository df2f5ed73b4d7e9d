"""Learning from shared scripts: the memory reads a script once, and several draws of actions learn from that reading.

Where actions change nothing that is shown, environments with one script differ in their actions alone. Then one
forward and one backward pass through the memory serve all of them, and only steps whose action counts need the heads:
the scored ones of a scripted task. In a task that can be acted in, what is shown before the first action that matters
is read once, and the environments part from there.

A minibatch is acted in by the policy as it stands, learnt from ``ppo.epochs`` times, and then the next one's turn
comes. The pass that draws the actions is the one that is differentiated, so with one epoch every ratio is 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memsuite.controllers.base import map_state
from memsuite.distributed import mean, total
from memsuite.rl.actor_critic import ActorCritic
from memsuite.rl.groups import group_advantages
from memsuite.rl.loss import LossTerms, cross_entropy, draws_loss
from memsuite.rl.minibatch import AdvantageScale
from memsuite.rl.rollout import Actor
from memsuite.runs.config import Objective
from memsuite.runs.ppo import ResolvedPPO
from memsuite.tasks import ScriptedTask, Task
from memsuite.types import State


@dataclass(frozen=True)
class Drawn:
    """What the draws did at the decisions of a window, ``[N, K]`` each; nothing here has a gradient.

    Attributes:
        actions: the actions drawn.
        log_probs: their log-probabilities then.
        returns: what each led to.
        advantages: what each is worth to the loss.
        observations: what was seen on the way, ``[T, rows, D]``, where the environments have parted.
        targets: the right actions there, ``[T, rows]``, where they are asked for.
        alive: bool ``[T, rows]``, the episode was not over there.
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
        log_p: log-probabilities of all actions, ``[N, 1, A]`` where the draws of a group share them, else
            ``[N, K, A]``.
        values: the critic's estimates, ``[N, 1]`` or ``[N, K]``; 0 without a critic.
        share: what one decision counts for in the minibatch's mean, a scalar or ``[N, K]``.
        targets: the right actions, ``[N, 1]`` or ``[N, K]``, where they are known.
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
    uniform = torch.rand(len(log_p), draws, generator=generator, device=log_p.device, dtype=torch.float32)
    uniform = uniform.to(log_p.dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform, right=True).clamp(max=log_p.shape[-1] - 1)


class SharedRollout(ABC):
    """One rollout of scripts that several environments share, and the losses of its minibatches.

    Args:
        task: a running task with a row for each script.
        model: the network.
        actor: where the last rollout ended, with a row for each script.
        ppo: the settings.
        objective: ``ppo``, or ``supervised`` for the cross-entropy of the right actions.
        scale: what advantages are divided by; None for nothing.
        generator: source of the actions.

    Attributes:
        counts: what the draws came to so far, ``[4]``: right ones, scored ones, the sum of their rewards, and the
            episodes that ended.
    """

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
    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn | None]]:
        """Yield the decisions of each window of a minibatch, with a gradient, and what was drawn at them.

        Args:
            columns: the scripts of the minibatch, ``[M]``.
            drawn: what was drawn at them before; empty at the first pass, which draws.
        """

    @abstractmethod
    def end(self) -> Actor:
        """Return where the next rollout begins."""

    def losses(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[float, LossTerms]]:
        """Yield the loss of each window of a minibatch, whose gradient is to be added before the next is read.

        Args:
            columns: the scripts of the minibatch, ``[M]``.
            drawn: what was drawn at them; filled at the first pass, learnt from once more at later ones.
        """
        first = not drawn
        for decided, judged in self.decisions(columns, drawn):
            if self.supervised:
                assert decided.targets is not None
                yield 1.0, cross_entropy(decided.log_prob(decided.targets), decided.entropy, decided.share)
            else:
                assert judged is not None
                yield 1.0, self._loss(decided, judged)
            if first and judged is not None:
                drawn.append(judged)

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
        """Return what each draw is worth, ``[N, K]``, beside the others of its group or the critic's estimate."""
        kind = self.ppo.advantage
        found = returns - values.detach() if kind == "gae" else group_advantages(returns, kind)
        return self.scale(found) if self.scale is not None else found

    def outcome(self) -> Tensor:
        """Return ``[success, mean return of an episode, explained variance]`` over all processes; the last is NaN."""
        right, scored, rewards, episodes = total(self.counts)
        return torch.stack([right / scored, rewards / episodes, torch.full_like(right, torch.nan)])


def wide(logits: Tensor) -> Tensor:
    """Return log-probabilities in 32 bits or more."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class SharedScript(SharedRollout):
    """A rollout of a scripted task: the memory reads each script once, and only scored steps are decided.

    Args:
        steps: length of the rollout.
        given: what :class:`SharedRollout` takes.
    """

    task: ScriptedTask

    def __init__(self, steps: int, *given: Any) -> None:
        super().__init__(*given)
        self.block = self.task.advance(steps)
        self._ends: list[tuple[Tensor, State]] = []
        self.counts[3] += self.block.terminated.sum() * self.ppo.draws

    def decisions(self, columns: Tensor, drawn: list[Drawn]) -> Iterator[tuple[Decided, Drawn | None]]:
        """Read the scripts in windows of ``ppo.bptt_steps`` steps; the memory is carried on, its gradient is not."""
        whole = len(columns) == self.block.is_first.shape[1]

        def pick(tensor: Tensor) -> Tensor:
            return tensor if whole else tensor.index_select(1, columns)

        observations, is_first = pick(self.block.observations), pick(self.block.is_first)
        targets, scored = pick(self.block.targets), pick(self.block.scored)
        state = self.state if whole else map_state(lambda leaf: leaf.index_select(0, columns), self.state)
        share = 1 / (mean(scored.sum().double()).clamp(min=1) * (1 if self.supervised else self.ppo.draws))
        length = len(scored)
        window = self.ppo.bptt_steps or length
        before = list(drawn)
        for index, begin in enumerate(range(0, length, window)):
            at = slice(begin, begin + window)
            features, state = self.model.features(observations[at], state, is_first[at])
            where = scored[at].flatten().nonzero().squeeze(1)
            chosen, seen = (x.flatten(0, 1).index_select(0, where) for x in (features, observations[at]))
            # One row of a sequence: what is fused for sequences is fused here too.
            logits, values = self.model.heads(chosen.unsqueeze(0), seen.unsqueeze(0))
            right = targets[at].flatten().index_select(0, where).unsqueeze(1)
            decided = Decided(wide(logits[0]).unsqueeze(1), values[0].unsqueeze(1), share.to(values.dtype), right)
            yield decided, before[index] if before else self._judge(decided)
            state = map_state(Tensor.detach, state)
        self._ends.append((columns, state))

    def _judge(self, decided: Decided) -> Drawn | None:
        assert decided.targets is not None
        with torch.no_grad():
            if self.supervised:
                found = decided.log_prob(decided.targets).exp()
                self._count(found, self.ppo.draws)  # what draws would have come to on average
                return None
            actions = draw(decided.log_p[:, 0], self.ppo.draws, self.generator)
            correct = actions == decided.targets
            returns = correct.to(decided.log_p.dtype) * self.ppo.reward_scale
            self._count(correct, 1)
            advantages = self.advantages(returns, decided.values)
            return Drawn(actions, decided.log_prob(actions), returns, advantages)

    def _count(self, right: Tensor, times: int) -> None:
        found = right.double().sum() * times
        self.counts[:3] += torch.stack([found, found.new_tensor(right.numel() * times), found])

    def end(self) -> Actor:
        """Put the memories of all minibatches together; where the next step begins an episode none is needed."""
        following, state = self.task.peek(), self.state
        if len(self.block.scored) % self.task.horizon:
            state = map_state(torch.clone, state)
            for columns, part in self._ends:  # of several passes over a minibatch the last counts
                map_state(lambda whole, own, at=columns: whole.index_copy_(0, at, own.to(whole.dtype)), state, part)
        return Actor(following, state)
