"""The interface of controllers: sequence models with two modes that agree, and with resets inside both."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from memsuite.controllers.about.abilities import Abilities
from memsuite.errors import UsageError, unknown
from memsuite.imports import parameters_of
from memsuite.types import State


class Placement(NamedTuple):
    """The way a stack places the layers of a class (:class:`memsuite.controllers.stack.Stack`).

    Attributes:
        embed: whether the input is embedded first, so that the first layer is in a residual block too; if not, the
            first layer reads the input itself.
        shift: initial size of a learnt constant that is added to the input of each block's layer; 0 for none.
        mlp_ratio: default inner width of the blocks' perceptrons, as a multiple of the stream's width; 0 for none.
        depth: default number of layers. It is two for the models that are published as stacks of residual blocks; a
            single layer of these cannot learn to bind items across steps.
        gate_bias: initial bias of gates that take the place of the residual sums
            (:mod:`memsuite.controllers.windows.gated_block`); None for sums.
    """

    embed: bool = False
    shift: float = 0.0
    mlp_ratio: float = 2.0
    depth: int = 1
    gate_bias: float | None = None


class Controller(nn.Module, ABC):
    """A sequence model that maps inputs ``[.., input_dim]`` to features ``[.., feature_dim]``.

    A controller of your own defines ``__init__(self, input_dim, ...)``, sets ``feature_dim``, and implements
    :meth:`init_state`, :meth:`forward_step` and :meth:`reset_mask`. :meth:`forward_sequence` has a default, a loop over
    these three; override it if the model can read a whole sequence faster. The state is a tree (tuples and dicts) of
    tensors with the batch in dimension 0.
    """

    input_dim: int
    feature_dim: int
    # The rate of its matrices where their updates are orthogonalised, relative to Adam's.
    matrix_factor: float = 1.0
    abilities: Abilities | None = None  # what it can express, where that is known
    # Whether the gradient through time is not the slope by design: it is truncated, or passes straight through a step.
    cuts_gradient: bool = False

    @abstractmethod
    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the state of ``batch_size`` episodes before their first step."""

    @abstractmethod
    def forward_step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one step ``[B, input_dim]``; return features ``[B, feature_dim]`` and the next state."""

    @abstractmethod
    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Return ``state`` with the rows where ``is_first_B`` (bool ``[B]``) replaced by the initial state."""

    def forward_sequence(self, x_TBD: Tensor, state: State, is_first_TB: Tensor) -> tuple[Tensor, State]:
        """Read a whole sequence, resetting the rows that begin an episode before the step that begins it.

        Args:
            x_TBD: inputs ``[T, B, input_dim]``, T >= 1.
            state: the state before the first step.
            is_first_TB: bool ``[T, B]``.

        Returns:
            Features ``[T, B, feature_dim]`` and the state after the last step.
        """
        features = []
        # unbind, not indexing: each index in a differentiated loop would allocate a full-size gradient.
        for x_BD, is_first_B in zip(x_TBD.unbind(), is_first_TB.unbind(), strict=True):
            feature, state = self.forward_step(x_BD, self.reset_mask(state, is_first_B))
            features.append(feature)
        return torch.stack(features), state

    def fork(self, state: State, draws: int, steps: int) -> State:
        """Return the state of ``draws`` rows for each row of ``state``, one after the other.

        Only :meth:`reset_mask` and :meth:`forward_step` take it, so that a model may store once what the draws share.

        Args:
            state: of ``M`` rows.
            draws: rows that go on from each of them.
            steps: number of steps that they will take.

        Returns:
            The state of ``M draws`` rows.
        """
        return map_state(lambda leaf: leaf.repeat_interleave(draws, 0), state)

    def recurrent_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that decide what is written and how long it is kept; they have their own rate."""
        yield from ()

    @classmethod
    def placement(cls, **arguments: Any) -> Placement:
        """Return how a stack places layers of this class.

        Args:
            arguments: ``memory_horizon`` and the layer's own arguments, if they are given.
        """
        return Placement()

    def state_floats(self) -> int:
        """Return the number of values in the state of one episode."""
        return sum(leaf.numel() for leaf in pytree.tree_leaves(self.init_state(1)) if isinstance(leaf, Tensor))


class ZeroBegin(Controller):
    """A controller whose state, of any structure, is zero at the beginning of an episode."""

    def reset_mask(self, state: State, is_first_B: Tensor) -> State:
        """Zero the rows that begin an episode."""
        return zero_where(state, is_first_B)


class VectorMemory(ZeroBegin):
    """A controller whose state is one vector of ``feature_dim`` numbers, zero at the beginning of an episode."""

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return zeros ``[B, feature_dim]``."""
        like = next(self.parameters())
        return torch.zeros(batch_size, self.feature_dim, device=device or like.device, dtype=like.dtype)


def forward_in_blocks(
    controller: Controller,
    x_TBD: Tensor,
    state: State,
    is_first_TB: Tensor,
    steps: int,
    recompute: bool = False,
    keep_T: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run :meth:`Controller.forward_sequence` over blocks of time; the state carries its gradient across blocks.

    The result is the same as over the whole sequence. The intermediate values of a block stay in the processor's cache,
    in the forward and in the backward pass, so a step of a long sequence costs no more than a step of a short one.

    Args:
        controller: the model.
        x_TBD: inputs ``[T, B, input_dim]``.
        state: the state before the first step.
        is_first_TB: bool ``[T, B]``.
        steps: number of steps in a block.
        recompute: keep only the state before each block for the backward pass, which computes the block again.
        keep_T: bool ``[T]``, the steps whose features are returned; None for all.
    """

    def read(x: Tensor, state: State, is_first: Tensor, keep: Tensor | None) -> tuple[Tensor, State]:
        feature, state = controller.forward_sequence(x, state, is_first)
        if again:  # the last row of a block, as a view, would keep the whole block until the backward pass
            state = map_state(torch.clone, state)
        return feature if keep is None else feature[keep], state

    features = []
    again = recompute and torch.is_grad_enabled()
    keeps = [None] * -(-len(x_TBD) // steps) if keep_T is None else torch.split(keep_T, steps)
    for x, is_first, keep in zip(torch.split(x_TBD, steps), torch.split(is_first_TB, steps), keeps, strict=True):
        one = functools.partial(checkpoint, read, use_reentrant=False) if again else read
        feature, state = one(x, state, is_first, keep)
        features.append(feature)
    return features[0] if len(features) == 1 else torch.cat(features), state


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Apply ``function`` to every tensor of one state, or to the corresponding tensors of several."""
    if isinstance(states[0], Tensor):  # the usual case: a tree search takes longer than the function
        return function(*states)
    return pytree.tree_map(function, *states)  # type: ignore[no-any-return]


def zero_where(state: State, is_first_B: Tensor) -> State:
    """Return ``state`` with zeros in the rows where ``is_first_B``, even over NaNs; uncopied if there are none."""
    # On a CPU this takes a sixth of the time of a mask; on an accelerator the host would wait for the row numbers.
    if is_first_B.device.type == "cpu":
        rows = is_first_B.nonzero().squeeze(1)
        if not len(rows):
            return state
        return map_state(lambda leaf: leaf.index_fill(0, rows, 0), state)

    def zero(leaf: Tensor) -> Tensor:
        return leaf.masked_fill(is_first_B.view(-1, *[1] * (leaf.dim() - 1)), 0)

    return map_state(zero, state)


def check_arguments(name: str, cls: type, given: dict[str, Any]) -> None:
    """Raise a usage error if an argument does not have the type of its annotation, or is out of range.

    Whole numbers are sizes of at least 1. ``memory_horizon`` may be 0, the value for a task without memory. The
    annotations of the class are strings that begin with ``int``, ``float`` or ``bool``.
    """
    parameters = parameters_of(cls)
    for argument, value in given.items():
        kind = parameters[argument].annotation
        if value is None and "None" in kind:
            continue
        whole, least = kind.startswith("int"), int(kind.startswith("int") and argument != "memory_horizon")
        kinds = bool if kind == "bool" else int if whole else (int, float)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind != "bool"):
            wanted = {"bool": "true or false", "int": "a whole number"}.get(kind.split(" ")[0], "a number")
            raise UsageError(f"controller {name} does not take {argument} {value!r}; it must be {wanted}")
        if not (least <= value < math.inf):
            raise UsageError(f"controller {name}: {argument} is {value}; the least is {least}")


def check_given(name: str, cls: type, given: dict[str, Any]) -> None:
    """Raise a usage error if a class does not take an argument, or not this value of it (:func:`check_arguments`)."""
    valid = accepted_arguments(cls)
    for argument in given:
        if argument not in valid:
            raise unknown(f"argument of {name}", argument, valid)
    check_arguments(name, cls, given)


def is_own(controller: nn.Module) -> bool:
    """Return whether a controller contains a user's own class, neither memsuite's nor PyTorch's."""
    return not {type(part).__module__.split(".")[0] for part in controller.modules()} <= {"memsuite", "torch"}


def accepted_arguments(cls: type) -> list[str]:
    """List the keyword arguments that a class takes, except ``input_dim``, which every controller receives."""
    return [name for name in parameters_of(cls) if name != "input_dim"]
