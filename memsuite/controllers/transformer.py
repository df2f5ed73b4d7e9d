"""A causal transformer over the last steps of the episode (Vaswani et al. 2017), with rotary positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from memsuite.controllers.base import Controller, zero_where
from memsuite.errors import UsageError
from memsuite.types import State

BASE = 10_000.0  # of the rotary frequencies, as published


class Transformer(Controller):
    r"""Pre-norm blocks that attend to the last ``context_length`` steps of the same episode, this one included.

    .. math::
        u = u + W_o\, \mathrm{attention}(\mathrm{norm}(u)), \quad u = u + W_2\, \mathrm{gelu}(W_1\, \mathrm{norm}(u))

    Queries and keys are turned by their position in the episode (rotary, Su et al. 2021, arXiv 2104.09864), norms are
    RMSNorm, and nothing has a bias. A sequence is read in chunks of ``chunk`` queries, each against its own window of
    keys, so that time and memory are ``T * context_length``, not ``T^2``. A key is seen if it is no older than the
    query's position in the episode: that alone keeps episodes apart.

    State: ``2 depth context_length hidden_dim`` floats and the position. The caches hold the last steps in order, the
    newest at the end, and zeros where the episode had not begun. Cost per step: ``depth hidden_dim (12 hidden_dim + 2
    context_length)`` multiply-adds and ``depth num_heads context_length`` exponentials.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the residual stream and of the features.
        memory_horizon: steps to remember; sets the context where ``context_length`` is not given.
        context_length: how many steps are seen; None for ``memory_horizon + 1``, or 512 without a horizon.
        depth: number of blocks.
        num_heads: attention heads; ``hidden_dim`` is a multiple of twice that.
        chunk: queries computed at once; changes time and memory, not the result.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        depth: int = 1,
        num_heads: int = 4,
        chunk: int = 128,
    ) -> None:
        super().__init__()
        if hidden_dim % (2 * num_heads):
            raise UsageError(f"transformer: hidden_dim {hidden_dim} is no multiple of 2 * num_heads = {2 * num_heads}")
        if context_length is None:
            context_length = 512 if memory_horizon is None else memory_horizon + 1
        for name, value in (("context_length", context_length), ("depth", depth), ("chunk", chunk)):
            if value < 1:
                raise UsageError(f"transformer: {name} must be at least 1, not {value}")
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.context_length, self.chunk = context_length, chunk
        self.embed = nn.Linear(input_dim, hidden_dim, bias=False)
        self.blocks = nn.ModuleList(_Block(hidden_dim, num_heads) for _ in range(depth))

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return empty caches ``keys`` and ``values`` ``[B, depth, context_length, hidden_dim]``, ``position`` ``[B]``.

        ``position`` (int64) counts the steps of the episode already read.
        """
        weight = self.embed.weight
        device = device or weight.device
        shape = batch_size, len(self.blocks), self.context_length, self.feature_dim
        return {
            "keys": torch.zeros(shape, device=device, dtype=weight.dtype),
            "values": torch.zeros(shape, device=device, dtype=weight.dtype),
            "position": torch.zeros(batch_size, device=device, dtype=torch.int64),
        }

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: append to the caches, then attend to what they hold of this episode."""
        keys, values, position = _parts(state)
        seen = self._ages(x_BD.device) <= position.unsqueeze(1)
        u = self._embed(x_BD).unsqueeze(1)
        caches: list[tuple[Tensor, ...]] = []
        for block, old_k, old_v in zip(self._blocks(), keys.unbind(1), values.unbind(1), strict=True):
            q, k, v = block.project(u, position.unsqueeze(1))
            k, v = (_zero_unseen(torch.cat([old[:, 1:], new], dim=1), seen) for old, new in ((old_k, k), (old_v, v)))
            u = block.finish(u, block.attend(q, k, v, seen.unsqueeze(1)))
            caches.append((k, v))
        return u.squeeze(1), _state(caches, position + 1)

    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Empty the caches and zero the position in the rows that begin an episode."""
        return zero_where(state, is_first_B)

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run block after block over the whole sequence."""
        keys, values, position = _parts(self.reset_mask(state, is_first_TB[0]))
        positions = _positions(is_first_TB.t(), position)
        before = self._ages(x_TBD.device) < position.unsqueeze(1)
        after = self._ages(x_TBD.device) <= positions[:, -1:]
        u = self._embed(x_TBD).transpose(0, 1)
        caches: list[tuple[Tensor, ...]] = []
        for block, old_k, old_v in zip(self._blocks(), keys.unbind(1), values.unbind(1), strict=True):
            q, k, v = block.project(u, positions)
            k, v = (torch.cat([_zero_unseen(old, before), new], dim=1) for old, new in ((old_k, k), (old_v, v)))
            u = block.finish(u, self._attend(block, q, k, v, positions))
            caches.append(tuple(_zero_unseen(x[:, -self.context_length :], after) for x in (k, v)))
        return u.transpose(0, 1), _state(caches, positions[:, -1] + 1)

    def _embed(self, x: Tensor) -> Tensor:
        """Begin the residual stream, in full precision under autocast too: half precision loses small terms."""
        return self.embed(x).to(self.embed.weight.dtype)  # type: ignore[no-any-return]

    def _blocks(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]

    def _ages(self, device: torch.device) -> Tensor:
        """Return how many steps before the newest each entry of a cache is, ``[context_length]``."""
        return torch.arange(self.context_length - 1, -1, -1, device=device)

    def _attend(self, block: _Block, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
        """Attend chunk by chunk: ``q`` is ``[B, T, D]``, ``k`` and ``v`` ``[B, context_length + T, D]``.

        Split and joined, never sliced: each slice would allocate a gradient as long as the whole sequence.
        """
        blocks = math.ceil(self.context_length / self.chunk)  # of keys before each chunk of queries
        front = blocks * self.chunk - self.context_length
        padded_k, padded_v = (pad(x, (0, 0, front, 0)) for x in (k, v))
        q_parts, at_parts, k_parts, v_parts = (
            torch.split(x, self.chunk, dim=1) for x in (q, positions, padded_k, padded_v)
        )
        out = []
        for i, (q_i, at) in enumerate(zip(q_parts, at_parts, strict=True)):
            window = slice(i, i + blocks + 1)
            time = torch.arange(blocks * self.chunk + q_i.shape[1], device=q.device)
            age = time[blocks * self.chunk :].unsqueeze(1) - time
            seen = (age >= 0) & (age < self.context_length) & (age <= at.unsqueeze(2))
            out.append(block.attend(q_i, torch.cat(k_parts[window], 1), torch.cat(v_parts[window], 1), seen))
        return torch.cat(out, dim=1)


class _Block(nn.Module):
    """The parameters of one block, and what both modes do with them."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention, self.norm_mlp = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def project(self, u_BTD: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``[B, T, D]``, the first two turned by their positions."""
        q, k, v = self.qkv(self.norm_attention(u_BTD)).chunk(3, dim=-1)
        half = q.shape[-1] // self.num_heads // 2
        frequencies = BASE ** (-torch.arange(half, device=q.device, dtype=q.dtype) / half)
        angles = (positions_BT.unsqueeze(-1) * frequencies).unsqueeze(2)
        return self._rotate(q, angles), self._rotate(k, angles), v

    def _rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        a, b = x.view(*x.shape[:-1], self.num_heads, -1).chunk(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, seen_BQK: Tensor) -> Tensor:
        """Attend where ``seen_BQK``; everything else is ``[B, .., D]``."""
        q, k, v = (x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, seen_BQK.unsqueeze(1)).transpose(1, 2).flatten(-2)

    def finish(self, u: Tensor, attended: Tensor) -> Tensor:
        """Add what was attended to, and the multilayer perceptron."""
        u = u + self.out(attended)
        return u + self.down(gelu(self.up(self.norm_mlp(u))))  # type: ignore[no-any-return]


def _parts(state: State) -> tuple[Tensor, Tensor, Tensor]:
    assert isinstance(state, dict)
    keys, values, position = state["keys"], state["values"], state["position"]
    assert isinstance(keys, Tensor)
    assert isinstance(values, Tensor)
    assert isinstance(position, Tensor)
    return keys, values, position


def _state(caches: list[tuple[Tensor, ...]], position: Tensor) -> State:
    keys, values = (torch.stack(each, dim=1) for each in zip(*caches, strict=True))
    return {"keys": keys, "values": values, "position": position}


def _zero_unseen(cache_BCD: Tensor, seen_BC: Tensor) -> Tensor:
    """Zero what the episode has not written, whatever stands there: a mask on the scores would let a NaN through."""
    return cache_BCD.masked_fill(~seen_BC.unsqueeze(-1), 0)


def _positions(is_first_BT: Tensor, position_B: Tensor) -> Tensor:
    """Return each step's position in its episode, ``[B, T]``; ``position_B`` is where the first step stands."""
    time = torch.arange(is_first_BT.shape[1], device=is_first_BT.device).expand_as(is_first_BT)
    began = torch.where(is_first_BT, time, -1).cummax(dim=1).values
    return torch.where(began >= 0, time - began, position_B.unsqueeze(1) + time)
