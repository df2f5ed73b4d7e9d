"""Laws of slopes: gradients are the slopes of what is computed, and no digits of it are rounded away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from memsuite.controllers.base import Controller, map_state
from memsuite.laws.cases import (
    FEATURES,
    Case,
    Outputs,
    Run,
    both_ways,
    drawn_like,
    named_leaves,
    precision,
)
from memsuite.laws.compare import Finding, place, prefixed, worse

NUDGE = 3e-8  # of the input, to see the last digits of a float64 model
STEP = 1e-4  # of the input, to see whether an output depends on it
TINY, COARSE = 1e-7, (0.01, 0.05)  # steps below and above what half precision tells apart
MEANT = "(cuts_gradient says that it is meant)"


def cuts_gradient(controller: Controller) -> bool:
    """Tell whether a gradient of the controller, or of a part of it, is not the slope by design."""
    return any(one.cuts_gradient for one in controller.modules() if isinstance(one, Controller))


def the_gradient_is_the_slope(controller: Controller, case: Case) -> Finding:
    """The gradient of the last features in an earlier input is their slope in it: nothing on the way is detached."""
    found = Finding(0.0, 1e-9)
    if cuts_gradient(controller):
        return found
    weight = drawn_like({"x": case.x, "weight": case.x.new_empty(controller.feature_dim)}, seed=3)["weight"]
    for name, run in both_ways(case).items():

        def last(x: Tensor, run: Run = run) -> Tensor:
            return run(controller, x, case.state)[0][-1] @ weight

        for at, told, wide, narrow in _slopes_in_steps(last, case):
            # Where the two slopes differ there is a jump or a kink, which no gradient tells.
            smooth = ((wide - narrow).abs() <= 0.01 * narrow.abs()) & (narrow.abs() > found.allowed)
            wrong = smooth & ((told - narrow).abs() > 0.05 * narrow.abs() + found.allowed)
            row = int(wrong.int().argmax())
            where = (
                f"{name}: the features of step {case.steps - 1} change with step {at} of row {row} by "
                f"{float(narrow[row]):.3g}, and their gradient says {float(told[row]):.3g}; "
                f"is a state detached? {MEANT}"
            )
            error = float((told - narrow).abs()[row]) if wrong.any() else 0.0
            found = worse(found, Finding(error, found.allowed, where if wrong.any() else ""))
    return found


def _slopes_in_steps(last: Callable[[Tensor], Tensor], case: Case) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield steps, and by row what the gradient says of a direction there, a wide slope and a narrow one."""

    def slope(moved: Tensor, size: float) -> Tensor:
        with torch.no_grad():
            return (last(case.x + size * moved) - last(case.x - size * moved)) / (2 * size)

    direction = drawn_like({"x": case.x}, seed=3)["x"]
    x = case.x.clone().requires_grad_()
    out, grad = last(x), torch.zeros_like(x)
    if out.requires_grad:
        (grad,) = torch.autograd.grad(out.sum(), x, allow_unused=True, materialize_grads=True)
    for at in sorted({0, case.steps // 2, max(0, case.steps - 2)}):
        moved = torch.zeros_like(case.x)
        moved[at] = direction[at]
        yield at, (grad[at] * direction[at]).sum(-1), slope(moved, STEP), slope(moved, STEP / 2)


def parameters_have_their_gradients(controller: Controller, case: Case) -> Finding:
    """The gradient of what is computed, from the initial state on, in each parameter is its slope in it."""
    found = Finding(0.0, 1e-6)
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad and one.numel()}
    if not learnt or cuts_gradient(controller):
        return found
    directions = drawn_like(learnt, seed=6)

    def loss() -> Tensor:
        features, after = controller.forward_sequence(case.x, controller.init_state(case.x.shape[1]), case.is_first)
        return _weighed({FEATURES: features, **named_leaves(after)})

    out, grads = loss(), [torch.zeros_like(one) for one in learnt.values()]
    if out.requires_grad:
        grads = list(torch.autograd.grad(out, list(learnt.values()), allow_unused=True, materialize_grads=True))
    told = {name: float((grad * directions[name]).sum()) for name, grad in zip(learnt, grads, strict=True)}
    # First all at once, which takes four runs; only if that is wrong each alone, to name it.
    if not _off(sum(told.values()), *_slopes_in(loss, learnt, directions)):
        return found
    for name, one in learnt.items():
        wide, narrow = _slopes_in(loss, {name: one}, directions)
        if error := _off(told[name], wide, narrow):
            what = f"{name}: the outputs change with it by {narrow:.3g}, and their gradient says {told[name]:.3g}"
            found = worse(found, Finding(error, found.allowed, f"{what}; is it detached? {MEANT}"))
    return found


def _weighed(outputs: Outputs) -> Tensor:
    """Return a random sum of all real numbers of outputs, the same for the same shapes."""
    real = {name: out for name, out in outputs.items() if out.is_floating_point()}
    weights = drawn_like(real, seed=5)
    # What is not finite, as a mask of minus infinity in a state, has no slope.
    return torch.stack(
        [(out * weights[name]).masked_fill(~out.isfinite(), 0).sum() for name, out in real.items()]
    ).sum()


@torch.no_grad()
def _slopes_in(loss: Callable[[], Tensor], moved: Mapping[str, Tensor], directions: Outputs) -> tuple[float, float]:
    """Return a wide and a narrow slope of a loss where some parameters move together; they are put back."""
    before, slopes = {name: one.clone() for name, one in moved.items()}, []
    for size in (STEP, STEP / 2):
        ends = []
        for sign in (size, -size):
            for name, one in moved.items():
                one.copy_(before[name] + sign * directions[name])
            ends.append(float(loss()))
        slopes.append((ends[0] - ends[1]) / (2 * size))
    for name, one in moved.items():
        one.copy_(before[name])
    return slopes[0], slopes[1]


def _off(told: float, wide: float, narrow: float) -> float:
    """Return how far a gradient is from a slope; 0 where that may be a kink, which makes the two slopes differ."""
    error = abs(told - narrow)
    return error if error > 8 * abs(wide - narrow) + 1e-6 * max(1.0, abs(narrow)) else 0.0


@torch.no_grad()
def precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float64 model computes in float64: a nudge of the input is not lost in rounding to fewer digits."""
    kind, allowed = precision(controller), 1e-9
    found, start = Finding(0.0, allowed), map_state(lambda leaf: leaf, case.state)
    direction = drawn_like({"x": case.x}, seed=2)["x"]
    for name, run in both_ways(case).items():
        outputs = []
        for nudge in (0.0, NUDGE, -NUDGE):
            features, after = run(controller, case.x + nudge * direction, start)
            outputs.append({FEATURES: features, **named_leaves(after)})
        for part, middle in outputs[0].items():
            if not middle.is_floating_point():
                continue
            if middle.dtype != kind:
                return Finding(float("inf"), allowed, f"{name}: {part} is {str(middle.dtype).removeprefix('torch.')}")
            bend = _bend(outputs[1][part], middle, outputs[2][part])
            if bend.numel():
                at = prefixed(name, Finding(float(bend.max()), allowed, place(part, bend, allowed, case)))
                found = worse(found, at)
    return found


def _bend(one: Tensor, middle: Tensor, other: Tensor) -> Tensor:
    """Return how far a number is from the mean of what two opposite nudges make of it, relative to the largest.

    Of a smooth function this is the square of the nudge; of one that is rounded, as large as the rounding.
    """
    scale = max(1.0, float(middle.abs().nan_to_num(0, 0, 0).max())) if middle.numel() else 1.0
    same = (one == middle) & (other == middle)  # also infinity
    return ((one - middle + (other - middle)).abs() / scale).masked_fill(same, 0)


def no_half_precision_inside(controller: Controller, case: Case) -> Finding:
    """A small step of the input moves the output by its gradient: it is not lost in rounding to half precision.

    A gradient passes through a cast as if nothing was rounded. Small steps that do not follow it, while large ones do,
    have been rounded away. At a kink or a plateau, as of a ReLU or a sign, the gradient is right for small steps.
    """
    found = Finding(0.0, 1e-3)
    if cuts_gradient(controller):
        return found
    direction = drawn_like({"x": case.x}, seed=7)["x"]
    for name, run in both_ways(case).items():

        def loss(x: Tensor, run: Run = run) -> Tensor:
            features, after = run(controller, x, case.state)
            return _weighed({FEATURES: features, **named_leaves(after)})

        x = case.x.clone().requires_grad_()
        out = loss(x)
        if not out.requires_grad:
            continue
        (grad,) = torch.autograd.grad(out, x, allow_unused=True, materialize_grads=True)
        told = float((grad * direction).sum())
        with torch.no_grad():
            tiny, *coarse = (
                float(loss(case.x + size * direction) - loss(case.x - size * direction)) / (2 * size)
                for size in (TINY, *COARSE)
            )
        off, scale = abs(tiny - told), max(abs(told), float(out.detach().abs()) / 1e3)
        if off > found.allowed * scale and all(abs(slope - told) < 0.5 * off for slope in coarse):
            at = (
                f"{name}: a step of {TINY:g} of the inputs moves the outputs by {tiny:.3g} times as much, and one of "
                f"{COARSE[0]:g} by {coarse[0]:.3g} times; is something in half precision?"
            )
            found = worse(found, Finding(off / scale, found.allowed, at))
    return found
