"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): attention whose cache is a matrix of fixed size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from memsuite.controllers.blocks import Stack
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory
from memsuite.ops.fused.gated_out import NONE


class LinearAttentionLayer(MatrixMemory):
    r"""Heads of linear attention, with :math:`\phi(x) = \mathrm{elu}(x) + 1`.

    .. math::
        S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad y_t = S_t^\top \phi(q_t), \quad o_t = W_o\, \mathrm{norm}(y_t)

    Nothing is ever forgotten. The paper divides :math:`y_t` by :math:`z_t^\top \phi(q_t)`, with :math:`z_t` the sum of
    the keys. That is a positive number for each head, which the norm of each head takes out again, so it is left out,
    as in RetNet (arXiv 2307.08621) and TransNormer (arXiv 2210.10340). It would do harm: it grows with every blank
    step, as :math:`\phi(0) = 1`, and would in the end push the answer below the norm's epsilon.

    State: ``width^2 / num_heads`` floats. Cost per step: ``4 width^2 + 2 width^2 / num_heads`` multiply-adds.

    Args:
        width: of the input and of the features.
        num_heads: heads; ``width`` is a multiple of them.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Return the mapped queries and keys, and the values."""
        q, k, v = (self.heads(part) for part in self.qkv(x).to(self.out.weight.dtype).chunk(3, dim=-1))
        return Drive(elu(q) + 1, elu(k) + 1, v, torch.zeros_like(q[..., 0])), aside

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Normalise and mix the heads."""
        return self.norm.mixed(y, None, self.out, NONE)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield those that decide what is written and what is asked for."""
        yield from self.qkv.parameters()


class LinearAttention(Stack):
    """Linear attention: a matrix that adds up everything it saw.

    State: ``depth hidden_dim^2 / num_heads`` floats.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the residual stream and of the features.
        depth: number of blocks.
        memory_horizon: accepted and not used; nothing is forgotten at any time scale.
        mlp_ratio: inner width of the perceptrons over ``hidden_dim``.
        num_heads: heads of every layer.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        depth: int = 1,
        memory_horizon: int | None = None,
        mlp_ratio: float = 2.0,
        num_heads: int = 4,
    ) -> None:
        super().__init__(
            input_dim, hidden_dim, depth, lambda width: LinearAttentionLayer(width, num_heads), mlp_ratio, embed=True
        )
