"""What the laws are tried on: sequences with resets, states full of noise, and runs with all of their gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.controllers.base import Controller, map_state
from memsuite.types import State

Run = Callable[[Controller, Tensor, State], tuple[Tensor, State]]  # features and the state after the inputs
Outputs = dict[str, Tensor]  # by name: features, parts of the state, gradients
FEATURES, GRADIENT = "features", "gradient of "
# Steps, rows and the probability of a reset of the sequences that are tried, shortest first.
SHAPES = ((1, 2, 0.0), (1, 2, 1.0), (7, 3, 0.0), (12, 4, 0.3), (12, 2, 1.0))


@dataclass(frozen=True)
class Case:
    """A sequence that a controller reads.

    Attributes:
        x: inputs ``[T, B, input_dim]``.
        is_first: bool ``[T, B]``; where episodes begin.
        state: the state before the first step, of noise.
    """

    x: Tensor
    is_first: Tensor
    state: State

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.x)

    def to(self, dtype: torch.dtype) -> Case:
        """Return the case in another precision."""
        return replace(self, x=self.x.to(dtype), state=to_dtype(self.state, dtype))


def to_dtype(state: State, dtype: torch.dtype) -> State:
    """Return a state whose real numbers are of another precision."""
    return map_state(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, state)


def noise_state(controller: Controller, rows: int) -> State:
    """Return a state whose real numbers are noise; whole numbers stay as an episode begins with them."""
    return map_state(
        lambda leaf: torch.randn_like(leaf) if leaf.is_floating_point() else leaf, controller.init_state(rows)
    )


def make_case(controller: Controller, steps: int, rows: int, resets: float) -> Case:
    """Draw a case from PyTorch's generator, in the precision of the controller.

    Args:
        controller: is to read it.
        steps: number of steps.
        rows: number of environments.
        resets: probability that a step begins an episode.
    """
    x = torch.randn(steps, rows, controller.input_dim, dtype=precision(controller))
    return Case(x, torch.rand(steps, rows) < resets, noise_state(controller, rows))


def precision(controller: Controller) -> torch.dtype:
    """Return the precision of a controller's parameters, or the default where it has none."""
    return next((one.dtype for one in controller.parameters() if one.is_floating_point()), torch.get_default_dtype())


def in_precision(controller: Controller, dtype: torch.dtype) -> Controller:
    """Return a copy of a controller in another precision."""
    return copy.deepcopy(controller).to(dtype)


def named_leaves(state: State) -> dict[str, Tensor]:
    """Return the tensors of a state by their places in it."""
    pairs, _ = pytree.tree_flatten_with_path(state)
    return {f"state{pytree.keystr(path)}": leaf for path, leaf in pairs}


def differentiated(controller: Controller, run: Run, case: Case) -> Outputs:
    """Run and differentiate; return features, the state after, and the gradients of all inputs and parameters.

    The loss is a random sum of the features and of the state after, the same in every run of the same shapes.
    """
    x = case.x.clone().requires_grad_()
    state = map_state(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), case.state)
    features, after = run(controller, x, state)
    outputs = {FEATURES: features, **_real(named_leaves(after))}
    # By shape: randn_like would give a transposed output, which a user may return, other numbers in its places.
    weights = drawn_like(outputs, seed=1)
    inputs = {"the input": x, **_real(named_leaves(state)), **dict(controller.named_parameters())}
    inputs = {name: leaf for name, leaf in inputs.items() if leaf.requires_grad}
    learnt = [(out, weights[name]) for name, out in outputs.items() if out.requires_grad]
    if not learnt:
        return {**outputs, **{GRADIENT + name: torch.zeros_like(leaf) for name, leaf in inputs.items()}}
    loss = torch.stack([(out * weight).sum() for out, weight in learnt]).sum()
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {**outputs, **{GRADIENT + name: grad for name, grad in zip(inputs, grads, strict=True)}}


def drawn_like(tensors: Mapping[str, Tensor], seed: int) -> Outputs:
    """Draw normal numbers of the shapes of tensors, the same for a seed; the global generators are left alone.

    To seed those takes longer than a step of a controller, because PyTorch keeps where it was done for other devices.
    """
    device = next(iter(tensors.values())).device
    generator = torch.Generator(device).manual_seed(seed)
    return {
        name: torch.randn(one.shape, dtype=one.dtype, device=device, generator=generator)
        for name, one in tensors.items()
    }


def _real(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf for name, leaf in leaves.items() if leaf.is_floating_point()}


def whole(case: Case) -> Run:
    """Return the run that reads the sequence at once."""
    return lambda controller, x, state: controller.forward_sequence(x, state, case.is_first)


def step_by_step(case: Case) -> Run:
    """Return the run that resets and takes every step alone."""
    return lambda controller, x, state: Controller.forward_sequence(controller, x, state, case.is_first)


def in_two(case: Case, cut: int) -> Run:
    """Return the run that reads the steps before ``cut``, then the others with the state that is carried."""

    def run(controller: Controller, x: Tensor, state: State) -> tuple[Tensor, State]:
        features = []
        # split, not indexed: both parts then share one gradient
        parts = zip(*(torch.split(part, [cut, len(x) - cut]) for part in (x, case.is_first)), strict=True)
        for part, first in parts:
            feature, state = controller.forward_sequence(part, state, first)
            features.append(feature)
        return torch.cat(features), state

    return run


def episodes_apart(case: Case) -> Run:
    """Return the run that reads each episode of a single row from the initial state; the row begins with an episode."""
    begins = case.is_first[:, 0].nonzero().flatten().tolist()
    lengths = [end - begin for begin, end in zip(begins, [*begins[1:], case.steps], strict=True)]

    def run(controller: Controller, x: Tensor, state: State) -> tuple[Tensor, State]:
        features = []
        for episode in torch.split(x, lengths):
            no_reset = torch.zeros(len(episode), 1, dtype=torch.bool)
            feature, state = controller.forward_sequence(episode, controller.init_state(1), no_reset)
            features.append(feature)
        return torch.cat(features), state

    return run
