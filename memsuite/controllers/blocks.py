"""The blocks of a stack: a layer alone, or a layer and a gated perceptron on a residual stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from memsuite.controllers.base import Controller
from memsuite.errors import UsageError
from memsuite.ops import gated_mlp, gated_out, rms_norm, wide_linear
from memsuite.ops.fused.gated_out import NONE
from memsuite.ops.schema import outside_autocast, worth_fusing

EPSILON = 1e-8  # of the norms: even a stream whose memory has faded to a thousandth is still normalised


def unrounded(cell: Callable[..., Any], x: Tensor, state: Any, *weights: Tensor) -> Any:
    """Run one of PyTorch's recurrent cells outside autocast, which would round the state at every step.

    Args:
        cell: such as ``torch.gru_cell``.
        x: input of one step.
        state: of the cell.
        weights: of the cell, whose kind of number the state has.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(weights[0].dtype)
    with outside_autocast(x.device.type):
        return cell(x, state, *weights)


class Bare(nn.Module):
    """A layer alone, without a residual block."""

    def __init__(self, layer: Controller) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, u: Tensor, run: Callable[[Controller, Tensor], Tensor]) -> Tensor:
        """Run the layer."""
        return run(self.layer, u)


class Block(Bare):
    """A layer, then a gated perceptron: each reads the normalised stream, and its output is added to the stream.

    Args:
        layer: the layer.
        width: width of the stream.
        mlp_ratio: inner width of the perceptron, as a multiple of ``width``; 0 for no perceptron.
        shift: initial size of the constant that is added to the layer's input; 0 for none.
    """

    def __init__(self, layer: Controller, width: int, mlp_ratio: float, shift: float = 0.0) -> None:
        super().__init__(layer)
        self.norm = RMSNorm(width)
        self.shift = nn.Parameter(shift * torch.randn(width)) if shift else None
        self.mlp = nn.Sequential(RMSNorm(width), GatedMLP(width, round(mlp_ratio * width))) if mlp_ratio else None

    def forward(self, u: Tensor, run: Callable[[Controller, Tensor], Tensor]) -> Tensor:
        """Add the outputs of the layer and of the perceptron to the stream ``[.., width]``."""
        v = self.norm(u)
        u = u + run(self.layer, v if self.shift is None else v + self.shift)
        if self.mlp is None:
            return u
        if not worth_fusing(u):
            return u + self.mlp(u)  # type: ignore[no-any-return]
        norm, mlp = cast(tuple[RMSNorm, GatedMLP], tuple(self.mlp))
        return gated_mlp(u, mlp.up.weight * norm.weight, mlp.down.weight, EPSILON)


class GatedMLP(nn.Module):
    """``W_2 (silu(W_g x) * W_1 x)`` (SwiGLU, Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[.., width]`` to ``[.., width]``."""
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(silu(gate) * up)  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """A linear map by memsuite's op, which is faster on many CPUs; its parameters are those of ``nn.Linear``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[.., in_features]`` to ``[.., out_features]``."""
        return wide_linear(x, self.weight, self.bias)


class RMSNorm(nn.RMSNorm):
    """RMSNorm with memsuite's op, which is faster on a CPU; its parameter is that of ``nn.RMSNorm``."""

    def __init__(self, width: int, eps: float = EPSILON) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return rms_norm(x, self.weight, cast(float, self.eps))


def normed_out(x: Tensor, norm: RMSNorm, out: nn.Linear) -> Tensor:
    """Normalise the last dimension and map it, ``out(norm(x))``, by one op; ``out`` has no bias."""
    return gated_out(x.to(norm.weight.dtype).unsqueeze(-2), None, out.weight * norm.weight, cast(float, norm.eps), NONE)


def unit(x: Tensor) -> Tensor:
    """Scale vectors, along the last dimension, to unit length; a vector that is nearly zero stays nearly zero."""
    size = x.shape[-1]
    return rms_norm(x, x.new_full((size,), size**-0.5), 1e-6 / size)


def at_least(name: str, value: float, least: float) -> None:
    """Raise a UsageError if an argument is below its smallest allowed value."""
    if value < least:
        raise UsageError(f"{name} is {value}; the least is {least}")
