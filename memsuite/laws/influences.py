"""Laws of what must not matter to an output: later inputs, other rows, earlier calls."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from memsuite.controllers.base import Controller, map_state
from memsuite.controllers.copies import copied
from memsuite.laws.cases import (
    FEATURES,
    Case,
    Outputs,
    both_ways,
    drawn_state,
    forward,
    is_number,
    named_leaves,
    perturb,
    step_by_step,
)
from memsuite.laws.compare import TOLERANCE, Finding, apart, compared, difference_of, place, prefixed, worse

STEPPED = "features of the steps"
ROUNDING = 1e-12  # a difference of this size, relative to the outputs, may come of another order of the same sums


@torch.no_grad()
def the_future_is_unseen(controller: Controller, case: Case) -> Finding:
    """Later inputs change no earlier output, by no bit."""
    found = Finding(0.0, 0.0)
    read, _ = controller.forward_sequence(case.x, case.state, case.is_first)
    for at in range(1, case.steps):
        changed = case.x.clone()
        changed[at:] += torch.randn_like(changed[at:])
        other, _ = controller.forward_sequence(changed, case.state, case.is_first)
        difference = difference_of(read[:at], other[:at])
        error = float(difference.max())
        where = f"inputs changed from step {at} on: {place(FEATURES, difference, 0.0, case)}"
        if error <= ROUNDING * max(1.0, float(read.abs().max())):
            where += "; a difference this small is rounding, as of an FFT over the whole sequence, and may be harmless"
        found = worse(found, Finding(error, 0.0, "" if error == 0 else where))
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
            # In memory the batch comes first here, as many libraries have it; a view of that is an input as any other.
            x = case.x.transpose(0, 1)[chosen].transpose(0, 1)
            features, after = model.forward_sequence(x, state, case.is_first[:, chosen])
            stepped, _ = step_by_step(Case(case.x, case.is_first[:, chosen], state))(model, case.x[:, chosen], state)
            return {FEATURES: features, STEPPED: stepped, **named_leaves(after)}

        def every(model: Controller, case: Case, chosen: Tensor = chosen) -> Outputs:
            outputs, over_time = all_rows(model, case), (FEATURES, STEPPED)
            return {name: out[:, chosen] if name in over_time else out[chosen] for name, out in outputs.items()}

        one = compared(controller, case, some, every)
        found = worse(found, prefixed(what, one))
    return found


@torch.no_grad()
def the_same_twice(controller: Controller, case: Case) -> Finding:
    """The same inputs give the same a second time: nothing is drawn, and nothing is kept outside of the state."""
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, run in both_ways(case).items():
        one = forward(controller, run, case)
        run(controller, torch.randn_like(case.x), drawn_state(controller, case.x.shape[1], case.noise))
        other = forward(controller, run, case)
        for part, leaf in one.items():
            difference = difference_of(other[part], leaf)
            error = float(difference.max()) if difference.numel() else 0.0
            at = "" if error == 0 else f"{name}: {place(part, difference, found.allowed, case)}"
            found = worse(found, Finding(error, found.allowed, at))
    return found


@torch.no_grad()
def parameters_are_read_anew(controller: Controller, case: Case) -> Finding:
    """Parameters that have changed since the last call count: nothing that was computed of them or of inputs is kept.

    Args:
        controller: has not read anything yet, so that a copy of it keeps nothing.
        case: is read.
    """
    used, fresh = copied(controller), perturb(copied(controller))
    for run in both_ways(case).values():
        for x in (2 * case.x.flip(0), case.x):
            forward(used, run, replace(case, x=x))
    perturb(used)
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, run in both_ways(case).items():
        got, expected = forward(used, run, case), forward(fresh, run, case)
        for part, one in got.items():
            what = f"{name}, after other inputs and other parameters, computes with what it kept of the old ones"
            found = worse(found, prefixed(what, apart(part, one, expected[part], expected[part], case)))
    return found


@torch.no_grad()
def one_row_spoils_no_other(controller: Controller, case: Case) -> Finding:
    """A row whose state is not finite leaves the other rows as they are; a controller may also refuse it altogether."""
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, run in both_ways(case).items():
        clean = forward(controller, run, case)
        for poison in (float("nan"), float("inf")):
            state = map_state(lambda leaf, p=poison: _with_row(leaf, p), case.state)
            try:
                got = forward(controller, run, replace(case, state=state))
            except Exception:  # such as a Cholesky decomposition, which takes no NaN
                continue
            for part, leaf in got.items():
                one, other = (out[:, 1:] if part == FEATURES else out[1:] for out in (leaf, clean[part]))
                what = f"{name}, where the state of row 0 is {poison}, gives other rows other outputs"
                found = worse(found, prefixed(what, apart(part, one, other, other, case)))
    return found


def _with_row(leaf: Tensor, value: float) -> Tensor:
    if not is_number(leaf):
        return leaf
    return torch.cat([torch.full_like(leaf[:1], value), leaf[1:]])
