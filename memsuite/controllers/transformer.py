"""A causal transformer (Vaswani et al. 2017) over the last steps of the episode, with rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import RMSNorm, normed_out
from memsuite.controllers.init import bind_
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.positions import positions_in_episode
from memsuite.controllers.windows.window import Entries, View, WindowMemory
from memsuite.errors import UsageError
from memsuite.ops import rotary, wide_linear, window_attention
from memsuite.ops.schema import worth_fusing

BASE = 10_000.0  # base of the rotary frequencies, as published


class TransformerLayer(WindowMemory):
    r"""Causal attention to the last ``context_length`` steps of the episode, the present one included.

    .. math::
        y = W_o\, \mathrm{norm}(\mathrm{attention}(W_q x, W_k x, W_v x))

    Queries and keys are rotated by their position in the episode (rotary, Su et al. 2021, arXiv 2104.09864). The norm
    before the output projection is that of Wang et al. 2022 (arXiv 2210.06423). Untrained attention averages over the
    whole context, so without the norm an item from H steps before would have a size of ``1 / H``. A query
    sees a key if the key is no older than the query's position in the episode; this rule alone keeps episodes apart.
    Time and memory are of the order of ``T context_length`` and not of ``T^2``: on a CPU one op reads a sequence
    (:func:`~memsuite.ops.window_attention`), elsewhere it is read in chunks, each with its own window of keys.

    State: ``2 context_length input_dim`` floats and the position. The caches hold the last steps in order, the newest
    at the end, and zeros for steps before the episode. Cost per step:
    ``input_dim (4 input_dim + 2 context_length)`` multiply-adds and ``num_heads context_length`` exponentials.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps to remember; sets the context if ``context_length`` is not given.
        context_length: number of visible steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        num_heads: number of attention heads; ``input_dim`` is a multiple of twice this number.
        binding: whether the map of the queries begins as that of the keys, so that a repeated item retrieves what was
            shown with it before anything is learnt, as in ``gated_deltanet``.
        chunk: number of queries computed at once where the op is not used; this changes time and memory, but not the
            result.
    """

    abilities = Abilities("window")

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        num_heads: int = 4,
        chunk: int = 128,
        binding: bool = False,
    ) -> None:
        if input_dim % (2 * num_heads):
            raise UsageError(f"transformer: hidden_dim {input_dim} is no multiple of 2 * num_heads = {2 * num_heads}")
        super().__init__(input_dim, num_heads, context_length, memory_horizon, chunk)
        self.qkv = nn.Linear(input_dim, 3 * input_dim, bias=False)
        self.norm = RMSNorm(input_dim)
        self.out = nn.Linear(input_dim, input_dim, bias=False)
        if binding:
            bind_(*self.qkv.weight.chunk(3)[:2])

    def widths(self) -> dict[str, int]:
        """Return the widths of keys and values."""
        return {"keys": self.feature_dim, "values": self.feature_dim}

    def entries(self, x: Tensor, positions: Tensor) -> Entries:
        """Compute keys, rotated by their positions, and values."""
        keys = self._turned(self._projected(x, 1), positions)
        return {"keys": keys.flatten(-2), "values": self._projected(x, 2)}

    def attend(self, x_BQD: Tensor, cached: Entries, view: View) -> Tensor:
        """Attend to the entries that each query sees."""
        query = self._turned(self._projected(x_BQD, 0), view.positions).transpose(1, 2)
        keys, values = self.heads(cached["keys"]), self.heads(cached["values"])
        return self._read(scaled_dot_product_attention(query, keys, values, view.seen.unsqueeze(1)).transpose(1, 2))

    def attend_sequence(self, x_TBD: Tensor, every: Entries, positions_TB: Tensor, carried: int) -> Tensor:
        """Attend by one op where that is faster, else chunk by chunk."""
        if not worth_fusing(x_TBD):
            return super().attend_sequence(x_TBD, every, positions_TB, carried)
        query = self._turned(self._projected(x_TBD, 0), positions_TB)
        keys, values = (every[name].unflatten(-1, query.shape[-2:]) for name in ("keys", "values"))  # type: ignore[no-untyped-call]
        return self._read(window_attention(query, keys, values, positions_TB.clamp(max=self.context_length - 1)))

    def attention(self, x_TBD: Tensor, is_first_TB: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention weights and the values of a sequence, for the probes.

        The cache is empty at first. The whole map is computed at once, ``B num_heads T^2`` floats.

        Returns:
            Weights ``[B, num_heads, T, T]``, queries by keys, each row adding up to one, and values
            ``[B, num_heads, T, D / num_heads]``. Their product, normalised and projected, is :meth:`forward_sequence`.
        """
        begin = is_first_TB.new_zeros(is_first_TB.shape[1], dtype=torch.int64)
        positions, x = positions_in_episode(is_first_TB, begin).t(), x_TBD.transpose(0, 1)
        made = self.entries(x, positions)
        q = self._turned(self._projected(x, 0), positions).transpose(1, 2)
        k, v = self.heads(made["keys"]), self.heads(made["values"])
        time = torch.arange(len(x_TBD), device=x_TBD.device)
        age = time.unsqueeze(1) - time
        seen = (age >= 0) & (age < self.context_length) & (age <= positions.unsqueeze(2))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.masked_fill(~seen.unsqueeze(1), -torch.inf).softmax(-1), v

    def _projected(self, x: Tensor, part: int) -> Tensor:
        """Return the queries (0), keys (1) or values (2) of ``x`` ``[.., D]``."""
        return wide_linear(x, self.qkv.weight.chunk(3)[part]).to(self.out.weight.dtype)

    def _turned(self, x: Tensor, positions: Tensor) -> Tensor:
        """Split ``[.., D]`` into heads, ``[.., num_heads, D / num_heads]``, and rotate them by their positions."""
        heads = x.view(*x.shape[:-1], self.num_heads, -1)
        half = heads.shape[-1] // 2
        frequencies = BASE ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
        angles = positions.unsqueeze(-1) * frequencies
        return rotary(heads, angles.cos(), angles.sin())

    def _read(self, attended: Tensor) -> Tensor:
        """Join the heads ``[.., num_heads, D / num_heads]``, normalise all of them together, and map them."""
        return normed_out(attended.flatten(-2), self.norm, self.out)


Transformer = stacked(TransformerLayer)
