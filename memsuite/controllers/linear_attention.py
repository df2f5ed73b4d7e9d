"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): attention whose cache is a matrix of fixed size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from memsuite.controllers.blocks import Stack
from memsuite.controllers.matrix_memory import Aside, Drive, HeadNorm, MatrixMemory


class LinearAttentionLayer(MatrixMemory):
    r"""Heads of linear attention, with :math:`\phi(x) = \mathrm{elu}(x) + 1`.

    .. math::
        S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad z_t = z_{t-1} + \phi(k_t), \quad
        y_t = \frac{S_t^\top \phi(q_t)}{z_t^\top \phi(q_t)}, \quad o_t = W_o\, \mathrm{norm}(y_t)

    Nothing is ever forgotten. The sum of the keys, which grows with time, makes the answer an average; the norm of each
    head before the output map (as in RetNet, arXiv 2307.08621) gives it back its size.

    State: ``width (width / num_heads + 1)`` floats: :math:`S`, with :math:`z` as its last column. Cost per step:
    ``4 width^2 + 2 width^2 / num_heads`` multiply-adds.

    Args:
        width: of the input and of the features.
        num_heads: heads; ``width`` is a multiple of them.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads, extra=1)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm = HeadNorm(width)
        self.out = nn.Linear(width, width, bias=False)

    def drive(self, x: Tensor, aside: Aside, is_first_TB: Tensor | None) -> tuple[Drive, Aside]:
        """Return the mapped queries and keys, and the values with a column of ones."""
        q, k, v = (self.heads(part) for part in self.qkv(x).to(self.out.weight.dtype).chunk(3, dim=-1))
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
        return Drive(elu(q) + 1, elu(k) + 1, v, torch.zeros_like(q[..., 0])), aside

    def read(self, y: Tensor, x: Tensor) -> Tensor:
        """Divide by the sum of the keys."""
        return self.out(self.norm(y[..., :-1] / y[..., -1:]))  # type: ignore[no-any-return]

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield those that decide what is written and what is asked for."""
        yield from self.qkv.parameters()


class LinearAttention(Stack):
    """Linear attention: a matrix that adds up everything it saw.

    State: ``depth hidden_dim (hidden_dim / num_heads + 1)`` floats.

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
