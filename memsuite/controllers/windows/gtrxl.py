"""The gated Transformer-XL of reinforcement learning (Parisotto et al. 2019, arXiv 1910.06764)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.base import Placement
from memsuite.controllers.blocks import Linear, RMSNorm, at_least, normed_out
from memsuite.controllers.init import bind_
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.window import Entries, View, WindowMemory
from memsuite.errors import UsageError
from memsuite.ops import split_linear, window_attention
from memsuite.ops.schema import worth_fusing

BASE = 10_000.0  # base of the sinusoids of the ages, as published
PUBLISHED_BIAS = 2.0  # of the gates: an eighth of what a branch says enters the stream
# A quarter enters. With the bias of the paper a tenth of what one layer shows is remembered, too little to learn from.
OPEN_BIAS = 1.0


class GTrXLLayer(WindowMemory):
    r"""Attention with relative positions (Dai et al. 2019, arXiv 1901.02860) to the last ``context_length`` steps.

    .. math::
        s_{ij} = \left((q_i + u)^\top k_j + (q_i + w)^\top W_r r_{i - j}\right) / \sqrt{d}, \quad
        y_i = W_o\, \mathrm{norm}(\mathrm{softmax}_j(s_{ij})\, v_j)

    with :math:`r_a` the sinusoids of age :math:`a` and learnt :math:`u` and :math:`w` for each head. What makes a
    Transformer-XL the gated one is its block: the norm is at the input of each branch, each branch is rectified, and a
    gate as in a GRU takes the place of the residual sum
    (:class:`~memsuite.controllers.windows.gated_block.GatedBlock`). The paper caches the inputs of the layer and
    computes keys and values from them again; they are cached themselves here, which gives the same numbers. The norm
    before the output projection is that of the ``transformer`` here, for the same reason: untrained attention averages
    over the context.

    In the paper no gradient flows into the cache, which ends at the segment that is learnt from. By default it flows
    through the whole context here. With a ``gradient_window``, the episode is divided into segments of that many
    steps, and no gradient reaches a key or value of an earlier segment than the query's, in both modes alike.

    State: ``2 context_length input_dim`` floats and the position. Cost per step:
    ``input_dim (4 input_dim + 3 context_length)`` multiply-adds, ``num_heads context_length`` exponentials, and the
    gates of the block, ``12 input_dim^2``.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps to remember; sets the context if ``context_length`` is not given, and begins with gates
            that are further open (a bias of 1). None for the paper's bias of 2.
        context_length: number of visible steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        num_heads: number of attention heads; ``input_dim`` is a multiple of it, and even.
        binding: whether the map of the queries begins as that of the keys, so that a repeated item retrieves what was
            shown with it before anything is learnt, as in ``gated_deltanet``.
        gradient_window: steps of a segment beyond which no gradient flows; None for a gradient through the context.
        chunk: number of queries computed at once; this changes time and memory, but not the result.
    """

    abilities = Abilities("window")

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        num_heads: int = 4,
        gradient_window: int | None = None,
        chunk: int = 128,
        binding: bool = False,
    ) -> None:
        super().__init__(input_dim, num_heads, context_length, memory_horizon, chunk)
        if input_dim % 2:
            raise UsageError(f"controller gtrxl: hidden_dim is {input_dim}; it must be even")
        at_least("gradient_window", 1 if gradient_window is None else gradient_window, 1)
        self.gradient_window, self.cuts_gradient = gradient_window, gradient_window is not None
        self.query = Linear(input_dim, input_dim, bias=False)
        self.key_value = nn.Linear(input_dim, 2 * input_dim, bias=False)
        self.position_map = nn.Linear(input_dim, input_dim, bias=False)
        self.content_bias, self.position_bias = (
            nn.Parameter(torch.zeros(input_dim)),
            nn.Parameter(torch.zeros(input_dim)),
        )
        self.norm = RMSNorm(input_dim)
        self.out = nn.Linear(input_dim, input_dim, bias=False)
        if binding:
            bind_(self.query.weight, self.key_value.weight[:input_dim])

    @classmethod
    def placement(cls, memory_horizon: int | None = None, **_: Any) -> Placement:
        """Return a gated block for every layer, including the first."""
        return Placement(embed=True, depth=2, gate_bias=PUBLISHED_BIAS if memory_horizon is None else OPEN_BIAS)

    def widths(self) -> dict[str, int]:
        """Return the widths of keys and values."""
        return {"keys": self.feature_dim, "values": self.feature_dim}

    def entries(self, x: Tensor, positions: Tensor) -> Entries:
        """Compute keys and values."""
        keys, values = split_linear(x, self.key_value.weight, [self.feature_dim] * 2)
        return {"keys": keys.to(self.out.weight.dtype), "values": values.to(self.out.weight.dtype)}

    def attend(self, x_BQD: Tensor, cached: Entries, view: View) -> Tensor:
        """Attend by content and by age."""
        query = self.query(x_BQD).to(self.out.weight.dtype)
        by_age = self._by_age(self.heads(query + self.position_bias), view.age)
        bias = by_age.masked_fill(~view.seen.unsqueeze(1), -torch.inf)
        asked, keys, values = (self.heads(x) for x in (query + self.content_bias, cached["keys"], cached["values"]))
        if self.gradient_window is None:
            y = scaled_dot_product_attention(asked, keys, values, bias)
        else:
            own = view.age <= (view.positions % self.gradient_window).unsqueeze(2)
            y = _attend_within(asked, keys, values, bias, own.unsqueeze(1))
        return self._read(y.transpose(1, 2))

    def attend_sequence(self, x_TBD: Tensor, every: Entries, positions_TB: Tensor, carried: int) -> Tensor:
        """Attend by one op where that is faster, else chunk by chunk."""
        if not worth_fusing(x_TBD) or self.gradient_window is not None:
            return super().attend_sequence(x_TBD, every, positions_TB, carried)
        query, ages = self.query(x_TBD), positions_TB.clamp(max=self.context_length - 1)
        asked, by_age, keys, values = (
            x.unflatten(-1, (self.num_heads, -1))
            for x in (query + self.content_bias, query + self.position_bias, every["keys"], every["values"])
        )
        age_keys = self._age_keys(int(ages.max()) + 1, query.dtype)
        return self._read(window_attention(asked, keys, values, ages, None, by_age, age_keys))

    def _read(self, attended: Tensor) -> Tensor:
        """Join the heads ``[.., num_heads, D / num_heads]``, normalise all of them together, and map them."""
        return normed_out(attended.flatten(-2), self.norm, self.out)

    def _age_keys(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return the keys of ages 0 to ``count - 1``, ``[count, num_heads, d]``."""
        half, device = self.feature_dim // 2, self.position_map.weight.device
        ages = torch.arange(count, device=device, dtype=dtype).unsqueeze(1)
        angles = ages * BASE ** (-torch.arange(half, device=device, dtype=dtype) / half)
        signal: Tensor = self.position_map(torch.cat([angles.sin(), angles.cos()], dim=-1)).to(dtype)
        return signal.view(count, self.num_heads, -1)

    def _by_age(self, query: Tensor, age: Tensor) -> Tensor:
        """Return the scores by age, ``[B, num_heads, Q, K]``, of queries ``[B, num_heads, Q, d]``."""
        oldest = int(age.shape[1])
        scores = query @ self._age_keys(oldest, query.dtype).permute(1, 2, 0) * query.shape[-1] ** -0.5
        index = age.clamp(0, oldest - 1).expand(*scores.shape[:2], -1, -1)
        by_age: Tensor = scores.gather(-1, index)
        return by_age


def _attend_within(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, own: Tensor) -> Tensor:
    """Attend to all keys that the bias allows; a gradient reaches only keys and values where ``own`` is true."""
    scores = torch.where(own, q @ k.transpose(-1, -2), q @ k.detach().transpose(-1, -2)) * q.shape[-1] ** -0.5
    share = (scores + bias).softmax(-1)
    y: Tensor = (share * own) @ v + (share * ~own) @ v.detach()
    return y


GTrXL = stacked(GTrXLLayer)
