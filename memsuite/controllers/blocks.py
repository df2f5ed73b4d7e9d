"""What all stacked models share: embedding, pre-norm residual blocks, depth, gated multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from memsuite.controllers.base import Controller
from memsuite.errors import UsageError
from memsuite.ops import gated_mlp, narrow_linear, rms_norm
from memsuite.ops.schema import worth_fusing
from memsuite.types import State

EPSILON = 1e-8  # of the norms: small enough for a stream in which a memory has faded to a thousandth


class Stack(Controller):
    r"""``depth`` layers of one kind, one upon the other.

    Embedded, the input becomes a residual stream of width ``hidden_dim`` and every layer is a block on it:

    .. math::
        u = E x, \quad u = u + \mathrm{layer}(\mathrm{norm}(u)), \quad
        u = u + W_2 (\mathrm{silu}(W_g\, \mathrm{norm}(u)) \odot W_1\, \mathrm{norm}(u))

    with RMSNorm (Zhang & Sennrich 2019) and the gated perceptron of Shazeer 2020 (arXiv 2002.05202). Otherwise the
    first layer reads the input itself and its features begin the stream: then a depth of one is the bare layer, and
    what stands upon it are blocks. Nothing here has a bias, so a blank input is no drive.

    A layer whose question to its memory is a product with the input would answer a blank input with nothing, whatever
    it holds. Where it cannot have a bias of its own, ``shift`` adds a learnt constant after the norm.

    State: a tuple of the layers' states. A block's perceptron costs ``3 mlp_ratio hidden_dim^2`` multiply-adds a step.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the stream and of the features.
        depth: number of layers.
        make_layer: builds a layer from the width of its input; its features are ``hidden_dim`` wide.
        mlp_ratio: inner width of the perceptron over ``hidden_dim``; 0 for none.
        embed: whether the input is embedded, so that the first layer is a block too.
        shift: size at initialisation of what is added to each block's normalised input; 0 for nothing.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        depth: int,
        make_layer: Callable[[int], Controller],
        mlp_ratio: float = 0.0,
        embed: bool = False,
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        at_least("depth", depth, 1)
        at_least("mlp_ratio", mlp_ratio, 0)
        self.input_dim, self.feature_dim = input_dim, hidden_dim
        self.embed = nn.Linear(input_dim, hidden_dim, bias=False) if embed else None
        layers = [make_layer(hidden_dim if embed or index else input_dim) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(layer, hidden_dim, mlp_ratio, shift) if embed or index else Bare(layer)
            for index, layer in enumerate(layers)
        )

    @property
    def layers(self) -> list[Controller]:
        """The layers, from the input up."""
        return [cast(Bare, block).layer for block in self.blocks]

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return a tuple of the layers' initial states."""
        return tuple(layer.init_state(batch_size, device) for layer in self.layers)

    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step, layer after layer."""
        return self._run(x_BD, state, lambda layer, u, its: layer.forward_step(u, its))

    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Reset every layer's state."""
        states = cast(Sequence[State], state)
        return tuple(layer.reset_mask(its, is_first_B) for layer, its in zip(self.layers, states, strict=True))

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run layer after layer over the whole sequence."""
        return self._run(x_TBD, state, lambda layer, u, its: layer.forward_sequence(u, its, is_first_TB))

    def _run(
        self, x: Tensor, state: State, run: Callable[[Controller, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        # The stream begins in full precision under autocast too: half precision loses small terms.
        u = x if self.embed is None else narrow_linear(x, self.embed.weight).to(self.embed.weight.dtype)
        after = []
        for block, its in zip(self.blocks, cast(Sequence[State], state), strict=True):

            def layer_run(layer: Controller, v: Tensor, before: State = its) -> Tensor:
                out, new = run(layer, v, before)
                after.append(new)
                return out

            u = block(u, layer_run)
        return u, tuple(after)

    def layer_inputs(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> list[Tensor]:
        """Return what each layer reads while a sequence is read, ``[T, B, width]`` each, for looking inside."""
        inputs: list[Tensor] = []

        def run(layer: Controller, u: Tensor, its: State) -> tuple[Tensor, State]:
            inputs.append(u)
            return layer.forward_sequence(u, its, is_first_TB)

        self._run(x_TBD, state, run)
        return inputs

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield those of the layers, and the shifts before them, which write at every blank step."""
        for block in self.blocks:
            yield from cast(Bare, block).layer.recurrent_parameters()
            if isinstance(block, Block) and block.shift is not None:
                yield block.shift


class RecurrentStack(Stack):
    """A stack of the recurrent layers that a class of it names as ``layer``, the first one bare.

    State: that of the layer, ``depth`` times.

    Args:
        input_dim: width of the input.
        hidden_dim: width of the features and of every layer.
        depth: number of layers; beyond the first they are residual blocks.
        memory_horizon: steps every layer should hold something before any training; None for the layer's default.
        mlp_ratio: of the blocks, if there are any.
        kwargs: what else every layer takes.
    """

    layer: Callable[..., Controller]  # of the input's width, hidden_dim and memory_horizon, and what else it takes

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 128,
        depth: int = 1,
        memory_horizon: int | None = None,
        mlp_ratio: float = 2.0,
        **kwargs: float,
    ) -> None:
        make_layer = type(self).layer
        super().__init__(
            input_dim,
            hidden_dim,
            depth,
            lambda width: make_layer(width, hidden_dim, memory_horizon, **kwargs),
            mlp_ratio,
        )


class Bare(nn.Module):
    """A layer with nothing around it."""

    def __init__(self, layer: Controller) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, u: Tensor, run: Callable[[Controller, Tensor], Tensor]) -> Tensor:
        """Run the layer."""
        return run(self.layer, u)


class Block(Bare):
    """A layer, and a gated perceptron after it, each on the normalised stream and added to it."""

    def __init__(self, layer: Controller, width: int, mlp_ratio: float, shift: float = 0.0) -> None:
        super().__init__(layer)
        self.norm = RMSNorm(width)
        self.shift = nn.Parameter(shift * torch.randn(width)) if shift else None
        self.mlp = nn.Sequential(RMSNorm(width), GatedMLP(width, round(mlp_ratio * width))) if mlp_ratio else None

    def forward(self, u: Tensor, run: Callable[[Controller, Tensor], Tensor]) -> Tensor:
        """Add to the stream ``[.., width]`` what the layer and the perceptron make of it."""
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


class RMSNorm(nn.RMSNorm):
    """RMSNorm, faster on a CPU; its parameter is that of ``nn.RMSNorm``."""

    def __init__(self, width: int, eps: float = EPSILON) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return rms_norm(x, self.weight, cast(float, self.eps))


def at_least(name: str, value: float, least: float) -> None:
    """Raise a UsageError if an argument is below the least it can be."""
    if value < least:
        raise UsageError(f"{name} is {value}; the least is {least}")
