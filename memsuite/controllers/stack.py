"""The stack of every model: ``depth`` layers of one class; :func:`stacked` makes the class of such stacks."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Any, cast

import torch
from torch import Tensor, nn

from memsuite.controllers.base import Controller, Placement
from memsuite.controllers.blocks import Bare, Block, at_least
from memsuite.controllers.windows.gated_block import GatedBlock
from memsuite.errors import UsageError
from memsuite.imports import parameters_of
from memsuite.ops import narrow_linear
from memsuite.types import State

SHARED = ("hidden_dim", "memory_horizon")  # arguments that a stack passes to every layer that takes them
# The rates of matrices, relative to Adam's, at which models of either kind learn (docs/recipe.md).
MATRIX_FACTORS = {"recurrence": 6.0, "blocks": 0.3}
ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)  # an argument's name and text in a docstring


class Stack(Controller):
    r"""``depth`` layers of one class, one above the other.

    There are two kinds of stacks; the layer's class chooses the kind
    (:meth:`~memsuite.controllers.base.Controller.placement`). If the input is embedded, it becomes a residual stream of
    width ``hidden_dim``, and every layer is a block on it:

    .. math::
        u = E x, \quad u = u + \mathrm{layer}(\mathrm{norm}(u)), \quad
        u = u + W_2 (\mathrm{silu}(W_g\, \mathrm{norm}(u)) \odot W_1\, \mathrm{norm}(u))

    with RMSNorm (Zhang & Sennrich 2019) and the gated perceptron of Shazeer 2020 (arXiv 2002.05202). If it is not
    embedded, the first layer reads the input itself, its features are the stream, and the layers above it are blocks. A
    stack of depth 1 is then the layer alone. The stack itself has no bias, so it adds nothing to a blank input.

    Some layers query their memory with a product of the input, and would output zero on a blank input whatever they
    hold. A placement with a ``shift`` adds a learnt constant to the input of such a layer.

    State: a tuple of the layers' states. A block's perceptron costs ``3 mlp_ratio hidden_dim^2`` multiply-adds per
    step.

    Args:
        layer: class of the layers.
        input_dim: width of the input.
        hidden_dim: width of the features and of the residual stream.
        depth: number of layers.
        memory_horizon: steps over which the initial weights of every layer should retain information; None for the
            layer's default initialisation.
        mlp_ratio: inner width of the blocks' perceptrons, as a multiple of ``hidden_dim``; 0 for none.
        arguments: the layer's other arguments.

    Raises:
        UsageError: an argument is out of range, or the layer's features are not as wide as the stream.
    """

    def __init__(
        self,
        layer: type[Controller],
        input_dim: int,
        hidden_dim: int = 128,
        depth: int = 1,
        memory_horizon: int | None = None,
        mlp_ratio: float = 2.0,
        **arguments: Any,
    ) -> None:
        super().__init__()
        at_least("depth", depth, 1)
        at_least("mlp_ratio", mlp_ratio, 0)
        placed = layer.placement(memory_horizon=memory_horizon, **arguments)
        shared = {"hidden_dim": hidden_dim, "memory_horizon": memory_horizon}
        arguments |= {name: shared[name] for name in SHARED if name in parameters_of(layer)}
        self.input_dim = input_dim
        self.embed = nn.Linear(input_dim, hidden_dim, bias=False) if placed.embed else None
        # All layers are created before all blocks, because the order of the random draws determines a seed's weights.
        layers = [layer(input_dim=hidden_dim if placed.embed else input_dim, **arguments)]
        self.feature_dim = width = hidden_dim if placed.embed else layers[0].feature_dim
        layers += [layer(input_dim=width, **arguments) for _ in range(depth - 1)]
        if any(one.feature_dim != width for one in layers):
            raise UsageError(f"{layer.__name__} cannot be stacked: its features are not as wide as its input, {width}")
        self.blocks = nn.ModuleList(
            placed_block(one, width, mlp_ratio, placed) if placed.embed or index else Bare(one)
            for index, one in enumerate(layers)
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

    def fork(self, state: State, draws: int, steps: int) -> State:
        """Fork every layer's state."""
        states = cast(Sequence[State], state)
        return tuple(layer.fork(its, draws, steps) for layer, its in zip(self.layers, states, strict=True))

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Run layer after layer over the whole sequence."""
        return self._run(x_TBD, state, lambda layer, u, its: layer.forward_sequence(u, its, is_first_TB))

    def _run(
        self, x: Tensor, state: State, run: Callable[[Controller, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        # The stream begins in full precision even under autocast, because half precision loses small terms.
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
        """Return each layer's input, ``[T, B, width]``, while the stack reads a sequence; for the probes."""
        inputs: list[Tensor] = []

        def run(layer: Controller, u: Tensor, its: State) -> tuple[Tensor, State]:
            inputs.append(u)
            return layer.forward_sequence(u, its, is_first_TB)

        self._run(x_TBD, state, run)
        return inputs

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the layers' recurrent parameters, and the shifts, which are written to memory at every blank step."""
        for block in self.blocks:
            yield from cast(Bare, block).layer.recurrent_parameters()
            if isinstance(block, Block) and block.shift is not None:
                yield block.shift


def placed_block(layer: Controller, width: int, mlp_ratio: float, placed: Placement) -> Bare:
    """Put a layer into the kind of block that its class asks for."""
    if placed.gate_bias is not None:
        return GatedBlock(layer, width, mlp_ratio, placed.gate_bias)
    return Block(layer, width, mlp_ratio, placed.shift)


@functools.cache
def stacked(layer: type[Controller]) -> type[Stack]:
    """Return the class of stacks of one layer.

    ``GRU = stacked(GRULayer)`` is called as ``GRU(input_dim=5, depth=2)``. Its signature and its documentation contain
    the arguments of a stack and those of the layer, with the layer's defaults, so that nothing is written twice.

    Args:
        layer: a controller's class, built in or a user's. Its ``__init__`` takes ``input_dim``; if it also takes
            ``hidden_dim`` or ``memory_horizon``, every layer gets the stack's.

    Raises:
        UsageError: the layer has an argument with the name of one of the stack's own arguments.
    """
    signature = stack_signature(layer)

    def __init__(self: Stack, *given: Any, **named: Any) -> None:
        bound = signature.bind(self, *given, **named)
        bound.apply_defaults()
        Stack.__init__(layer=layer, **bound.arguments)  # the bound arguments include ``self``

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    short = layer.__name__.removesuffix("Layer")
    name = short if short != layer.__name__ else f"Stacked{short}"
    body = {"__init__": __init__, "__doc__": stack_documentation(layer, signature), "__module__": layer.__module__}
    body["abilities"] = layer.abilities
    body["matrix_factor"] = MATRIX_FACTORS["blocks" if layer.placement().embed else "recurrence"]
    return cast(type[Stack], type(name, (Stack,), body))


def stack_signature(layer: type[Controller]) -> Signature:
    """Join the arguments of a stack and of its layer, with the layer's defaults."""
    own = parameters_of(layer)
    stack = dict(inspect.signature(Stack.__init__).parameters)
    del stack["layer"], stack["arguments"]
    if clash := {"layer", "depth", "mlp_ratio"} & set(own):
        raise UsageError(f"{layer.__name__} cannot be stacked: it has an argument {clash.pop()} of its own")
    placed = layer.placement()
    stack["mlp_ratio"] = stack["mlp_ratio"].replace(default=placed.mlp_ratio)
    stack["depth"] = stack["depth"].replace(default=placed.depth)
    if "hidden_dim" in own:
        stack["hidden_dim"] = stack["hidden_dim"].replace(default=own["hidden_dim"].default)
    elif not placed.embed:
        del stack["hidden_dim"]  # such a layer sets the width of its features itself
    rest = [one for name, one in own.items() if name not in stack]
    needed = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in rest if one.default is Parameter.empty]
    return Signature([*stack.values(), *(one for one in rest if one.default is not Parameter.empty), *needed])


def stack_documentation(layer: type[Controller], signature: Signature) -> str:
    """Return the docstring of a stack: the layer's description, and every argument from both docstrings."""
    what, _, described = (inspect.getdoc(layer) or layer.__name__).partition("\nArgs:\n")
    ours = dict(ENTRY.findall((inspect.getdoc(Stack) or "").partition("\nArgs:\n")[2]))
    theirs = {name: text for name, text in ENTRY.findall(described) if name not in ("input_dim", "hidden_dim")}
    entries = [f"    {name}: {text}" for name, text in (ours | theirs).items() if name in signature.parameters]
    made = f"``depth`` layers of :class:`{layer.__name__}` in a :class:`~memsuite.controllers.stack.Stack`."
    return "\n".join([what.rstrip(), "", made, "", "Args:", *entries, ""])
