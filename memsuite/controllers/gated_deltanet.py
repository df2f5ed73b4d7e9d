"""Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464): a matrix that fades and overwrites."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from memsuite.controllers.blocks import Stack
from memsuite.controllers.conv import ShortConv
from memsuite.controllers.init import inverse_softplus, log_uniform_times
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.ops.fused.gated_out import SILU


class GatedDeltaNetLayer(MatrixMemory):
    r"""Heads of the gated delta rule.

    .. math::
        q, k, v = \mathrm{silu}(\mathrm{conv}(W_{q,k,v} x) + b_q), \quad q = q / |q|, \quad k = k / |k| \\
        \beta = \sigma(W_\beta x), \quad \log \alpha = -e^{A}\, \mathrm{softplus}(W_\alpha x + b_\alpha) \\
        S_t = \alpha_t (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top, \quad
        o_t = W_o (\mathrm{norm}(S_t^\top q_t) \odot \mathrm{silu}(W_g x_t + b_g))

    The convolution is short, causal and one a channel; the norm is one a head. The queries' factor
    :math:`1 / \sqrt{d}` is left out, as the norm takes it away. The biases, in the queries alone and in the gate, are
    ours: a blank input writes nothing, yet is answered.

    State: ``width^2 / num_heads`` floats, and ``3 width (conv_width - 1)`` of the convolution. Cost per step:
    ``5 width^2 + 3 width^2 / num_heads`` multiply-adds.

    Args:
        width: of the input and of the features.
        num_heads: heads; ``width`` is a multiple of them.
        conv_width: steps the convolution sees.
        memory_horizon: how many steps H the state should be held before any training: the heads then fade over between
            one and four H steps, and what is shown again finds what was shown with it (:meth:`bind`). None for the
            paper's: ``exp(A)`` uniform in (0, 16), softplus of the bias log-uniform between 0.001 and 0.1, and queries,
            keys and convolution each at random.
    """

    def __init__(self, width: int, num_heads: int, conv_width: int, memory_horizon: int | None) -> None:
        super().__init__(width, num_heads)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.conv = ShortConv(3 * width, conv_width, bias=False)
        self.decay, self.write = nn.Linear(width, num_heads), nn.Linear(width, num_heads, bias=False)
        self.query_bias = nn.Parameter(torch.empty(width).uniform_(-1, 1))
        self.gate = nn.Linear(width, width)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.gate.bias.fill_(1.0)
            if memory_horizon is None:
                rate, scale = torch.empty(num_heads).uniform_(-6.9, -2.3).exp(), 16 * (1 - torch.rand(num_heads))
            else:
                rate, scale = (-log_uniform_times(num_heads, memory_horizon)).exp(), torch.ones(num_heads)
            self.log_scale = nn.Parameter(scale.log())
            self.decay.bias.copy_(inverse_softplus(rate))
            if memory_horizon is not None:
                self.bind()

    def bind(self) -> None:
        """Let queries ask as keys were written, so that something is recalled before anything is learnt.

        At random, queries and keys have nothing to do with each other, and a reward has to find both at once. Here both
        maps begin alike. Queries and values read the present step, and so do the keys of the first half of the heads:
        they find what was shown together with what is shown again. The other half's keys read the step before: they
        find what followed it.
        """
        width, taps = self.feature_dim, self.conv.weight
        follow = self.num_heads // 2 * self.key_dim if taps.shape[-1] > 1 else 0
        self.qkv.weight[:width] = self.qkv.weight[width : 2 * width]
        self.query_bias.mul_(0.3)
        taps.mul_(0.1)
        now = torch.ones(3 * width)
        now[2 * width - follow : 2 * width] = 0.0
        taps[:, 0, -1] += now
        if follow:
            taps[:, 0, -2] += 1 - now

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the convolution's buffer, ``conv`` ``[B, conv_width - 1, 3 width]``."""
        return {"conv": self.conv.init_state(batch_size, like.device)}

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Convolve, and split into heads."""
        mixed, buffer = self.conv.run(self.qkv(x), aside["conv"], is_first_TB)
        q, k, v = mixed.chunk(3, dim=-1)
        q, k, v = (self.heads(silu(part)) for part in (q + self.query_bias, k, v))
        rate = softplus(self.decay(x).to(v.dtype))
        log_decay = -self.log_scale.exp() * rate
        return Drive(_unit(q), _unit(k), v, log_decay, torch.sigmoid(self.write(x).to(v.dtype))), {"conv": buffer}

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise, gate and mix the heads."""
        return self.norm.mixed(y, self.gate(x), self.out, SILU)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield those that decide how long the state is kept.

        What is written and asked for must be learnt at the full rate: at a hundredth of it, keys that tell a pair from
        another are not found.
        """
        yield self.log_scale
        yield from self.decay.parameters()


class GatedDeltaNet(Stack):
    """Gated DeltaNet: a matrix that fades, and overwrites what it held under a key.

    State: ``depth hidden_dim (hidden_dim / num_heads + 3 (conv_width - 1))`` floats.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the residual stream and of the features.
        depth: number of blocks.
        memory_horizon: steps every layer should hold something before any training; None for the layer's default.
        mlp_ratio: inner width of the perceptrons over ``hidden_dim``.
        num_heads: heads of every layer.
        conv_width: steps the convolutions see.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        depth: int = 1,
        memory_horizon: int | None = None,
        mlp_ratio: float = 2.0,
        num_heads: int = 4,
        conv_width: int = 4,
    ) -> None:
        super().__init__(
            input_dim,
            hidden_dim,
            depth,
            lambda width: GatedDeltaNetLayer(width, num_heads, conv_width, memory_horizon),
            mlp_ratio,
            embed=True,
        )


def _unit(x: Tensor) -> Tensor:
    """Bring vectors to unit length, and leave those that are next to nothing next to nothing."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
