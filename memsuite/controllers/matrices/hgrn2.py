"""HGRN2 (Qin et al. 2024, arXiv 2404.07904): a gated recurrence whose state is expanded to a matrix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, silu

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.blocks import Linear
from memsuite.controllers.init import log_uniform_times
from memsuite.controllers.matrices.edited import Edit, EditedMatrix, Plan
from memsuite.controllers.matrix_memory import Aside, HeadNorm
from memsuite.controllers.stack import stacked
from memsuite.ops.fused.gated_out import NONE


class HGRN2Layer(EditedMatrix):
    r"""HGRN2: every channel keeps a share f of its row of the matrix, and writes the input into the rest.

    .. math::
        f = \sigma(W_f x + b_f), \quad i = \mathrm{silu}(W_i x), \quad q = \mathrm{silu}(W_q x + b_q) \\
        S_t = \mathrm{Diag}(f_t) S_{t-1} + (1 - f_t)\, (s \odot i_t)^\top, \quad y = W_o\, \mathrm{norm}(S_t^\top q_t)

    The paper bounds f from below by a learnt number of each layer; the bias takes its place here. It has no bias in the
    query; with it, a blank input writes nothing but still gets an answer. The constant :math:`s` is 1 by default. With
    a horizon it is the square root of twice the mean time of a head: a cue then is not written at a size of one over
    the horizon.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats. Cost per step: ``4 D^2 + 3 D^2 / num_heads``
    multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        memory_horizon: steps H over which the initial weights should retain the state. The gates' biases are then the
            logarithms of times between one and four H. None for biases of zero.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
    """

    abilities = Abilities("matrix", by_input=True)

    write_scale: Tensor

    def __init__(self, input_dim: int, memory_horizon: int | None = None, num_heads: int = 4) -> None:
        super().__init__(input_dim, num_heads)
        width = input_dim
        self.query, self.value = Linear(width, width), Linear(width, width, bias=False)
        self.forget = Linear(width, width)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        self.register_buffer("write_scale", torch.ones(num_heads, 1))
        with torch.no_grad():
            self.query.bias.uniform_(-1, 1)
            self.forget.bias.zero_()
            if memory_horizon is not None:
                self.forget.bias.copy_(log_uniform_times(width, memory_horizon))
                times = self.heads(self.forget.bias.exp()).mean(-1, keepdim=True)
                self.write_scale.copy_((2 * times).sqrt())

    def plan(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> Plan:
        """Form the query and the write; one minus the gate has a sigmoid of its own, because it may be tiny."""
        q, v = self.heads(silu(self.query(x))), self.write_scale * self.heads(silu(self.value(x)))
        forget = self.heads(self.forget(x).to(self.out.weight.dtype))
        edit = Edit(torch.sigmoid(-forget), v.to(forget.dtype), logsigmoid(forget))
        return Plan(q.to(forget.dtype), [edit], aside)

    def read(self, y: Tensor, x: Tensor, more: tuple[Tensor, ...]) -> Tensor:
        """Normalise and mix the heads."""
        return self.norm.mixed(y, None, self.out, NONE)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the gate, which decides how long the state is kept."""
        yield from self.forget.parameters()


HGRN2 = stacked(HGRN2Layer)
