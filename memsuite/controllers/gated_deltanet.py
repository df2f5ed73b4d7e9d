"""Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464): a matrix state with decay and overwriting."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear, unit
from memsuite.controllers.conv import ShortConv, bind_queries, project_and_convolve
from memsuite.controllers.init import inverse_softplus, log_uniform_times
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.controllers.stack import stacked
from memsuite.ops import wide_linear
from memsuite.ops.fused.gated_out import SILU
from memsuite.ops.fused.wide_linear import SOFTPLUS


class GatedDeltaNetLayer(MatrixMemory):
    r"""Gated DeltaNet: heads whose matrix decays, and overwrites the value that it held under a key.

    .. math::
        q, k, v = \mathrm{silu}(\mathrm{conv}(W_{q,k,v} x) + b_q), \quad q = q / |q|, \quad k = k / |k| \\
        \beta = s\, \sigma(W_\beta x), \quad \log \alpha = -e^{A}\, \mathrm{softplus}(W_\alpha x + b_\alpha) \\
        S_t = \alpha_t (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top, \quad
        o_t = W_o (\mathrm{norm}(S_t^\top q_t) \odot \mathrm{silu}(W_g x_t + b_g))

    with :math:`s = 1`. Each channel has a short causal convolution, and each head a norm. The queries' factor
    :math:`1 / \sqrt{d}` is left out, because the norm would remove it. The paper has no biases. Ours are in the queries
    and in the gate: a blank input then writes nothing but still gets an answer.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``3 D (conv_width - 1)`` of the convolution. Cost per
    step: ``5 D^2 + 3 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The heads then decay over one to
            four H, and a repeated item retrieves the items that were shown with it (:meth:`bind`). None for the
            paper's initialisation: ``exp(A)`` is uniform in (0, 16), the softplus of the bias log-uniform between 0.001
            and 0.1, and queries, keys and convolution are random and independent.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        conv_width: number of steps that the convolution sees.
        negative_eigenvalues: whether :math:`s = 2`, so that a step can change the sign of what is held under a key
            (Grazzi et al. 2024, arXiv 2411.12537).
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self,
        input_dim: int,
        memory_horizon: int | None = None,
        num_heads: int = 4,
        conv_width: int = 4,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(input_dim, num_heads)
        self.strength = 2.0 if negative_eigenvalues else 1.0
        width = input_dim
        self.qkv = Linear(width, 3 * width, bias=False)
        self.conv = ShortConv(3 * width, conv_width, bias=False)
        self.decay, self.write = Linear(width, num_heads), Linear(width, num_heads, bias=False)
        self.query_bias = nn.Parameter(torch.empty(width).uniform_(-1, 1))
        self.gate = Linear(width, width)
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
        """Set the query projection equal to the key projection, so that recall works before training.

        If both are random, queries are unrelated to keys, and training must find both at once from the reward.
        Queries and values read the present step, and so do the keys of the first half of the heads: these retrieve the
        item that was shown together with the repeated item. The keys of the other half read the step before: these
        retrieve the item that was shown right after it.
        """
        bind_queries(self.qkv, self.conv, self.query_bias, self.num_heads // 2 * self.key_dim)

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the convolution's buffer, ``conv`` ``[B, conv_width - 1, 3 width]``."""
        return {"conv": self.conv.init_state(batch_size, like.device)}

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Convolve, and split into heads."""
        parts, buffer = project_and_convolve(self.qkv, self.conv, self.query_bias, x, aside["conv"], is_first_TB)
        q, k, v = (self.heads(part) for part in parts)
        rate = wide_linear(x, self.decay.weight, self.decay.bias, SOFTPLUS).to(v.dtype)
        log_decay = -self.log_scale.exp() * rate
        beta = torch.sigmoid(self.write(x).to(v.dtype))
        beta = beta if self.strength == 1 else self.strength * beta
        return Drive(unit(q), unit(k), v, log_decay, beta), {"conv": buffer}

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise, gate and mix the heads."""
        return self.norm.mixed(y, self.gate(x), self.out, SILU)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide how long the state is kept.

        The projections of keys, values and queries are not included: at a hundredth of the learning rate, training
        does not find keys that distinguish the pairs.
        """
        yield self.log_scale
        yield from self.decay.parameters()


GatedDeltaNet = stacked(GatedDeltaNetLayer)
