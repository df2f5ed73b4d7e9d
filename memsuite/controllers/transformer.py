"""A causal transformer (Vaswani et al. 2017) over the last steps of the episode, with rotary positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import EPSILON, RMSNorm, at_least
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import gated_out, rotary, split_linear, window_attention
from memsuite.ops.fused.gated_out import NONE
from memsuite.ops.schema import worth_fusing
from memsuite.types import State

BASE = 10_000.0  # base of the rotary frequencies, as published


class TransformerLayer(ZeroBegin):
    r"""Causal attention to the last ``context_length`` steps of the episode, the present one included.

    .. math::
        y = W_o\, \mathrm{norm}(\mathrm{attention}(W_q x, W_k x, W_v x))

    Queries and keys are rotated by their position in the episode (rotary, Su et al. 2021, arXiv 2104.09864). The norm
    before the output projection is that of Wang et al. 2022 (arXiv 2210.06423). Untrained attention averages over the
    whole context, so without the norm an item from H steps before would have a size of ``1 / H``. A sequence is read
    in chunks of ``chunk`` queries, each with its own window of keys, so that time and memory are of the order of ``T
    context_length`` and not of ``T^2``. A query sees a key if the key is no older than the query's position in the
    episode; this rule alone keeps episodes apart.

    State: ``2 context_length input_dim`` floats and the position. The caches hold the last steps in order, the newest
    at the end, and zeros for steps before the episode. Cost per step:
    ``input_dim (4 input_dim + 2 context_length)`` multiply-adds and ``num_heads context_length`` exponentials.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps to remember; sets the context if ``context_length`` is not given.
        context_length: number of visible steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        num_heads: number of attention heads; ``input_dim`` is a multiple of twice this number.
        chunk: number of queries computed at once; this changes time and memory, but not the result.
    """

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        num_heads: int = 4,
        chunk: int = 128,
    ) -> None:
        super().__init__()
        if input_dim % (2 * num_heads):
            raise UsageError(f"transformer: hidden_dim {input_dim} is no multiple of 2 * num_heads = {2 * num_heads}")
        if context_length is None:
            context_length = 512 if memory_horizon is None else memory_horizon + 1
        at_least("context_length", context_length, 1)
        at_least("chunk", chunk, 1)
        self.input_dim = self.feature_dim = input_dim
        self.context_length, self.num_heads, self.chunk = context_length, num_heads, chunk
        self.qkv = nn.Linear(input_dim, 3 * input_dim, bias=False)
        self.norm = RMSNorm(input_dim)
        self.out = nn.Linear(input_dim, input_dim, bias=False)

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return empty caches ``keys`` and ``values`` ``[B, context_length, width]``, ``position`` ``[B]``.

        ``position`` (int64) is the number of steps of the episode that were already read.
        """
        weight = self.out.weight
        device = device or weight.device
        shape = batch_size, self.context_length, self.feature_dim
        return {
            "keys": torch.zeros(shape, device=device, dtype=weight.dtype),
            "values": torch.zeros(shape, device=device, dtype=weight.dtype),
            "position": torch.zeros(batch_size, device=device, dtype=torch.int64),
        }

    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Empty the caches of the rows that begin an episode; if there is no such row, return the state uncopied."""
        if is_first_B.device.type == "cpu" and not bool(is_first_B.any()):
            return state
        return super().reset_mask(state, is_first_B)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: append to the caches, then attend to the cached steps of this episode."""
        # At position 0 this episode has written nothing to the caches, so their content belongs to an earlier one.
        keys, values, position = _parts(self.reset_mask(state, _parts(state)[2] == 0))
        q, k, v = (part.flatten(-2) for part in self._project(x_BD.unsqueeze(1), position.unsqueeze(1)))
        k, v = appended(keys, k), appended(values, v)
        reach = self._reach(position, k.requires_grad)
        # A slice of the whole cache would be differentiated like any other.
        seen_k, seen_v = (k, v) if reach == self.context_length else (k[:, -reach:], v[:, -reach:])
        seen = self._ages(x_BD.device)[-reach:] <= position.unsqueeze(1)
        y = self._read(self._attend(q, seen_k, seen_v, seen.unsqueeze(1)))
        return y.squeeze(1), {"keys": k, "values": v, "position": position + 1}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Attend chunk by chunk, then project all outputs at once."""
        keys, values, position = _parts(state)
        # The position alone hides the steps of an earlier episode, so the caches need no reset.
        position = position.masked_fill(is_first_TB[0], 0)
        positions = _positions(is_first_TB.t(), position)
        q, k, v = self._project(x_TBD, positions.t())
        carried = self._steps_before(position)
        if carried:
            seen = self._ages(x_TBD.device)[-carried:] < position.unsqueeze(1)
            before = (_zero_unseen(old[:, -carried:], seen).transpose(0, 1) for old in (keys, values))
            k, v = (torch.cat([old.reshape(-1, *k.shape[1:]), new]) for old, new in zip(before, (k, v), strict=True))
        if worth_fusing(x_TBD):
            age = positions.t().clamp(max=self.context_length - 1)
            y = self._read(window_attention(q, k, v, age).flatten(-2))
        q, k, v = (part.flatten(-2).transpose(0, 1) for part in (q, k, v))
        if not worth_fusing(x_TBD):
            y = self._read(self._attend_in_chunks(q, k, v, positions, carried)).transpose(0, 1)
        k, v = (self._cache(x, positions[:, -1:]) for x in (k, v))
        return y, {"keys": k, "values": v, "position": positions[:, -1] + 1}

    def _cache(self, x_BTD: Tensor, position_B1: Tensor) -> Tensor:
        """Return the last ``context_length`` steps, with zeros for steps before the episode of ``position``."""
        newest = x_BTD[:, -self.context_length :]
        newest = pad(newest, (0, 0, self.context_length - newest.shape[1], 0))
        return _zero_unseen(newest, self._ages(x_BTD.device) <= position_B1)

    def attention(self, x_TBD: Tensor, is_first_TB: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention weights and the values of a sequence, for the probes.

        The cache is empty at first. The whole map is computed at once, ``B num_heads T^2`` floats.

        Returns:
            Weights ``[B, num_heads, T, T]``, queries by keys, each row adding up to one, and values
            ``[B, num_heads, T, D / num_heads]``. Their product, normalised and projected, is :meth:`forward_sequence`.
        """
        positions = _positions(is_first_TB.t(), is_first_TB.new_zeros(is_first_TB.shape[1], dtype=torch.int64))
        q, k, v = (part.transpose(1, 2) for part in self._project(x_TBD.transpose(0, 1), positions))
        time = torch.arange(len(x_TBD), device=x_TBD.device)
        age = time.unsqueeze(1) - time
        seen = (age >= 0) & (age < self.context_length) & (age <= positions.unsqueeze(2))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.masked_fill(~seen.unsqueeze(1), -torch.inf).softmax(-1), v

    def _project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values by head, with queries and keys rotated by their positions.

        Args:
            x: ``[.., D]``, with any two dimensions before the last.
            positions: position of each row in its episode, ``[..]``.
        """
        parts = split_linear(x, self.qkv.weight, [self.feature_dim] * 3)
        q, k, v = (part.to(self.out.weight.dtype).view(*x.shape[:-1], self.num_heads, -1) for part in parts)
        half = q.shape[-1] // 2
        frequencies = BASE ** (-torch.arange(half, device=q.device, dtype=q.dtype) / half)
        angles = positions.unsqueeze(-1) * frequencies
        cos, sin = angles.cos(), angles.sin()
        return rotary(q, cos, sin), rotary(k, cos, sin), v

    def _reach(self, position: Tensor, learns: bool) -> int:
        """Return how many cached steps to attend to: those that any row has seen, or all of them.

        When the step is differentiated, a slice of more than half of the cache would cost more than it saves: its
        gradient is allocated and filled at the length of the whole cache.
        """
        reach = min(self.context_length, self._steps_before(position) + 1)
        return self.context_length if learns and 2 * reach > self.context_length else reach

    def _steps_before(self, positions: Tensor) -> int:
        """Return an upper bound on the steps of an episode before these positions, at most the context.

        On an accelerator this is the context itself, so that the host need not wait for the positions.
        """
        reach = self.context_length
        return reach if positions.device.type != "cpu" else min(reach, int(positions.max()))

    def _read(self, attended: Tensor) -> Tensor:
        weight = self.out.weight * self.norm.weight
        return gated_out(attended.to(self.norm.weight.dtype).unsqueeze(-2), None, weight, EPSILON, NONE)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen_BQK: Tensor) -> Tensor:
        """Attend to the keys for which ``seen_BQK`` is true; all other arguments are ``[B, .., D]``."""
        q, k, v = (x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, seen_BQK.unsqueeze(1)).transpose(1, 2).flatten(-2)

    def _ages(self, device: torch.device) -> Tensor:
        """Return the age of each cache entry in steps, 0 for the newest, ``[context_length]``."""
        return torch.arange(self.context_length - 1, -1, -1, device=device)

    def _attend_in_chunks(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, carried: int) -> Tensor:
        """Attend chunk by chunk: ``q`` is ``[B, T, D]``, ``k`` and ``v`` ``[B, carried + T, D]``.

        The tensors are split and joined, never sliced, because every slice would allocate a gradient as long as the
        whole sequence.
        """
        if positions.device.type == "cpu" and bool((positions == positions[:1]).all()):
            positions = positions[:1]  # one mask for all
        blocks = math.ceil(carried / self.chunk)  # largest number of key blocks before each chunk of queries
        front = blocks * self.chunk - carried
        padded_k, padded_v = (pad(x, (0, 0, front, 0)) if front else x for x in (k, v))
        q_parts, at_parts, k_parts, v_parts = (
            torch.split(x, self.chunk, dim=1) for x in (q, positions, padded_k, padded_v)
        )
        out = []
        for i, (q_i, at) in enumerate(zip(q_parts, at_parts, strict=True)):
            oldest = min(self.context_length - 1, self._steps_before(at))
            back = min(blocks + i, math.ceil(oldest / self.chunk))
            window = slice(i + blocks - back, i + blocks + 1)
            time = torch.arange(back * self.chunk + q_i.shape[1], device=q.device)
            age = time[back * self.chunk :].unsqueeze(1) - time
            seen = (age >= 0) & (age < self.context_length) & (age <= at.unsqueeze(2))
            out.append(self._attend(q_i, torch.cat(k_parts[window], 1), torch.cat(v_parts[window], 1), seen))
        return torch.cat(out, dim=1)


Transformer = stacked(TransformerLayer)


def _parts(state: State) -> tuple[Tensor, Tensor, Tensor]:
    assert isinstance(state, dict)
    keys, values, position = state["keys"], state["values"], state["position"]
    assert isinstance(keys, Tensor)
    assert isinstance(values, Tensor)
    assert isinstance(position, Tensor)
    return keys, values, position


class Appended(torch.autograd.Function):
    """A cache without its oldest step and with a new one; its gradient is written once, and not filled with zeros."""

    @staticmethod
    def forward(ctx: Any, cache_BCD: Tensor, new_B1D: Tensor) -> Tensor:
        """Drop the oldest step and append the new one."""
        return torch.cat([cache_BCD[:, 1:], new_B1D], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the cache, whose oldest step was dropped, and of the new step."""
        return torch.cat([torch.zeros_like(grad[:, :1]), grad[:, :-1]], dim=1), grad[:, -1:]


def appended(cache_BCD: Tensor, new_B1D: Tensor) -> Tensor:
    """Append a step to a cache, which keeps its length."""
    return Appended.apply(cache_BCD, new_B1D)  # type: ignore[no-any-return, no-untyped-call]


def _zero_unseen(cache_BCD: Tensor, seen_BC: Tensor) -> Tensor:
    """Zero the steps that the episode has not written; masking the scores alone would let a NaN through."""
    return cache_BCD.masked_fill(~seen_BC.unsqueeze(-1), 0)


def _positions(is_first_BT: Tensor, position_B: Tensor) -> Tensor:
    """Return each step's position in its episode, ``[B, T]``; ``position_B`` is the position of the first step."""
    time = torch.arange(is_first_BT.shape[1], device=is_first_BT.device).expand_as(is_first_BT)
    began = torch.where(is_first_BT, time, -1).cummax(dim=1).values
    return torch.where(began >= 0, time - began, position_B.unsqueeze(1) + time)
