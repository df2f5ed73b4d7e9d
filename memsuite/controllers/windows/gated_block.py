"""The block of the gated Transformer-XL (Parisotto et al. 2019, arXiv 1910.06764)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from memsuite.controllers.base import Controller
from memsuite.controllers.blocks import Bare, Linear, RMSNorm
from memsuite.ops import split_linear


class GRUGate(nn.Module):
    r"""A gate in place of a residual sum: how much of a branch's output y takes the place of the stream x.

    .. math::
        r = \sigma(W_r y + U_r x), \quad z = \sigma(W_z y + U_z x - b), \quad
        h = \tanh(W_h y + U_h (r \odot x)), \quad x' = (1 - z) \odot x + z \odot h

    Args:
        width: width of the stream.
        bias: initial value of b; a larger one passes more of the stream.
    """

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.branch, self.stream = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.candidate = Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Gate ``[.., width]``."""
        width = x.shape[-1]
        y_r, y_z, y_h = split_linear(y, self.branch.weight, [width] * 3)
        x_r, x_z = split_linear(x, self.stream.weight, [width] * 2)
        h = torch.tanh(y_h + self.candidate(torch.sigmoid(y_r + x_r) * x))
        return torch.lerp(x, h.to(x.dtype), torch.sigmoid(y_z + x_z - self.bias).to(x.dtype))


class GatedBlock(Bare):
    """A layer, then a perceptron: each reads the normalised stream, and a gate admits its rectified output.

    Args:
        layer: the layer.
        width: width of the stream.
        mlp_ratio: inner width of the perceptron, as a multiple of ``width``; 0 for no perceptron.
        gate_bias: initial bias of the gates.
    """

    def __init__(self, layer: Controller, width: int, mlp_ratio: float, gate_bias: float) -> None:
        super().__init__(layer)
        inner = round(mlp_ratio * width)
        self.norm, self.gate = RMSNorm(width), GRUGate(width, gate_bias)
        self.mlp = None
        if inner:
            self.mlp = nn.Sequential(RMSNorm(width), Linear(width, inner), nn.ReLU(), Linear(inner, width))
            self.mlp_gate = GRUGate(width, gate_bias)

    def forward(self, u: Tensor, run: Callable[[Controller, Tensor], Tensor]) -> Tensor:
        """Gate the outputs of the layer and of the perceptron into the stream ``[.., width]``."""
        u = self.gate(u, relu(run(self.layer, self.norm(u))))
        return u if self.mlp is None else self.mlp_gate(u, relu(self.mlp(u)))
