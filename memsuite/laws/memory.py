"""Laws of the state: resets erase it, it stays of its size, and nothing that is given is written into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from memsuite.controllers.base import Controller, map_state
from memsuite.controllers.copies import copied
from memsuite.laws.cases import FEATURES, Case, is_number, named_leaves
from memsuite.laws.compare import TOLERANCE, Finding, apart, difference_of, episode_of, prefixed, worse
from memsuite.types import State

POISONS = (1e3, float("inf"), float("nan"))
SMALL = (torch.int8, torch.uint8)  # the kinds of whole numbers that a few hundred steps can overflow


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
        found = worse(found, _reset_rows(controller, past, begins.shape[1], what))
    return found


@torch.no_grad()
def resets_erase_within(controller: Controller, case: Case) -> Finding:
    """What a sequence begins with does not reach the episodes that begin within it, not even a NaN."""
    first = case.is_first.clone()
    first[0], first[case.steps // 2] = False, True
    begun = first.cumsum(0) > 0
    clean, after = controller.forward_sequence(case.x, case.state, first)
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for poison in POISONS:
        past = map_state(lambda leaf, p=poison: _filled(leaf, p), case.state)
        try:
            features, dirty = controller.forward_sequence(case.x, past, first)
        except Exception:  # a matrix of NaN may be refused
            continue
        what = f"a sequence that begins in a state of {poison}, and episodes that begin within it"
        got, expected = (one.masked_fill(~begun.unsqueeze(-1), 0) for one in (features, clean))
        found = worse(found, prefixed(what, apart(FEATURES, got, expected, expected, replace(case, is_first=first))))
        for name, leaf in named_leaves(dirty).items():
            one = named_leaves(after)[name]
            found = worse(found, prefixed(what, apart(name, leaf, one, one, case)))
    return found


def _filled(leaf: Tensor, value: float) -> Tensor:
    return torch.full_like(leaf, value) if is_number(leaf) else leaf


def _reset_rows(controller: Controller, past: State, rows: int, what: str) -> Finding:
    """Hold ``reset_mask`` to the initial state in the rows that begin, and to the given one in the others."""
    found = Finding(0.0, 0.0)
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
    return difference_of(one, other).double().nan_to_num(nan=float("inf"), posinf=float("inf")).max()


@torch.no_grad()
def the_state_is_bounded(controller: Controller, case: Case) -> Finding:
    """The state has as many numbers, of the same kinds, after many steps and episodes as at the beginning."""
    rows, state = case.x.shape[1], case.state
    held, said = (
        sum(leaf.numel() for leaf in named_leaves(controller.init_state(1)).values()),
        controller.state_floats(),
    )
    if held != said:
        where = f"state_floats() says {said}, and the state of one episode holds {held} numbers; leave it to Controller"
        return Finding(float(abs(held - said)), 0.0, where)
    size = sum(leaf.numel() for leaf in named_leaves(controller.init_state(rows)).values())
    no = torch.zeros_like(case.is_first)
    for call in range(10):
        _, state = controller.forward_sequence(case.x, state, no if call < 5 else case.is_first)
        _, state = controller.forward_step(case.x[0], state)
        for name, leaf in named_leaves(state).items():
            given = named_leaves(case.state).get(name)
            if given is not None and leaf.dtype != given.dtype:
                kinds = [str(one.dtype).removeprefix("torch.") for one in (given, leaf)]
                where = f"{name} is {kinds[0]} at first and {kinds[1]} after some steps and resets"
                return Finding(float("inf"), 0.0, where)
            if given is None or leaf.shape != given.shape:
                grown = sum(leaf.numel() for leaf in named_leaves(state).values()) - size
                steps = (call + 1) * (case.steps + 1)
                return Finding(
                    float(abs(grown)) or 1.0, 0.0, f"{name} is of shape {list(leaf.shape)} after {steps} steps"
                )
    return Finding(0.0, 0.0)


@torch.no_grad()
def whole_numbers_do_not_overflow(controller: Controller, case: Case) -> Finding:
    """No whole number of the state goes from the largest of its kind to the least, as a count in 8 bits does."""
    state = controller.init_state(case.x.shape[1])
    counts = {name: torch.iinfo(leaf.dtype) for name, leaf in named_leaves(state).items() if leaf.dtype in SMALL}
    for step in range(300 if counts else 0):
        before = named_leaves(state)
        _, state = controller.forward_step(case.x[step % case.steps], state)
        for name, kind in counts.items():
            if ((before[name] == kind.max) & (named_leaves(state)[name] == kind.min)).any():
                where = f"{name} goes from {kind.max} to {kind.min} at step {step} of an episode; count in torch.int64"
                return Finding(float(kind.max - kind.min), 0.0, where)
    return Finding(0.0, 0.0)


@torch.no_grad()
def arguments_are_unchanged(controller: Controller, case: Case) -> Finding:
    """No method writes into the input, the resets or the state that it is given, nor into what ``init_state`` returned.

    This is tried without autograd, as a run acts; with it PyTorch refuses most of what is written in place.
    """
    rows, found = case.x.shape[1], Finding(0.0, 0.0)
    # The smallest first, because the first that writes is named.
    methods: dict[str, Callable[[Tensor, State, Tensor], Any]] = {
        "reset_mask": lambda x, state, first: controller.reset_mask(state, first[0]),
        "forward_step": lambda x, state, first: controller.forward_step(x[0], state),
        "forward_sequence": controller.forward_sequence,
    }
    first = (torch.arange(rows) % 2 == 0).expand_as(case.is_first)
    for name, method in methods.items():
        for kind, state in (("state", case.state), ("state of init_state", controller.init_state(rows))):
            x, is_first = case.x.clone(), first.clone()
            given = {"the input": x, "is_first": is_first, **_named(kind, state)}
            before = {what: leaf.clone() for what, leaf in given.items()}
            method(x, state, is_first)
            for what, leaf in given.items():
                where = f"{name} writes into {what}, which it is given; return new tensors"
                found = worse(found, _unequal(where, leaf, before[what]))
    return found


def _named(kind: str, state: State) -> dict[str, Tensor]:
    return {f"the {kind}{name.removeprefix('state')}": leaf for name, leaf in named_leaves(state).items()}


def ignores_device(controller: Controller) -> bool:
    """Tell whether ``init_state`` of a controller on another device makes a part of the state on the CPU all the same.

    PyTorch's device ``meta``, which holds no numbers, stands for an accelerator.
    """
    try:
        leaves = named_leaves(copied(controller).to("meta").init_state(2, torch.device("meta"))).values()
    except Exception:  # some modules do not move there
        return False
    return any(leaf.device.type != "meta" for leaf in leaves)
