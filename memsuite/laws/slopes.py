"""Laws of slopes: gradients are the slopes of what is computed, and no digits of it are rounded away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from memsuite.controllers.base import Controller, map_state
from memsuite.controllers.copies import in_precision
from memsuite.laws.cases import (
    FEATURES,
    Case,
    Run,
    both_ways,
    drawn_like,
    forward,
    is_number,
    precision,
)
from memsuite.laws.compare import Finding, difference_of, place, prefixed, worse

NUDGE, WIDER = 3e-8, 10.0  # of the input, to see the last digits of a float64 model; and how much wider a second one is
NUDGES = (0.0, NUDGE, -NUDGE, WIDER * NUDGE, -WIDER * NUDGE)
STEP = 1e-4  # of the input, to see whether an output depends on it
SINGLE_ERROR = 1e-4  # of features; half precision errs by more
TINY, COARSE = 1e-7, (0.01, 0.03)  # steps below and above what half precision tells apart
MEANT = "(cuts_gradient says that it is meant)"


def cuts_gradient(controller: Controller) -> bool:
    """Tell whether a gradient of the controller, or of a part of it, is not the slope by design."""
    return any(one.cuts_gradient for one in controller.modules() if isinstance(one, Controller))


def unsloped(controller: Controller, case: Case) -> bool:
    """Tell whether slopes say nothing: they are not meant to be gradients, or are not known to double precision."""
    return cuts_gradient(controller) or case.x.dtype != torch.float64


def the_gradient_is_the_slope(controller: Controller, case: Case) -> Finding:
    """The gradient of the last features in an earlier input is their slope in it: nothing on the way is detached."""
    found = Finding(0.0, 1e-9)
    if unsloped(controller, case):
        return found
    for name in both_ways(case):
        for at, told, wide, narrow in _slopes_in_steps(controller, case, name):
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


def _slopes_in_steps(controller: Controller, case: Case, name: str) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield steps, and by row what the gradient says of a direction there, a wide slope and a narrow one."""
    drawn = drawn_like({"x": case.x, "weight": case.x.new_empty(controller.feature_dim)}, seed=3)

    def last(case: Case) -> Tensor:
        return both_ways(case)[name](controller, case.x, case.state)[0][-1] @ drawn["weight"]

    x = case.x.clone().requires_grad_()
    out, grad = last(replace(case, x=x)), torch.zeros_like(x)
    if out.requires_grad:
        (grad,) = torch.autograd.grad(out.sum(), x, allow_unused=True, materialize_grads=True)
    steps, moved = sorted({0, case.steps // 2, max(0, case.steps - 2)}), []
    for at in steps:
        for size in (STEP, -STEP, STEP / 2, -STEP / 2):
            moved.append(case.x.clone())
            moved[-1][at] += size * drawn["x"][at]
    with torch.no_grad():  # all at once, as rows of one batch
        ends = last(side_by_side(case, moved)).view(len(steps), 4, -1)
    for at, (up, down, less_up, less_down) in zip(steps, ends, strict=True):
        yield at, (grad[at] * drawn["x"][at]).sum(-1), (up - down) / (2 * STEP), (less_up - less_down) / STEP


def side_by_side(case: Case, inputs: list[Tensor]) -> Case:
    """Return a case whose rows are those of a case, once for each of several inputs."""
    times = len(inputs)
    state = map_state(lambda leaf: torch.cat([leaf] * times), case.state)
    return replace(case, x=torch.cat(inputs, 1), is_first=case.is_first.repeat(1, times), state=state)


def parameters_have_their_gradients(controller: Controller, case: Case) -> Finding:
    """The gradient of the features, from the initial state on, in each parameter is their slope in it."""
    found = Finding(0.0, 1e-6)
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad and one.numel()}
    if not learnt or unsloped(controller, case):
        return found
    directions = drawn_like(learnt, seed=6)

    def loss() -> Tensor:
        features, _ = controller.forward_sequence(case.x, controller.init_state(case.x.shape[1]), case.is_first)
        return weighed(features).sum()

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
            what = f"{name}: the features change with it by {narrow:.3g}, and their gradient says {told[name]:.3g}"
            found = worse(found, Finding(error, found.allowed, f"{what}; is it detached? {MEANT}"))
    return found


def weighed(features: Tensor) -> Tensor:
    """Return a random sum of the features of each row, the same for the same shape.

    Of the state they are all that counts: a part of it that only rescales others, as the stabiliser of exponential
    gates, can well be detached.
    """
    return (features * drawn_like({FEATURES: features}, seed=5)[FEATURES]).sum((0, 2))


def _slopes_in(
    loss: Callable[[], Tensor], moved: Mapping[str, Tensor], directions: Mapping[str, Tensor]
) -> tuple[float, float]:
    """Return a wide and a narrow slope of a loss where some parameters move together."""
    return slope_in(loss, moved, directions, STEP), slope_in(loss, moved, directions, STEP / 2)


@torch.no_grad()
def slope_in(
    loss: Callable[[], Tensor], moved: Mapping[str, Tensor], directions: Mapping[str, Tensor], size: float
) -> float:
    """Return the slope of a loss where some parameters move together by a step of a size; they are put back."""
    before, ends = {name: one.clone() for name, one in moved.items()}, []
    for sign in (size, -size):
        for name, one in moved.items():
            one.copy_(before[name] + sign * directions[name])
        ends.append(float(loss()))
    for name, one in moved.items():
        one.copy_(before[name])
    return (ends[0] - ends[1]) / (2 * size)


def _off(told: float, wide: float, narrow: float) -> float:
    """Return how far a gradient is from a slope; 0 where that may be a kink, which makes the two slopes differ."""
    error = abs(told - narrow)
    return error if error > 8 * abs(wide - narrow) + 1e-6 * max(1.0, abs(narrow)) else 0.0


@torch.no_grad()
def precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float64 model computes in float64: a nudge of the input is not lost in rounding to fewer digits."""
    kind, allowed = precision(controller), 1e-9
    found = Finding(0.0, allowed)
    if case.x.dtype != torch.float64:  # it holds no number whose precision it could take
        return found
    direction = drawn_like({"x": case.x}, seed=2)["x"]
    for name, run in both_ways(case).items():
        nudged = {size: forward(controller, run, replace(case, x=case.x + size * direction)) for size in NUDGES}
        for part, middle in nudged[0.0].items():
            if not is_number(middle):
                continue
            if middle.dtype not in (kind, kind.to_complex()):
                return Finding(float("inf"), allowed, f"{name}: {part} is {str(middle.dtype).removeprefix('torch.')}")
            bend, wide = (_bend(nudged[size][part], middle, nudged[-size][part]) for size in (NUDGE, WIDER * NUDGE))
            # A function that is smooth, but steep, bends with the square of the nudge; rounding is of its own size.
            bend = bend.masked_fill(wide > WIDER**2 / 4 * bend, 0)
            if bend.numel():
                one = Finding(float(bend.max()), allowed, place(part, bend, allowed, case))
                found = worse(found, prefixed(name, one))
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
    if unsloped(controller, case):
        return found
    direction = drawn_like({"x": case.x}, seed=7)["x"]
    for name, run in both_ways(case).items():

        def loss(x: Tensor, run: Run = run) -> Tensor:
            return weighed(run(controller, x, case.state)[0])

        x = case.x.clone().requires_grad_()
        out = loss(x)
        if not out.requires_grad:
            continue
        (grad,) = torch.autograd.grad(out.sum(), x, allow_unused=True, materialize_grads=True)
        told = (grad * direction).sum((0, 2))
        with torch.no_grad():
            tiny, *coarse = (
                (loss(case.x + size * direction) - loss(case.x - size * direction)) / (2 * size)
                for size in (TINY, *COARSE)
            )
        # Of all rows together, because a large step, over which a function is curved, errs in some of them.
        off, scale = float((tiny - told).norm()), max(float(told.norm()), 1e-3 * float(out.detach().norm()))
        if off > found.allowed * scale and any(float((slope - told).norm()) < 0.5 * off for slope in coarse):
            row = int((tiny - told).abs().argmax())
            at = (
                f"{name}: a step of {TINY:g} of the inputs of row {row} moves its features by {float(tiny[row]):.3g} "
                f"times as much, and one of {COARSE[0]:g} by {float(coarse[0][row]):.3g} times; is something in half "
                "precision?"
            )
            found = worse(found, Finding(off / scale, found.allowed, at))
    return found


@torch.no_grad()
def single_precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float32 model computes in float32: its error against double precision is not that of half precision.

    Some models magnify rounding. What is allowed therefore grows with what a change in the last digits makes of the
    outputs in double precision.
    """
    double, exact = in_precision(controller, torch.float64), case.to(torch.float64)
    found = Finding(0.0, SINGLE_ERROR)
    for name, run in both_ways(case).items():
        found = worse(found, unlike_in_single(name, run, (controller, case), (double, exact)))
    return found


def unlike_in_single(
    name: str,
    run: Run,
    single: tuple[Controller, Case],
    double: tuple[Controller, Case],
    least: float = SINGLE_ERROR,
) -> Finding:
    """Compare features in single precision with those in double.

    Args:
        name: of the mode.
        run: the mode.
        single: a controller and a case in single precision.
        double: the same in double precision.
        least: what is allowed of a model that magnifies no rounding.
    """
    (_, case), (truthful, exact) = single, double
    got, truth = (run(one, read.x, read.state)[0].double() for one, read in (single, double))
    nudged = run(truthful, exact.x * (1 + 1e-6), exact.state)[0]
    allowed = least + 8 * float(difference_of(nudged, truth).max())
    difference = difference_of(got, truth)
    where = place(FEATURES, difference, allowed, case)
    odd = "is something in half precision?" if got.isfinite().all() else "does something overflow or vanish?"
    return Finding(float(difference.max()), allowed, f"{name}: {where}; {odd}")
