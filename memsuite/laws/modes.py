"""Laws of the ways to read a sequence: at once, by steps, in parts, in single episodes, with and without autograd."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from memsuite.controllers.base import Controller, map_state
from memsuite.laws.cases import (
    FEATURES,
    Case,
    Outputs,
    Run,
    both_ways,
    differentiated,
    episodes_apart,
    forward,
    in_two,
    named_leaves,
    whole,
)
from memsuite.laws.compare import TOLERANCE, Finding, apart, compared, prefixed, worse


def modes_agree(controller: Controller, case: Case) -> Finding:
    """A sequence read at once gives what its steps give: features of the declared width, state, and every gradient."""
    asked, shapes = [*case.x.shape[:2], controller.feature_dim], {}
    ways = both_ways(case)

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


def autograd_changes_nothing(controller: Controller, case: Case) -> Finding:
    """Both modes compute without autograd, as a run acts, what they compute with it, as a run learns."""
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, run in both_ways(case).items():

        def recorded(model: Controller, case: Case, run: Run = run) -> Outputs:
            features, after = run(model, case.x.clone().requires_grad_(), case.state)
            return {FEATURES: features, **named_leaves(after)}

        def unrecorded(model: Controller, case: Case, run: Run = run) -> Outputs:
            return forward(model, run, case)

        one = compared(controller, case, unrecorded, recorded)
        found = worse(found, prefixed(f"{name} without autograd is not that with it", one))
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
    if cuts is None:
        # Of a long sequence: chunks that part in other places, whole ones, and a single step that is left.
        cuts = range(1, case.steps) if case.steady is None else (case.steps // 3, 256, case.steps - 1)
    for cut in cuts:

        def parts(model: Controller, case: Case, cut: int = cut) -> Outputs:
            return differentiated(model, in_two(case, cut), case)

        one = compared(controller, case, parts, uncut)
        found = worse(found, prefixed(f"cut at step {cut}", one))
    return found


def zeros_and_symbols_are_read(controller: Controller, case: Case) -> Finding:
    """Both modes agree on what tasks show, nothing or one symbol a step, and no gradient of a parameter is infinite.

    Noise is never zero, where a norm has no direction and a root no slope.
    """
    x, rows = torch.zeros_like(case.x), case.x.shape[1]
    x[:, 1::2, 0] = 1.0
    x[0, 2::4, -1] = 1.0  # a symbol, and nothing after it
    begun = controller.init_state(rows)
    shown = replace(case, x=x, state=begun)
    ways = [lambda model, case, run=run: forward(model, run, case) for run in both_ways(shown).values()]
    found = prefixed("where the inputs are zeros and symbols", compared(controller, shown, *ways))
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad}
    features, _ = controller.forward_sequence(x, controller.init_state(rows), case.is_first)
    if not found.holds or not learnt or not features.requires_grad:
        return found
    grads = torch.autograd.grad(features.sum(), list(learnt.values()), allow_unused=True)
    for name, grad in zip(learnt, grads, strict=True):
        if grad is not None and not grad.isfinite().all():
            where = f"where the inputs are zeros and symbols, the gradient of {name} is not finite"
            return Finding(float("inf"), found.allowed, where)
    return found


@torch.no_grad()
def forks_go_on(controller: Controller, case: Case) -> Finding:
    """What ``fork`` returns is read as that many copies of every row; it is tried where a class has its own."""
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    if type(controller).fork is Controller.fork:
        return found
    x, is_first = (part.repeat_interleave(2, 1) for part in (case.x, case.is_first))
    x = x + torch.randn_like(x)  # the draws part
    read = {}
    for name, fork in (("fork", controller.fork), ("copies", functools.partial(Controller.fork, controller))):
        state = fork(case.state, 2, case.steps)
        read[name] = Controller.forward_sequence(controller, x, state, is_first)[0]
    wide = replace(case, x=x, is_first=is_first)
    return prefixed("after fork", apart(FEATURES, read["fork"], read["copies"], read["copies"], wide))
