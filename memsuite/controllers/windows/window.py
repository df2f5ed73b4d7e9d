"""The common part of models that attend to the last steps of the episode: the caches, the two modes, the chunks."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from memsuite.controllers.base import Placement, ZeroBegin, zero_where
from memsuite.controllers.blocks import at_least
from memsuite.controllers.windows.appended import appended, emptied
from memsuite.controllers.windows.confined import finite, not_finite, spoilt, without, zeroed
from memsuite.controllers.windows.forked import append_recent, forked, whole, worth_sharing
from memsuite.controllers.windows.positions import last_true, positions_in_episode
from memsuite.errors import UsageError
from memsuite.types import State

Entries = dict[str, Tensor]  # by name, ``[B, steps, width]`` each


class View(NamedTuple):
    """What some queries may see of some keys.

    Attributes:
        age: steps from key to query, int64 ``[Q, K]``; the last Q keys are those of the queries themselves.
        seen: bool ``[B, Q, K]``; whether a key is of the query's episode, of the past and in the context.
        positions: of the queries in their episodes, int64 ``[B, Q]``.
    """

    age: Tensor
    seen: Tensor
    positions: Tensor


class WindowMemory(ZeroBegin):
    """A layer that caches something of each of the last ``context_length`` steps, and attends to it.

    A sequence is read in chunks of queries, each with its own window of keys, so that time and memory are of the order
    of ``T context_length``. A query sees a key if the key is no older than the query's position in the episode; this
    rule alone keeps episodes apart. A subclass defines what is cached and how it is attended to.

    State: a dict with the caches ``[B, context_length, width]``, which hold the last steps in order, the newest at the
    end, and zeros for steps before the episode; and ``position``, int64 ``[B]``, the number of steps of the episode
    that were already read. Where draws go on from one window (:meth:`fork`), they share its caches.

    Attributes:
        by_age: whether attention to a step depends on nothing but that step's entry, its age and the query.

    Args:
        width: width of the input and of the features.
        num_heads: number of attention heads; ``width`` is a multiple of it.
        context_length: number of visible steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        memory_horizon: steps to remember.
        chunk: number of queries computed at once; this changes time and memory, but not the result.
    """

    by_age = True

    def __init__(
        self, width: int, num_heads: int, context_length: int | None, memory_horizon: int | None, chunk: int
    ) -> None:
        super().__init__()
        at_least("num_heads", num_heads, 1)
        at_least("chunk", chunk, 1)
        if width % num_heads:
            raise UsageError(f"hidden_dim {width} is no multiple of num_heads {num_heads}")
        self.input_dim = self.feature_dim = width
        self.num_heads, self.chunk = num_heads, chunk
        self.context_length = usual_context(memory_horizon) if context_length is None else context_length
        at_least("context_length", self.context_length, 1)

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    @abstractmethod
    def widths(self) -> dict[str, int]:
        """Return the widths of what is cached of a step, by name."""

    @abstractmethod
    def entries(self, x: Tensor, positions: Tensor) -> Entries:
        """Compute what is cached of each step.

        Args:
            x: ``[.., D]``, with any two dimensions before the last.
            positions: position of each step in its episode, ``[..]``.
        """

    @abstractmethod
    def attend(self, x_BQD: Tensor, cached: Entries, view: View) -> Tensor:
        """Return features ``[B, Q, D]`` of some steps, given the cached entries ``[B, K, ..]`` that they may see."""

    def heads(self, x: Tensor) -> Tensor:
        """Split ``[B, steps, D]`` into ``[B, num_heads, steps, D / num_heads]``."""
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Empty the caches of the rows that begin an episode; if there is no such row, return the state uncopied."""
        its = dict(cast(dict[str, Any], state))
        if "past" in its:
            past = its.pop("past")  # of several rows: the position alone hides it
            return {"past": past, **cast(dict[str, Any], zero_where(its, is_first_B))}
        if is_first_B.device.type != "cpu":
            return zero_where(state, is_first_B)
        rows = is_first_B.nonzero().squeeze(1)
        if not len(rows):
            return state
        position = its.pop("position").index_fill(0, rows, 0)
        return {**{name: emptied(cache, rows) for name, cache in its.items()}, "position": position}

    def fork(self, state: State, draws: int, steps: int) -> State:
        """Let the draws share the caches where that costs less than copies of them."""
        caches = dict(cast(dict[str, Tensor], state))
        if not self.by_age or not worth_sharing(draws, steps, self.context_length):
            return super().fork(state, draws, steps)
        return forked(caches, caches.pop("position"), draws)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return empty caches and the position."""
        like = next(self.parameters())
        place: Any = {"device": device or like.device, "dtype": like.dtype}
        caches = {
            name: torch.zeros(batch_size, self.context_length, width, **place) for name, width in self.widths().items()
        }
        return {**caches, "position": torch.zeros(batch_size, dtype=torch.int64, device=place["device"])}

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: append to the caches, then attend to the cached steps of this episode."""
        if "past" in cast(dict[str, Any], state):
            return self._forked_step(x_BD, state)
        position = cast(dict[str, Tensor], state)["position"]
        before = self._begun(state)
        x_B1D, at = x_BD.unsqueeze(1), position.unsqueeze(1)
        cached = {name: appended(before[name], new) for name, new in self.entries(x_B1D, at).items()}
        reach = self._reach(position, any(part.requires_grad for part in cached.values()))
        age = torch.arange(reach - 1, -1, -1, device=x_BD.device).unsqueeze(0)
        view = View(age, (age <= at).unsqueeze(1), at)
        # A slice of the whole cache would be differentiated like any other.
        near = cached if reach == self.context_length else {name: part[:, -reach:] for name, part in cached.items()}
        return self.attend(x_B1D, near, view).squeeze(1), {**cached, "position": position + 1}

    def _begun(self, state: State) -> dict[str, Tensor]:
        """Empty the caches at position 0: this episode has written nothing, so what they hold is of an earlier one."""
        its = cast(dict[str, Tensor], state)
        begins = its["position"] == 0
        if begins.device.type == "cpu":  # few rows begin, and they are usually empty already: no cache need be copied
            rows = begins.nonzero().squeeze(1)
            if not any(bool(cache[rows].any()) for name, cache in its.items() if name != "position"):
                return its
        return cast(dict[str, Tensor], self.reset_mask(state, begins))

    def _forked_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step of draws that share a past: a window's draws are the queries of one row."""
        position = cast(dict[str, Tensor], state)["position"]
        after = append_recent(state, self.entries(x_BD.unsqueeze(1), position.unsqueeze(1)))
        reach = min(self.context_length, _most(position, self.context_length) + 1)
        cached, age, seen, at = whole(after, reach, self.context_length)
        x, view = x_BD.view(*at.shape, -1), View(age, seen, at)
        if x.device.type == "cpu" and finite(features := self.attend(x, cached, view)):
            return features.flatten(0, 1), after
        lost = not_finite(cached)
        reached = (seen & lost.unsqueeze(1)).any(-1)
        features = self.attend(zeroed(x, reached), without(cached, lost), view)
        return spoilt(features, reached).flatten(0, 1), after

    def _reach(self, position: Tensor, learns: bool) -> int:
        """Return how many cached steps to attend to: those that any row has seen, or all of them.

        When the step is differentiated, a slice of more than half of the cache would cost more than it saves: its
        gradient is allocated and filled at the length of the whole cache.
        """
        reach = min(self.context_length, _most(position, self.context_length) + 1)
        return self.context_length if learns and 2 * reach > self.context_length else reach

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Attend to the carried steps and to those of the sequence."""
        before = cast(dict[str, Tensor], state)
        # The position alone hides the steps of an earlier episode, so the caches need no reset.
        position = before["position"].masked_fill(is_first_TB[0], 0)
        positions = positions_in_episode(is_first_TB, position)
        carried = min(self.context_length, _most(position, self.context_length))
        every = self.entries(x_TBD, positions)
        if carried:
            seen = torch.arange(carried, 0, -1, device=x_TBD.device) <= position.unsqueeze(1)
            old = {name: _zero_unseen(before[name][:, self.context_length - carried :], seen) for name in every}
            every = {name: torch.cat([old[name].transpose(0, 1), new]) for name, new in every.items()}
        features = self._confined(x_TBD, every, positions, carried)
        after = {name: self._cache(part.transpose(0, 1), positions[-1]) for name, part in every.items()}
        return features, {**after, "position": positions[-1] + 1}

    def _confined(self, x_TBD: Tensor, every: Entries, positions_TB: Tensor, carried: int) -> Tensor:
        """Attend to a sequence; features are NaN where a query sees a step that is not finite, and only there."""
        given = positions_TB, carried
        if x_TBD.device.type == "cpu" and finite(features := self.attend_sequence(x_TBD, every, *given)):
            return features  # an accelerator would have to wait for the answer
        lost = not_finite(every)
        newest, time = last_true(lost), torch.arange(len(lost), device=lost.device).unsqueeze(1)
        reached = (time - newest)[carried:] <= positions_TB.clamp(max=self.context_length - 1)
        reached &= newest[carried:] >= 0
        return spoilt(self.attend_sequence(zeroed(x_TBD, lost[carried:]), without(every, lost), *given), reached)

    def _cache(self, part_BTW: Tensor, last_B: Tensor) -> Tensor:
        """Return the last ``context_length`` steps, with zeros for steps before the episode of position ``last_B``."""
        newest = part_BTW[:, -self.context_length :]
        newest = pad(newest, (0, 0, self.context_length - newest.shape[1], 0))
        ages = torch.arange(self.context_length - 1, -1, -1, device=newest.device)
        return _zero_unseen(newest, ages <= last_B.unsqueeze(1))

    def attend_sequence(self, x_TBD: Tensor, every: Entries, positions_TB: Tensor, carried: int) -> Tensor:
        """Attend chunk by chunk; return features ``[T, B, D]``.

        Args:
            x_TBD: the sequence.
            every: the entries of the carried steps and of the sequence, ``[carried + T, B, width]`` each.
            positions_TB: of the sequence's steps in their episodes.
            carried: number of steps before the sequence.
        """
        batch_first = {name: part.transpose(0, 1) for name, part in every.items()}
        return self._in_chunks(x_TBD.transpose(0, 1), batch_first, positions_TB.t(), carried).transpose(0, 1)

    def _in_chunks(self, x: Tensor, every: Entries, positions: Tensor, carried: int) -> Tensor:
        """Attend chunk by chunk, with the batch in the first dimension of everything.

        The tensors are split and joined, never sliced, because every slice would allocate a gradient as long as the
        whole sequence.
        """
        blocks = math.ceil(carried / self.chunk)  # largest number of key blocks before each chunk of queries
        front = blocks * self.chunk - carried
        padded = {name: pad(part, (0, 0, front, 0)) if front else part for name, part in every.items()}
        parts = {name: torch.split(part, self.chunk, dim=1) for name, part in padded.items()}
        out = []
        for i, (x_i, at) in enumerate(zip(x.split(self.chunk, 1), positions.split(self.chunk, 1), strict=True)):  # type: ignore[no-untyped-call]
            oldest = min(self.context_length - 1, _most(at, self.context_length))
            back = min(blocks + i, math.ceil(oldest / self.chunk))
            time = torch.arange(back * self.chunk + x_i.shape[1], device=x.device)
            age = time[back * self.chunk :].unsqueeze(1) - time
            seen = (age >= 0) & (age < self.context_length) & (age <= at.unsqueeze(2))
            window = slice(i + blocks - back, i + blocks + 1)
            cached = {name: torch.cat(part[window], dim=1) for name, part in parts.items()}
            out.append(self.attend(x_i, cached, View(age, seen, at)))
        return torch.cat(out, dim=1)


def usual_context(memory_horizon: int | None) -> int:
    """Return the number of steps that a model sees which was not told one."""
    return 512 if memory_horizon is None else memory_horizon + 1


def _most(positions: Tensor, context_length: int) -> int:
    """Return an upper bound on the steps of an episode before these positions, at most the context.

    On an accelerator this is the context itself, so that the host need not wait for the positions.
    """
    return context_length if positions.device.type != "cpu" else min(context_length, int(positions.max()))


def _zero_unseen(cache_BCD: Tensor, seen_BC: Tensor) -> Tensor:
    """Zero the steps that the episode has not written; masking the scores alone would let a NaN through."""
    return cache_BCD.masked_fill(~seen_BC.unsqueeze(-1), 0)
