"""Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464): a matrix that fades and overwrites."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from memsuite.controllers.conv import ShortConv
from memsuite.controllers.init import inverse_softplus, log_uniform_times
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.controllers.stack import stacked
from memsuite.ops.fused.gated_out import SILU


class GatedDeltaNetLayer(MatrixMemory):
    r"""Gated DeltaNet: heads whose matrix fades, and overwrites what it held under a key.

    .. math::
        q, k, v = \mathrm{silu}(\mathrm{conv}(W_{q,k,v} x) + b_q), \quad q = q / |q|, \quad k = k / |k| \\
        \beta = \sigma(W_\beta x), \quad \log \alpha = -e^{A}\, \mathrm{softplus}(W_\alpha x + b_\alpha) \\
        S_t = \alpha_t (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top, \quad
        o_t = W_o (\mathrm{norm}(S_t^\top q_t) \odot \mathrm{silu}(W_g x_t + b_g))

    Each channel has a short causal convolution, and each head a norm. The queries' factor :math:`1 / \sqrt{d}` is left
    out, as the norm would remove it. The paper has no biases; ours are in the queries and in the gate, so that a blank
    input writes nothing and is answered all the same.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``3 D (conv_width - 1)`` of the convolution. Cost per
    step: ``5 D^2 + 3 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H that the state should be held for before any training. The heads then fade over one to
            four H steps, and an item that is shown again finds what was shown with it (:meth:`bind`). None for the
            paper's initialisation: ``exp(A)`` is uniform in (0, 16), the softplus of the bias log-uniform between 0.001
            and 0.1, and queries, keys and convolution are each drawn at random.
        num_heads: heads; ``input_dim`` is a multiple of them.
        conv_width: steps that the convolution sees.
    """

    def __init__(
        self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4, conv_width: int = 4
    ) -> None:
        super().__init__(input_dim, num_heads)
        width = input_dim
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
        """Make the queries' map equal to that of the keys, so that something is recalled before anything is learnt.

        If both maps are drawn at random, queries have nothing to do with keys, and a reward has to find both at once.
        Queries and values read the present step, and so do the keys of the first half of the heads: these find what was
        shown together with the item that is shown again. The keys of the other half read the step before: these find
        what was shown right after it.
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

        The maps of keys, values and queries must learn at the full rate: at a hundredth of it, training does not find
        keys that tell one pair from another.
        """
        yield self.log_scale
        yield from self.decay.parameters()


GatedDeltaNet = stacked(GatedDeltaNetLayer)


def _unit(x: Tensor) -> Tensor:
    """Scale vectors to unit length; a vector that is nearly zero stays nearly zero."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
