"""Each law as a function of a controller and a case, which finds the largest difference and where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from memsuite.controllers.base import Controller, map_state
from memsuite.laws.cases import (
    FEATURES,
    Case,
    Outputs,
    Run,
    differentiated,
    drawn_like,
    episodes_apart,
    in_two,
    named_leaves,
    noise_state,
    precision,
    step_by_step,
    whole,
)
from memsuite.laws.compare import TOLERANCE, Finding, compared, episode_of, place, worse
from memsuite.types import State

POISONS = (1e3, float("inf"), float("nan"))
NUDGE = 3e-8  # of the input, to see the last digits of a float64 model
STEPPED = "features of the steps"
STEP = 1e-4  # of the input, to see whether an output depends on it


def modes_agree(controller: Controller, case: Case) -> Finding:
    """A sequence read at once gives what its steps give: features of the declared width, state, and every gradient."""
    asked, shapes = [*case.x.shape[:2], controller.feature_dim], {}
    ways = {"forward_sequence": whole(case), "forward_step": step_by_step(case)}

    def by(name: str) -> Callable[[Controller, Case], Outputs]:
        def run(model: Controller, case: Case) -> Outputs:
            outputs = differentiated(model, ways[name], case)
            shapes[name] = list(outputs[FEATURES].shape)
            return outputs

        return run

    found = compared(controller, case, *map(by, ways))
    for name, shape in shapes.items():
        if shape != asked:
            return Finding(float("inf"), 0.0, f"{name}: features are of shape {shape}; feature_dim asks for {asked}")
    return found


def episodes_are_apart(controller: Controller, case: Case) -> Finding:
    """Episodes one after the other in a row give what each gives alone; the state before the row does not matter."""

    def packed(model: Controller, case: Case) -> Outputs:
        features, after = model.forward_sequence(case.x, case.state, case.is_first)
        return {FEATURES: features, **named_leaves(after)}

    def apart(model: Controller, case: Case) -> Outputs:
        features, after = episodes_apart(case)(model, case.x, case.state)
        return {FEATURES: features, **named_leaves(after)}

    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for row in range(case.x.shape[1]):
        at = slice(row, row + 1)
        first = case.is_first[:, at].clone()
        first[0] = True
        alone = Case(case.x[:, at], first, map_state(lambda leaf, at=at: leaf[at], case.state))
        found = worse(found, compared(controller, alone, packed, apart))
    return found


def cuts_are_carried(controller: Controller, case: Case, cuts: Iterable[int] | None = None) -> Finding:
    """A sequence read in two parts, the state carried, gives what it gives at once, with every gradient."""
    held: dict[torch.dtype, Outputs] = {}  # the same for every cut

    def uncut(model: Controller, case: Case) -> Outputs:
        if case.x.dtype not in held:
            held[case.x.dtype] = differentiated(model, whole(case), case)
        return held[case.x.dtype]

    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for cut in cuts if cuts is not None else range(1, case.steps):

        def parts(model: Controller, case: Case, cut: int = cut) -> Outputs:
            return differentiated(model, in_two(case, cut), case)

        one = compared(controller, case, parts, uncut)
        found = worse(found, Finding(one.error, one.allowed, one.where and f"cut at step {cut}: {one.where}"))
    return found


def the_gradient_is_the_slope(controller: Controller, case: Case) -> Finding:
    """The gradient of the last features in an earlier input is their slope in it: nothing on the way is detached."""
    found = Finding(0.0, 1e-9)
    if any(one.cuts_gradient for one in controller.modules() if isinstance(one, Controller)):
        return found
    drawn = drawn_like({"x": case.x, "weight": case.x.new_empty(controller.feature_dim)}, seed=3)
    direction, weight = drawn["x"], drawn["weight"]

    for name, run in (("forward_sequence", whole(case)), ("forward_step", step_by_step(case))):

        def last(x: Tensor, run: Run = run) -> Tensor:
            return run(controller, x, case.state)[0][-1] @ weight

        def slope(moved: Tensor, size: float, last: Callable[[Tensor], Tensor] = last) -> Tensor:
            with torch.no_grad():
                return (last(case.x + size * moved) - last(case.x - size * moved)) / (2 * size)

        x = case.x.clone().requires_grad_()
        out, grad = last(x), torch.zeros_like(x)
        if out.requires_grad:
            (grad,) = torch.autograd.grad(out.sum(), x, allow_unused=True, materialize_grads=True)
        for at in sorted({0, case.steps // 2, max(0, case.steps - 2)}):
            moved = torch.zeros_like(case.x)
            moved[at] = direction[at]
            wide, narrow = slope(moved, STEP), slope(moved, STEP / 2)
            told = (grad[at] * direction[at]).sum(-1)
            # Where the two slopes differ there is a jump or a kink, which no gradient tells.
            smooth = ((wide - narrow).abs() <= 0.01 * narrow.abs()) & (narrow.abs() > found.allowed)
            wrong = smooth & ((told - narrow).abs() > 0.05 * narrow.abs() + found.allowed)
            row = int(wrong.int().argmax())
            where = (
                f"{name}: the features of step {case.steps - 1} change with step {at} of row {row} by "
                f"{float(narrow[row]):.3g}, and their gradient says {float(told[row]):.3g}; "
                "is a state detached? (cuts_gradient says that it is meant)"
            )
            error = float((told - narrow).abs()[row]) if wrong.any() else 0.0
            found = worse(found, Finding(error, found.allowed, where if wrong.any() else ""))
    return found


@torch.no_grad()
def the_future_is_unseen(controller: Controller, case: Case) -> Finding:
    """Later inputs change no earlier output, by no bit."""
    found = Finding(0.0, 0.0)
    read, _ = controller.forward_sequence(case.x, case.state, case.is_first)
    for at in range(1, case.steps):
        changed = case.x.clone()
        changed[at:] += torch.randn_like(changed[at:])
        other, _ = controller.forward_sequence(changed, case.state, case.is_first)
        difference = (read[:at] - other[:at]).abs()
        where = f"inputs changed from step {at} on: {place(FEATURES, difference, 0.0, case)}"
        found = worse(found, Finding(float(difference.max()), 0.0, where if difference.max() > 0 else ""))
    return found


@torch.no_grad()
def resets_erase(controller: Controller, case: Case) -> Finding:
    """Nothing of the past is left after a reset, by no bit, not even of a NaN; and other rows keep their states."""
    found, begins = Finding(0.0, 0.0), case.is_first.clone()
    begins[0] = True
    clean, after = controller.forward_sequence(case.x, controller.init_state(begins.shape[1]), begins)
    _, lived = controller.forward_sequence(case.x, case.state, case.is_first)
    poisoned = [
        (f"a state of {poison}", map_state(lambda leaf, p=poison: _filled(leaf, p), case.state)) for poison in POISONS
    ]
    for what, past in [("the state of an episode before", lived), *poisoned]:
        features, dirty = controller.forward_sequence(case.x, past, begins)
        found = worse(found, _unlike(f"after {what}", features, clean, begins))
        for name, leaf in named_leaves(dirty).items():
            found = worse(found, _unequal(f"after {what}: {name}", leaf, named_leaves(after)[name]))
        found = worse(found, _reset_rows(controller, past, what))
    return found


def _filled(leaf: Tensor, value: float) -> Tensor:
    return torch.full_like(leaf, value) if leaf.is_floating_point() else leaf


def _reset_rows(controller: Controller, past: State, what: str) -> Finding:
    """Hold ``reset_mask`` to the initial state in the rows that begin, and to the given one in the others."""
    found, rows = Finding(0.0, 0.0), len(next(iter(named_leaves(past).values())))
    first = torch.arange(rows) % 2 == 0
    begun = named_leaves(controller.init_state(rows))
    kept = named_leaves(past)
    for name, leaf in named_leaves(controller.reset_mask(past, first)).items():
        found = worse(found, _unequal(f"reset_mask, {what}: {name}", leaf[first], begun[name][first]))
        found = worse(found, _unequal(f"reset_mask changes rows that go on: {name}", leaf[~first], kept[name][~first]))
    return found


def _unequal(where: str, one: Tensor, other: Tensor) -> Finding:
    if one.shape != other.shape:
        return Finding(float("inf"), 0.0, where)
    alike = (one == other) | ((one != one) & (other != other))
    return Finding(0.0, 0.0) if bool(alike.all()) else Finding(float(_size_of(one, other)), 0.0, where)


def _unlike(where: str, one: Tensor, other: Tensor, begins: Tensor) -> Finding:
    """Compare features to the bit, and name the first step that differs."""
    unlike = (one != other).any(-1)
    if not unlike.any():
        return Finding(0.0, 0.0)
    step, row = (int(index) for index in unlike.nonzero()[0])
    at = f"{where}: features at step {step} of row {row}, {episode_of(begins, step, row)}"
    return Finding(float(_size_of(one, other)), 0.0, at)


def _size_of(one: Tensor, other: Tensor) -> Tensor:
    """Return the largest difference; infinity where one of the two is not a finite number and the other is."""
    difference = (one.double() - other.double()).abs()
    return difference.nan_to_num(nan=float("inf"), posinf=float("inf")).max()


@torch.no_grad()
def the_state_is_bounded(controller: Controller, case: Case) -> Finding:
    """The state has as many numbers after many steps and episodes as at the beginning."""
    rows, state = case.x.shape[1], case.state
    size = sum(leaf.numel() for leaf in named_leaves(controller.init_state(rows)).values())
    no = torch.zeros_like(case.is_first)
    for call in range(10):
        _, state = controller.forward_sequence(case.x, state, no if call < 5 else case.is_first)
        _, state = controller.forward_step(case.x[0], state)
        for name, leaf in named_leaves(state).items():
            given = named_leaves(case.state).get(name)
            if given is None or leaf.shape != given.shape:
                grown = sum(leaf.numel() for leaf in named_leaves(state).values()) - size
                steps = (call + 1) * (case.steps + 1)
                return Finding(
                    float(abs(grown)) or 1.0, 0.0, f"{name} is of shape {list(leaf.shape)} after {steps} steps"
                )
    return Finding(0.0, 0.0)


@torch.no_grad()
def precision_is_kept(controller: Controller, case: Case) -> Finding:
    """A float64 model computes in float64: a nudge of the input is not lost in rounding to fewer digits."""
    kind, allowed = precision(controller), 1e-9
    found, start = Finding(0.0, allowed), map_state(lambda leaf: leaf, case.state)
    ways = {"forward_sequence": whole(case), "forward_step": step_by_step(case)}
    direction = drawn_like({"x": case.x}, seed=2)["x"]
    for name, run in ways.items():
        outputs = []
        for nudge in (0.0, NUDGE, -NUDGE):
            features, after = run(controller, case.x + nudge * direction, start)
            outputs.append({FEATURES: features, **named_leaves(after)})
        for part, middle in outputs[0].items():
            if not middle.is_floating_point():
                continue
            if middle.dtype != kind:
                return Finding(float("inf"), allowed, f"{name}: {part} is {str(middle.dtype).removeprefix('torch.')}")
            scale = max(1.0, float(middle.abs().max()))
            # Of a smooth function this is the square of the nudge; of one that is rounded, as large as the rounding.
            bend = (outputs[1][part] + outputs[2][part] - 2 * middle).abs() / scale
            if bend.numel():
                at = f"{name}: {place(part, bend, allowed, case)}"
                found = worse(found, Finding(float(bend.max()), allowed, at))
    return found


@torch.no_grad()
def rows_are_apart(controller: Controller, case: Case) -> Finding:
    """What a row gives does not depend on the other rows, nor on their order."""
    rows, held = case.x.shape[1], {}

    def all_rows(model: Controller, case: Case) -> Outputs:
        if case.x.dtype not in held:
            features, after = model.forward_sequence(case.x, case.state, case.is_first)
            stepped, _ = step_by_step(case)(model, case.x, case.state)
            held[case.x.dtype] = {FEATURES: features, STEPPED: stepped, **named_leaves(after)}
        return held[case.x.dtype]

    found = Finding(0.0, TOLERANCE[case.x.dtype])
    orders = {"the rows in another order": torch.arange(rows).flip(0), "fewer rows": torch.arange(rows)[:1]}
    for what, chosen in orders.items():

        def some(model: Controller, case: Case, chosen: Tensor = chosen) -> Outputs:
            state = map_state(lambda leaf: leaf[chosen], case.state)
            features, after = model.forward_sequence(case.x[:, chosen], state, case.is_first[:, chosen])
            stepped, _ = step_by_step(Case(case.x, case.is_first[:, chosen], state))(model, case.x[:, chosen], state)
            return {FEATURES: features, STEPPED: stepped, **named_leaves(after)}

        def every(model: Controller, case: Case, chosen: Tensor = chosen) -> Outputs:
            outputs, over_time = all_rows(model, case), (FEATURES, STEPPED)
            return {name: out[:, chosen] if name in over_time else out[chosen] for name, out in outputs.items()}

        one = compared(controller, case, some, every)
        found = worse(found, Finding(one.error, one.allowed, one.where and f"{what}: {one.where}"))
    return found


@torch.no_grad()
def the_same_twice(controller: Controller, case: Case) -> Finding:
    """The same inputs give the same a second time: nothing is drawn, and nothing is kept outside of the state."""
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, run in (("forward_sequence", whole(case)), ("forward_step", step_by_step(case))):
        one, _ = run(controller, case.x, case.state)
        run(controller, torch.randn_like(case.x), noise_state(controller, case.x.shape[1]))
        other, _ = run(controller, case.x, case.state)
        difference = (one - other).abs()
        at = f"{name}: {place(FEATURES, difference, found.allowed, case)}"
        found = worse(found, Finding(float(difference.max()), found.allowed, at if difference.max() > 0 else ""))
    return found
