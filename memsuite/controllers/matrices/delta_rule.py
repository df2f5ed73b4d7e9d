"""The common part of KDA, Gated DeltaNet-2 and Gated DeltaProduct: projections, convolution, decays and the output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from memsuite.controllers.blocks import Linear, unit
from memsuite.controllers.conv import ShortConv, bind_queries, project_and_convolve
from memsuite.controllers.init import inverse_softplus, log_uniform_times
from memsuite.controllers.matrices.edited import Edit, EditedMatrix, Plan
from memsuite.controllers.matrix_memory import Aside, HeadNorm
from memsuite.ops.fused.gated_out import SIGMOID


class DeltaRuleLayer(EditedMatrix):
    r"""Heads whose matrix decays and is edited by the delta rule; a subclass says with which strengths.

    .. math::
        q, k, v = \mathrm{silu}(\mathrm{conv}(W_{q,k,v} x) + b_q), \quad q = q / |q|, \quad k = k / |k|, \quad
        \log \alpha = -e^{A}\, \mathrm{softplus}(W_\alpha x + b_\alpha) \\
        o = W_o (\mathrm{norm}(S^\top q) \odot \sigma(W_g x + b_g))

    Args:
        width: width of the input and of the features.
        memory_horizon: as of the models.
        num_heads: number of heads; ``width`` is a multiple of it.
        conv_width: number of steps that the convolution sees.
        edits: edits a step, each with its own keys and values.
        decays: how many decays there are: ``width`` for one of each channel, ``num_heads`` for one of each head.
    """

    def __init__(
        self, width: int, memory_horizon: int | None, num_heads: int, conv_width: int, edits: int, decays: int
    ) -> None:
        super().__init__(width, num_heads)
        self.edits, channels = edits, (1 + 2 * edits) * width
        self.qkv = Linear(width, channels, bias=False)
        self.conv = ShortConv(channels, conv_width, bias=False)
        self.decay = nn.Sequential(Linear(width, self.key_dim, bias=False), Linear(self.key_dim, decays))
        self.query_bias = nn.Parameter(torch.empty(width).uniform_(-1, 1))
        self.gate = Linear(width, width)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.gate.bias.fill_(1.0)
            if memory_horizon is None:
                rate, scale = torch.empty(decays).uniform_(-6.9, -2.3).exp(), 16 * (1 - torch.rand(num_heads))
            else:
                rate, scale = (-log_uniform_times(decays, memory_horizon)).exp(), torch.ones(num_heads)
            self.log_scale = nn.Parameter(scale.log())
            bias = self.decay[1].bias
            assert isinstance(bias, Tensor)
            bias.copy_(inverse_softplus(rate))
            if memory_horizon is not None:
                self.bind()

    def bind(self) -> None:
        """Set the query projection equal to the first key's, as in ``gated_deltanet``, so that recall works at once."""
        bind_queries(self.qkv, self.conv, self.query_bias, self.num_heads // 2 * self.key_dim)

    @abstractmethod
    def edit(self, at: int, k: Tensor, v: Tensor, log_decay: Tensor, x: Tensor) -> Edit:
        """Return edit number ``at`` of a step.

        Args:
            at: from 0.
            k: unit keys, ``[.., B, num_heads, key_dim]``.
            v: values, of the same shape.
            log_decay: of the step, of the same shape, or ``[.., B, num_heads, 1]`` if a head has one decay.
            x: the input of the layer.
        """

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the convolution's buffer, ``conv`` ``[B, conv_width - 1, (1 + 2 edits) width]``."""
        return {"conv": self.conv.init_state(batch_size, like.device)}

    def plan(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> Plan:
        """Convolve, split into heads, and form the edits."""
        (q, keys, values), log_decay, after = self.convolved(x, aside, is_first_TB)
        pairs = enumerate(zip(keys, values, strict=True))
        edits = [self.edit(at, unit(k), v, log_decay, x) for at, (k, v) in pairs]
        return Plan(unit(q), edits, after)

    def convolved(
        self, x: Tensor, aside: Aside, is_first_TB: Tensor | None
    ) -> tuple[tuple[Tensor, list[Tensor], list[Tensor]], Tensor, Aside]:
        """Return the queries, and the keys and values of each edit, by head; the logarithm of the decay; the buffer."""
        parts, buffer = project_and_convolve(self.qkv, self.conv, self.query_bias, x, aside["conv"], is_first_TB)
        q, *rest = (self.heads(part) for part in parts)
        rate = self.heads(softplus(self.decay(x).to(q.dtype)))
        log_decay = -self.log_scale.exp().unsqueeze(-1) * rate
        return (q, rest[: self.edits], rest[self.edits :]), log_decay, {"conv": buffer}

    def read(self, y: Tensor, x: Tensor, more: tuple[Tensor, ...]) -> Tensor:
        """Normalise, gate and mix the heads."""
        return self.norm.mixed(y, self.gate(x), self.out, SIGMOID)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide how long the state is kept, as in ``gated_deltanet``."""
        yield self.log_scale
        yield from self.decay.parameters()
