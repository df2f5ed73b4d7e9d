"""The sLSTM of xLSTM (Beck et al. 2024, arXiv 2405.04517): exponential gates, a normaliser and recurrent weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from memsuite.controllers.about.abilities import RECURRENT
from memsuite.controllers.base import Placement, ZeroBegin
from memsuite.controllers.blocks import EPSILON, at_least
from memsuite.controllers.init import log_uniform_times
from memsuite.controllers.stack import stacked
from memsuite.errors import UsageError
from memsuite.ops import narrow_linear, slstm_scan
from memsuite.ops.scans.slstm_scan import slstm_gates
from memsuite.types import State

PARTS = ("h", "c", "n", "m")


class SLSTMLayer(ZeroBegin):
    r"""sLSTM: a cell that is an average of what was written, with weights that gates decide.

    .. math::
        z = \tanh(W_z x + R_z h + b_z), \quad o = \sigma(W_o x + R_o h + b_o), \quad
        i = \exp(W_i x + R_i h + b_i), \quad f = \sigma(W_f x + R_f h + b_f) \\
        c' = f \odot c + i \odot z, \quad n' = f \odot n + i, \quad h' = o \odot c' / n', \quad
        y = \mathrm{norm}(h')

    The recurrent weights :math:`R` mix the units of a head, and the norm is a separate one for each head. To avoid
    overflow of the exponentials, the state holds :math:`c e^{-m}` and :math:`n e^{-m}` with the stabiliser
    :math:`m' = \max(\log f + m, \log i)`. The output does not depend on :math:`m`, so no gradient goes through it. The
    perceptron after the cell is that of the stack's block.

    State, with ``D = input_dim``: ``4 D`` floats, ``h``, ``c``, ``n`` and ``m``. Cost per step: ``8 D^2``
    multiply-adds, because the compiled recurrence multiplies by the blocks of zeros between heads too.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The forget gates' biases are
            then the logarithms of times between one and four H, and the recurrent weights and those of the two
            exponential gates are zero. None for random weights and the paper's biases, 3 to 6.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
    """

    abilities = RECURRENT

    def __init__(self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4) -> None:
        super().__init__()
        at_least("num_heads", num_heads, 1)
        if input_dim % num_heads:
            raise UsageError(f"hidden_dim {input_dim} is no multiple of num_heads {num_heads}")
        width = self.input_dim = self.feature_dim = input_dim
        self.num_heads = num_heads
        self.input_map = nn.Linear(width, 4 * width)
        part = width // num_heads
        self.mixing = nn.Parameter(torch.randn(4, num_heads, part, part) * part**-0.5)
        self.norm_weight = nn.Parameter(torch.ones(width))
        with torch.no_grad():
            self.input_map.bias.zero_()
            forget = self.input_map.bias[width : 2 * width]
            if memory_horizon is None:
                forget.copy_(torch.linspace(3, 6, width))
            else:
                forget.copy_(log_uniform_times(width, memory_horizon))
                self.input_map.weight[: 2 * width] = 0
                self.mixing.zero_()

    @classmethod
    def placement(cls, **_: Any) -> Placement:
        """Return a residual block for every layer, including the first."""
        return Placement(embed=True, depth=2)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return ``h``, ``c``, ``n`` and ``m``, zeros ``[B, D]`` each."""
        like = self.norm_weight
        shape = batch_size, self.feature_dim
        return {name: torch.zeros(shape, device=device or like.device, dtype=like.dtype) for name in PARTS}

    def _recurrent_weight(self) -> Tensor:
        """Return the recurrent weights ``[4 D, D]``, with zeros between heads."""
        eye = torch.eye(self.num_heads, device=self.mixing.device, dtype=self.mixing.dtype)
        return torch.einsum("ghij,hk->ghikj", self.mixing, eye).reshape(-1, self.feature_dim)

    def _read(self, h: Tensor) -> Tensor:
        heads = h.view(*h.shape[:-1], self.num_heads, -1)
        return rms_norm(heads, heads.shape[-1:], eps=EPSILON).flatten(-2) * self.norm_weight

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step."""
        h, c, n, m = (cast(dict[str, Tensor], state)[name] for name in PARTS)
        mixed = (h.view(-1, 1, self.num_heads, 1, h.shape[1] // self.num_heads) * self.mixing).sum(-1)
        i, f, z, o, m = slstm_gates(self.input_map(x_BD).to(h.dtype) + mixed.flatten(1), n, m)
        c, n = torch.addcmul(i * z, f, c), torch.addcmul(i, f, n)
        h = o * c / n
        return self._read(h), {"h": h, "c": c, "n": n, "m": m}

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Compute the input products at once, then run the recurrence."""
        before = cast(dict[str, Tensor], self.reset_mask(state, is_first_TB[0]))
        drive = narrow_linear(x_TBD, self.input_map.weight, self.input_map.bias)
        weight = self._recurrent_weight()
        h, c, n, m = (before[name] for name in PARTS)
        parts = slstm_scan(drive, is_first_TB, h, c, n, m, weight, weight.new_zeros(len(weight)))
        return self._read(parts[0]), {name: part[-1] for name, part in zip(PARTS, parts, strict=True)}

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the gates and of the cell, which decide what is written and how long it is kept."""
        yield from (*self.input_map.parameters(), self.mixing)


SLSTM = stacked(SLSTMLayer)
