"""What the laws are tried on: sequences with resets, states full of noise, and runs with all of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.controllers.base import Controller, map_state
from memsuite.types import State

Run = Callable[[Controller, Tensor, State], tuple[Tensor, State]]  # features and the state after the inputs
Outputs = dict[str, Tensor]  # by name: features, parts of the state, gradients
FEATURES, GRADIENT = "features", "gradient of "
TRUST, NUDGED = 1e-11, 1e-14  # how far a change of the last digit may grow, and the change


class Shape(NamedTuple):
    """What a sequence is drawn by.

    Attributes:
        steps: their number.
        rows: number of environments.
        resets: probability that a step begins an episode.
        forward_only: whether it is read without gradients, which would take long for it.
        placed: whether the first row is one long episode, and the second begins one wherever a chunk may begin.
    """

    steps: int
    rows: int
    resets: float
    forward_only: bool = False
    placed: bool = False


# The sequences that are tried, shortest first, and those that show what short ones do not.
SHAPES = (Shape(1, 2, 0.0), Shape(1, 2, 1.0), Shape(7, 3, 0.0), Shape(12, 4, 0.3), Shape(12, 2, 1.0))
PLAIN, MIXED, MANY = SHAPES[2], SHAPES[3], Shape(12, 16, 0.3)
LONG, WIDE, FAR = Shape(330, 3, 0.02, True, placed=True), Shape(3, 130, 0.3, forward_only=True), Shape(41, 2, 0.0)
UNBROKEN, LASTING = Shape(300, 2, 0.0, forward_only=True), Shape(300, 2, 0.0)
CHUNKS = (32, 50)  # chunks of 8, 16, 25, 64, 100, 128, 200 and 256 steps begin where these do


@dataclass(frozen=True)
class Case:
    """A sequence that a controller reads.

    Attributes:
        x: inputs ``[T, B, input_dim]``.
        is_first: bool ``[T, B]``; where episodes begin.
        state: the state before the first step.
        noise: whether that state is noise; otherwise it is reached from other inputs.
        steady: bool ``[T, B]``, for a case that is only read forward: where a change of the last digit of the inputs
            has not grown. Elsewhere the rounding decides, and two ways to run a correct controller may differ.
    """

    x: Tensor
    is_first: Tensor
    state: State
    noise: bool = True
    steady: Tensor | None = None

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.x)

    def to(self, dtype: torch.dtype) -> Case:
        """Return the case in another precision."""
        return replace(self, x=self.x.to(dtype), state=to_dtype(self.state, dtype))


def to_dtype(state: State, dtype: torch.dtype) -> State:
    """Return a state whose real and complex numbers are of another precision."""

    def convert(leaf: Tensor) -> Tensor:
        if leaf.is_complex():
            return leaf.to(dtype.to_complex())
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    return map_state(convert, state)


def is_number(leaf: Tensor) -> bool:
    """Tell whether a tensor holds real or complex numbers, not whole ones or truth values."""
    return leaf.is_floating_point() or leaf.is_complex()


def drawn_state(controller: Controller, rows: int, noise: bool = True) -> State:
    """Return a state whose real and complex numbers are noise, or a state after a few steps of random inputs.

    Whole numbers and truth values stay as an episode begins with them where the others are noise.

    Args:
        controller: whose state it is.
        rows: number of environments.
        noise: which of the two.
    """
    begun = controller.init_state(rows)
    if noise:
        return map_state(lambda leaf: torch.randn_like(leaf) if is_number(leaf) else leaf, begun)
    x = torch.randn(5, rows, controller.input_dim, dtype=precision(controller))
    with torch.no_grad():
        return Controller.forward_sequence(controller, x, begun, torch.zeros(5, rows, dtype=torch.bool))[1]


@torch.no_grad()
def takes_noise(controller: Controller) -> bool:
    """Tell whether noise can be a state: it cannot be a variance or a probability, and steps from it are not finite."""
    rows = 32
    x = torch.randn(8, rows, controller.input_dim, dtype=precision(controller))
    no = torch.zeros(8, rows, dtype=torch.bool)
    try:
        features, after = Controller.forward_sequence(controller, x, drawn_state(controller, rows), no)
    except Exception:  # a matrix that must be positive definite raises
        return False
    numbers = not any(bool(leaf.isnan().any()) for leaf in named_leaves(after).values())
    return numbers and bool(features.isfinite().all())


def make_case(
    controller: Controller,
    steps: int,
    rows: int,
    resets: float,
    forward_only: bool = False,
    placed: bool = False,
    noise: bool = True,
) -> Case:
    """Draw a case from PyTorch's generator, in the precision of the controller.

    Args:
        controller: is to read it.
        steps: number of steps.
        rows: number of environments.
        resets: probability that a step begins an episode.
        forward_only: whether it is read without its gradients.
        placed: whether the first row never begins an episode, and the second does so at steps that divide evenly.
        noise: whether the state before the first step is noise (:func:`takes_noise`).
    """
    x = torch.randn(steps, rows, controller.input_dim, dtype=precision(controller))
    is_first = torch.rand(steps, rows) < resets
    if placed:
        is_first[:, 0] = False
        is_first[:, 1] = torch.tensor([step > 0 and any(step % size == 0 for size in CHUNKS) for step in range(steps)])
    case = Case(x, is_first, drawn_state(controller, rows, noise), noise)
    return replace(case, steady=_steady(controller, case)) if forward_only else case


@torch.no_grad()
def _steady(controller: Controller, case: Case) -> Tensor:
    read, nudged = (
        controller.forward_sequence(x, case.state, case.is_first)[0] for x in (case.x, case.x * (1 + NUDGED))
    )
    scale = max(1.0, float(read.abs().max()))
    return ~((read - nudged).abs().amax(-1) > TRUST * scale)  # what is not a number is compared


def precision(controller: Controller) -> torch.dtype:
    """Return the precision of a controller's parameters and buffers, or the default where it has none."""
    held = (*controller.parameters(), *controller.buffers())
    return next((one.dtype for one in held if one.is_floating_point()), torch.get_default_dtype())


@torch.no_grad()
def perturb(controller: Controller) -> Controller:
    """Change all parameters that learn a little, as an update does; return the controller.

    What begins at zero hides faults: a learnt initial state of zeros is what a reset to zeros gives.
    """
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad and one.numel()}
    for name, noise in drawn_like(learnt, seed=4).items():
        size = float(learnt[name].square().mean().sqrt()) or 1.0
        learnt[name].add_(noise, alpha=0.05 * size)
    return controller


def named_leaves(state: State) -> dict[str, Tensor]:
    """Return the tensors of a state by their places in it."""
    pairs, _ = pytree.tree_flatten_with_path(state)
    return {f"state{pytree.keystr(path)}": leaf for path, leaf in pairs}


def differentiated(controller: Controller, run: Run, case: Case) -> Outputs:
    """Run and differentiate; return features, the state after, and the gradients of all inputs and parameters.

    The loss is a random sum of the features and of the state after, the same in every run of the same shapes. A case
    that is only read forward has features and the state alone, where they are steady.
    """
    if case.steady is not None:
        return forward(controller, run, case, case.steady)
    x = case.x.clone().requires_grad_()
    state = map_state(lambda leaf: leaf.clone().requires_grad_(is_number(leaf)), case.state)
    features, after = run(controller, x, state)
    outputs = {FEATURES: features, **_numbers(named_leaves(after))}
    # By shape: randn_like would give a transposed output, which a user may return, other numbers in its places.
    weights = drawn_like(outputs, seed=1)
    inputs = {"the input": x, **_numbers(named_leaves(state)), **dict(controller.named_parameters())}
    inputs = {name: leaf for name, leaf in inputs.items() if leaf.requires_grad}
    learnt = [(out, weights[name]) for name, out in outputs.items() if out.requires_grad]
    if not learnt:
        return {**outputs, **{GRADIENT + name: torch.zeros_like(leaf) for name, leaf in inputs.items()}}
    loss = torch.stack([(out * weight).sum().real for out, weight in learnt]).sum()  # real also of complex numbers
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {**outputs, **{GRADIENT + name: grad for name, grad in zip(inputs, grads, strict=True)}}


@torch.no_grad()
def forward(controller: Controller, run: Run, case: Case, steady: Tensor | None = None) -> Outputs:
    """Run without autograd; return features and the state after.

    Args:
        controller: is run.
        run: how.
        case: what it reads.
        steady: bool ``[T, B]``; features elsewhere are zero, and the rows whose last step is not steady are left out.
    """
    # Clones, because a controller that writes into what it is given breaks another law.
    features, after = run(controller, case.x.clone(), map_state(torch.clone, case.state))
    if steady is None:
        return {FEATURES: features, **named_leaves(after)}
    states = {name: leaf[steady[-1]] for name, leaf in named_leaves(after).items()}
    return {FEATURES: features.masked_fill(~steady.unsqueeze(-1), 0), **states}


def drawn_like(tensors: Mapping[str, Tensor], seed: int) -> Outputs:
    """Draw normal numbers of the shapes of tensors, the same for a seed; the global generators are left alone.

    To seed those takes longer than a step of a controller, because PyTorch keeps where it was done for other devices.
    """
    if not tensors:
        return {}
    device = next(iter(tensors.values())).device
    generator = torch.Generator(device).manual_seed(seed)
    return {
        name: torch.randn(one.shape, dtype=one.dtype, device=device, generator=generator)
        for name, one in tensors.items()
    }


def _numbers(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf for name, leaf in leaves.items() if is_number(leaf)}


def whole(case: Case) -> Run:
    """Return the run that reads the sequence at once."""
    return lambda controller, x, state: controller.forward_sequence(x, state, case.is_first)


def step_by_step(case: Case) -> Run:
    """Return the run that resets and takes every step alone."""
    return lambda controller, x, state: Controller.forward_sequence(controller, x, state, case.is_first)


def both_ways(case: Case) -> dict[str, Run]:
    """Return the two runs, by the names of the methods that they call."""
    return {"forward_sequence": whole(case), "forward_step": step_by_step(case)}


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
