"""RWKV-7 (Peng et al. 2025, arXiv 2503.14456): the delta rule with an address of its own, and a shift of the input."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear, unit
from memsuite.controllers.conv import step_before
from memsuite.controllers.init import bind_, log_uniform_times
from memsuite.controllers.matrices.edited import Edit, EditedMatrix, Plan
from memsuite.controllers.matrix_memory import Aside
from memsuite.controllers.stack import stacked

FASTEST = math.exp(-0.5)  # of the rates of decay, as published: a channel keeps at least exp(-0.61) of its row
PARTS = ("query", "decay", "key", "value", "rate", "gate")
NORM_EPSILON = 64e-5  # of the norm of a head, as published


class RWKV7Layer(EditedMatrix):
    r"""The time mix of RWKV-7: heads whose matrix decays by channels, and is erased at an address near the key.

    .. math::
        x^{\square}_t = x_t + \mu_\square \odot (x_{t-1} - x_t), \quad
        w = \exp(-e^{-1/2} \sigma(\mathrm{lora}_w(x^w))), \quad a = \sigma(\mathrm{lora}_a(x^a)) \\
        r = W_r x^r + b_r, \quad k = W_k x^k, \quad v = W_v x^v, \quad
        \hat\kappa = \frac{k \odot \xi}{|k \odot \xi|}, \quad
        \tilde k = k \odot (1 + (a - 1) \odot \alpha) \\
        S_t = (\mathrm{Diag}(w_t) - (a_t \odot \hat\kappa_t) \hat\kappa_t^\top) S_{t-1} + \tilde k_t v_t^\top \\
        y = W_o \big((\mathrm{norm}(S_t^\top r_t) + (r_t^\top (\rho \odot \tilde k_t))\, v_t)
        \odot W_g' \sigma(W_g x^g)\big)

    where lora is a bias plus a map of low rank, with a tanh in between for w, and the norm is a layer norm of each
    head. The paper has no :math:`b_r`; with it, a blank input writes nothing but still gets an answer. Two parts of the
    paper are not built: the values of later layers are not mixed with those of the first, and the channel mix is the
    stack's perceptron, which has no shift of its own.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``D`` for the input before. Cost per step:
    ``4 D^2 + 11 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The channels then decay over
            one to four H. None for rates spread over all that are possible.
        num_heads: number of heads; ``input_dim`` is a multiple of it. The maps of low rank have the width of a head.
        binding: whether the map and the shift of r begin as those of the keys, so that a repeated item retrieves what
            was shown with it before anything is learnt, as in ``gated_deltanet``.
    """

    abilities = Abilities("matrix", by_input=True, sign_changing=True)

    def __init__(
        self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4, binding: bool = False
    ) -> None:
        super().__init__(input_dim, num_heads)
        width, rank = input_dim, input_dim // num_heads
        self.shift = nn.Parameter(torch.rand(len(PARTS), width))
        self.query, self.key = Linear(width, width), Linear(width, width, bias=False)
        self.value, self.out = Linear(width, width, bias=False), Linear(width, width, bias=False)
        self.decay = nn.Sequential(Linear(width, rank, bias=False), nn.Tanh(), Linear(rank, width))
        self.rate = nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))
        self.gate = nn.Sequential(Linear(width, rank, bias=False), nn.Sigmoid(), Linear(rank, width, bias=False))
        self.address_scale, self.key_rate = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.bonus = nn.Parameter(torch.zeros(width))
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        with torch.no_grad():
            self.query.bias.uniform_(-1, 1)
            if binding:
                bind_(self.query.weight, self.key.weight)
                bind_(self.shift[PARTS.index("query")], self.shift[PARTS.index("key")])
                self.query.bias.mul_(0.3)
            bias = self.decay[2].bias
            assert isinstance(bias, Tensor)
            if memory_horizon is None:
                bias.copy_(torch.linspace(-6, 1, width))
            else:  # the rate is FASTEST sigmoid(bias)
                bias.copy_(((-log_uniform_times(width, memory_horizon)).exp() / FASTEST).clamp(max=0.9).logit())

    def init_aside(self, batch_size: int, like: Tensor) -> Aside:
        """Return the input before, ``last`` ``[B, width]``."""
        return {"last": like.new_zeros(batch_size, self.feature_dim)}

    def plan(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> Plan:
        """Shift the input, and form the query and the edit."""
        mixed = self._shifted(x, aside["last"], is_first_TB)
        k, v = self.heads(self.key(mixed["key"])), self.heads(self.value(mixed["value"]))
        rate = self.heads(torch.sigmoid(self.rate(mixed["rate"])))
        log_decay = -FASTEST * self.heads(torch.sigmoid(self.decay(mixed["decay"])))
        address = unit(k * self.heads(self.address_scale))
        written = k * (1 + (rate - 1) * self.heads(self.key_rate))
        q, gate = self.heads(self.query(mixed["query"])), self.gate(mixed["gate"])
        direct = (q * self.heads(self.bonus) * written).sum(-1, keepdim=True) * v
        edit = Edit(written, v, log_decay, None, rate * address, address)
        last = (x if is_first_TB is None else x[-1]).to(aside["last"].dtype)
        return Plan(q, [edit], {"last": last}, (gate, direct))

    def read(self, y: Tensor, x: Tensor, more: tuple[Tensor, ...]) -> Tensor:
        """Normalise the heads, add what is read past the memory, gate and mix."""
        gate, direct = more
        normed = layer_norm(y, y.shape[-1:], eps=NORM_EPSILON)
        scaled = normed.flatten(-2) * self.norm_weight + self.norm_bias
        return self.out((scaled + direct.flatten(-2)) * gate)  # type: ignore[no-any-return]

    def _shifted(self, x: Tensor, last: Tensor, is_first_TB: Tensor | None) -> dict[str, Tensor]:
        """Return the input of each part, mixed with the input before it."""
        x, before = x.to(last.dtype), last
        if is_first_TB is not None:
            before = step_before(x, last, is_first_TB)
        return {part: torch.lerp(x, before, share) for part, share in zip(PARTS, self.shift, strict=True)}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide how long the state is kept."""
        yield from self.decay.parameters()


RWKV7 = stacked(RWKV7Layer)
