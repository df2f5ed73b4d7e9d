"""The Forgetting Transformer (Lin et al. 2025, arXiv 2503.02130): attention that fades by gates from the input."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, scaled_dot_product_attention

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear, RMSNorm, normed_out
from memsuite.controllers.init import bind_, log_uniform_times
from memsuite.controllers.stack import stacked
from memsuite.controllers.windows.window import Entries, View, WindowMemory
from memsuite.ops import diagonal_scan, split_linear, window_attention
from memsuite.ops.schema import worth_fusing


class FoXLayer(WindowMemory):
    r"""Forgetting attention to the last ``context_length`` steps of the episode, the present one included.

    .. math::
        f_t = \sigma(w_f^\top x_t + b_f), \quad
        s_{ij} = q_i^\top k_j / \sqrt{d} + \sum_{l = j + 1}^{i} \log f_l, \quad
        y_i = W_o\, \mathrm{norm}(\mathrm{softmax}_j(s_{ij})\, v_j)

    Each head has its own forget gate. There are no position encodings: the gates tell the age of a step. The paper's
    "Pro" block, with an output gate and shifted keys and values, is not built here. The norm before the output
    projection is that of the ``transformer`` here, for the same reason: untrained attention averages over the context.
    On a CPU one op reads a sequence (:func:`~memsuite.ops.window_attention`), where the gates are a bias of each key.

    State: ``context_length (2 input_dim + num_heads)`` floats and the position. Cost per step:
    ``input_dim (4 input_dim + 2 context_length)`` multiply-adds and ``num_heads context_length`` exponentials.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H to remember; sets the context if ``context_length`` is not given, and the gates' biases
            are then the logarithms of times between one and four H. None for biases of zero.
        context_length: number of visible steps; None for ``memory_horizon + 1``, or 512 without a horizon.
        num_heads: number of attention heads; ``input_dim`` is a multiple of it.
        binding: whether the map of the queries begins as that of the keys, so that a repeated item retrieves what was
            shown with it before anything is learnt, as in ``gated_deltanet``.
        chunk: number of queries computed at once; this changes time and memory, but not the result.
    """

    abilities = Abilities("window", by_input=True)
    by_age = False  # every gate between a step and the query counts

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        context_length: int | None = None,
        num_heads: int = 4,
        chunk: int = 128,
        binding: bool = False,
    ) -> None:
        super().__init__(input_dim, num_heads, context_length, memory_horizon, chunk)
        self.query = Linear(input_dim, input_dim, bias=False)
        self.key_value = nn.Linear(input_dim, 2 * input_dim, bias=False)
        self.forget = nn.Linear(input_dim, num_heads)
        self.norm = RMSNorm(input_dim)
        self.out = nn.Linear(input_dim, input_dim, bias=False)
        if binding:
            bind_(self.query.weight, self.key_value.weight[:input_dim])
        with torch.no_grad():
            self.forget.bias.zero_()
            if memory_horizon is not None:
                self.forget.weight.zero_()
                self.forget.bias.copy_(log_uniform_times(num_heads, memory_horizon))

    def widths(self) -> dict[str, int]:
        """Return the widths of keys, values and the gates' logarithms."""
        return {"keys": self.feature_dim, "values": self.feature_dim, "log_forget": self.num_heads}

    def entries(self, x: Tensor, positions: Tensor) -> Entries:
        """Compute keys, values and the gates' logarithms."""
        dtype = self.out.weight.dtype
        keys, values = split_linear(x, self.key_value.weight, [self.feature_dim] * 2)
        return {"keys": keys.to(dtype), "values": values.to(dtype), "log_forget": logsigmoid(self.forget(x).to(dtype))}

    def attend(self, x_BQD: Tensor, cached: Entries, view: View) -> Tensor:
        """Attend with what the gates have left of each step."""
        total = cached["log_forget"].cumsum(1).transpose(1, 2)  # [B, num_heads, K]
        faded = total[..., -x_BQD.shape[1] :].unsqueeze(-1) - total.unsqueeze(-2)
        bias = faded.masked_fill(~view.seen.unsqueeze(1), -torch.inf)
        keys, values = (self.heads(cached[name]) for name in ("keys", "values"))
        query = self.heads(self.query(x_BQD).to(keys.dtype))
        return self._read(scaled_dot_product_attention(query, keys, values, bias).transpose(1, 2))

    def attend_sequence(self, x_TBD: Tensor, every: Entries, positions_TB: Tensor, carried: int) -> Tensor:
        """Attend by one op where that is faster, else chunk by chunk."""
        if not worth_fusing(x_TBD):
            return super().attend_sequence(x_TBD, every, positions_TB, carried)
        query, keys, values = (
            x.unflatten(-1, (self.num_heads, -1)) for x in (self.query(x_TBD), every["keys"], every["values"])
        )
        # What the gates have left of a step is the difference of two sums, and softmax ignores the query's own. The sum
        # begins again with each episode, so that no value of an earlier one can reach it.
        passed = every["log_forget"].double()
        begins = torch.cat(
            [positions_TB.new_zeros(carried, positions_TB.shape[1], dtype=torch.bool), positions_TB == 0]
        )
        total = diagonal_scan(passed.new_ones(self.num_heads), passed, begins, torch.zeros_like(passed[0]))
        ages = positions_TB.clamp(max=self.context_length - 1)
        return self._read(window_attention(query, keys, values, ages, -total))

    def _read(self, attended: Tensor) -> Tensor:
        """Join the heads ``[.., num_heads, D / num_heads]``, normalise all of them together, and map them."""
        return normed_out(attended.flatten(-2), self.norm, self.out)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the gates, which decide how long a step is seen."""
        yield from self.forget.parameters()


FoX = stacked(FoXLayer)
