"""Gated DeltaNet-2 (Hatamizadeh, Choi & Kautz 2026, arXiv 2605.22791): erasing and writing with gates of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear
from memsuite.controllers.matrices.delta_rule import DeltaRuleLayer
from memsuite.controllers.matrices.edited import Edit
from memsuite.controllers.stack import stacked


class GDN2Layer(DeltaRuleLayer):
    r"""Gated DeltaNet-2: a channel of the key is erased, and a channel of the value written, each by its own gate.

    .. math::
        S_t = (I - k_t (b_t \odot k_t)^\top) \mathrm{Diag}(\alpha_t) S_{t-1} + k_t (w_t \odot v_t)^\top, \quad
        b = \sigma(W_b x), \quad w = \sigma(W_w x)

    with queries, keys, values, decays and output of :class:`~memsuite.controllers.matrices.delta_rule.DeltaRuleLayer`.
    With ``b = w = beta`` it is ``kda``. The equation is taken from summaries of the paper; the maps of its gates are
    full here.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats, and ``3 D (conv_width - 1)`` of the convolution. Cost per
    step: ``7 D^2 + 6 D^2 / num_heads`` multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state, as in ``kda``.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        conv_width: number of steps that the convolution sees.
    """

    abilities = Abilities("matrix", by_input=True)

    def __init__(
        self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4, conv_width: int = 4
    ) -> None:
        super().__init__(input_dim, memory_horizon, num_heads, conv_width, edits=1, decays=input_dim)
        self.erase = Linear(input_dim, input_dim, bias=False)
        self.write = Linear(input_dim, input_dim, bias=False)

    def edit(self, at: int, k: Tensor, v: Tensor, log_decay: Tensor, x: Tensor) -> Edit:
        """Erase what the gated key finds, and write the gated value."""
        erase, write = (self.heads(torch.sigmoid(gate(x).to(v.dtype))) for gate in (self.erase, self.write))
        return Edit(k, write * v, log_decay, None, k, log_decay.exp() * erase * k)


GDN2 = stacked(GDN2Layer)
