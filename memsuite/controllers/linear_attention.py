"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): attention whose cache is a matrix of fixed size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.init import bind_
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.controllers.stack import stacked
from memsuite.ops import wide_linear
from memsuite.ops.fused.gated_out import NONE
from memsuite.ops.fused.wide_linear import ELU_PLUS_ONE, PLAIN


class LinearAttentionLayer(MatrixMemory):
    r"""Linear attention: heads whose matrix adds up all inputs of the episode.

    .. math::
        \phi(x) = \mathrm{elu}(x) + 1, \quad
        S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad y_t = S_t^\top \phi(q_t), \quad o_t = W_o\, \mathrm{norm}(y_t)

    Nothing is ever forgotten. The paper divides :math:`y_t` by :math:`z_t^\top \phi(q_t)`, with :math:`z_t` the sum of
    the keys. This divisor is one positive number for each head, which the norm of each head would remove again, so it
    is left out, as in RetNet (arXiv 2307.08621) and TransNormer (arXiv 2210.10340). It would also do harm: it grows
    with every blank step, because :math:`\phi(0) = 1`, until the output is smaller than the norm's epsilon.

    State, with ``D = input_dim``: ``D^2 / num_heads`` floats. Cost per step: ``4 D^2 + 2 D^2 / num_heads``
    multiply-adds.

    Args:
        input_dim: width of the input and of the features.
        num_heads: number of heads; ``input_dim`` is a multiple of it.
        binding: whether the map of the queries begins as that of the keys, so that a repeated item retrieves what was
            shown with it before anything is learnt, as in ``gated_deltanet``.
    """

    abilities = Abilities("matrix")

    def __init__(self, input_dim: int, num_heads: int = 4, binding: bool = False) -> None:
        super().__init__(input_dim, num_heads)
        self.qkv = nn.Linear(input_dim, 3 * input_dim, bias=False)
        self.norm = HeadNorm(input_dim)
        self.out = nn.Linear(input_dim, input_dim, bias=False)
        if binding:
            bind_(*self.qkv.weight.chunk(3)[:2])

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Return the mapped queries and keys, and the values."""
        kinds = (ELU_PLUS_ONE, ELU_PLUS_ONE, PLAIN)
        parts = zip(self.qkv.weight.chunk(3), kinds, strict=True)
        q, k, v = (self.heads(wide_linear(x, part, None, kind).to(part.dtype)) for part, kind in parts)
        return Drive(q, k, v, torch.zeros_like(q[..., 0])), aside

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise and mix the heads."""
        return self.norm.mixed(y, None, self.out, NONE)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of keys, values and queries, which decide what is written and what is read."""
        yield from self.qkv.parameters()


LinearAttention = stacked(LinearAttentionLayer)
