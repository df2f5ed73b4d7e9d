"""Laws of what lies outside of a controller's state: generators, settings of the process, and what a module gathers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from memsuite.controllers.base import Controller
from memsuite.controllers.copies import copied
from memsuite.laws.cases import Case, both_ways, forward, whole
from memsuite.laws.compare import Finding, worse
from memsuite.laws.slopes import cuts_gradient
from memsuite.rl.randomness import own_randomness

# Generators that a controller could seed, and a number that each draws.
GENERATORS: dict[str, Callable[[], float]] = {
    "PyTorch's": lambda: float(torch.randint(2**31, ())),
    "NumPy's": lambda: float(np.random.random_sample()),  # noqa: NPY002
    "Python's": random.random,
}
REGISTERED = ("_parameters", "_modules", "_buffers")


@contextmanager
def own_process(seed: int) -> Iterator[None]:
    """Seed the generators for the block; restore these and PyTorch's settings, whatever a controller does to them."""
    kind, recorded = _settings().values()
    with own_randomness(seed):
        try:
            yield
        finally:
            torch.set_default_dtype(kind)
            torch.set_grad_enabled(recorded)


def _settings() -> dict[str, Any]:
    return {"default kind of number": torch.get_default_dtype(), "recording of gradients": torch.is_grad_enabled()}


def the_process_is_left_alone(controller: Controller, case: Case) -> Finding:
    """No method seeds a generator, from which actions and episodes are drawn, or changes a setting of PyTorch."""
    found = Finding(0.0, 0.0)
    for name, run in both_ways(case).items():
        drawn: list[list[float]] = []
        wrongs: list[str] = []
        # In two settings, because the controller may have changed them long ago.
        for seed, kind in ((1, torch.float32), (2, torch.float64)):
            with own_process(seed):
                torch.set_default_dtype(kind)
                torch.set_grad_enabled(True)
                before = _settings()
                controller.init_state(case.x.shape[1])
                run(controller, case.x, case.state)
                changed = [what for what, value in _settings().items() if value != before[what]]
                wrongs += [f"changes PyTorch's {what} for the whole process" for what in changed]
                drawn.append([draw() for draw in GENERATORS.values()])
        alike = [which for which, one, two in zip(GENERATORS, *drawn, strict=True) if one == two]
        wrongs += [f"seeds {which} generator, so that others draw the same numbers again" for which in alike]
        for wrong in wrongs:
            found = worse(found, Finding(float("inf"), 0.0, f"{name} {wrong}"))
    return found


@torch.no_grad()
def nothing_piles_up(controller: Controller, case: Case) -> Finding:
    """A module holds no more after many calls than after a few of the same shapes."""
    model, held = copied(controller), []
    for _ in range(3):
        for run in both_ways(case).values():
            forward(model, run, case)
        held.append(_held(model))
    for name, (one, two, three) in {name: [count.get(name, 0) for count in held] for name in held[-1]}.items():
        if one < two < three:
            where = f"the module keeps more in {name} after every call, {one}, {two} and {three} values"
            return Finding(float(three - two), 0.0, where)
    return Finding(0.0, 0.0)


def _held(model: nn.Module) -> dict[str, int]:
    """Count the values in every attribute of a module and its parts."""
    found = {}
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            leaves = pytree.tree_leaves(value)
            found[f"{name}.{key}".lstrip(".")] = sum(one.numel() if isinstance(one, Tensor) else 1 for one in leaves)
    return found


def notes_on_weights(controller: Controller, case: Case) -> Iterator[str]:
    """Say which weights no optimiser sees, and which learn but change nothing.

    Args:
        controller: its parameters are perturbed, so that a branch that begins at zero counts.
        case: is read, from the initial state on.
    """
    seen = {id(one) for one in controller.parameters()}
    for name, part in controller.named_modules():
        for key, value in vars(part).items():
            if key not in REGISTERED and any(id(one) not in seen for one in _weights(value)):
                where = f"{name}.{key}".lstrip(".")
                yield f"{where} holds weights that are no parameters, and are not learnt; use nn.ModuleList or the like"
    features, other = (
        whole(case)(controller, x, controller.init_state(case.x.shape[1]))[0] for x in (case.x, case.x.flip(0))
    )
    if torch.equal(features, other):
        yield "the features are the same whatever the input is"
    learnt = {name: one for name, one in controller.named_parameters() if one.requires_grad and one.numel()}
    if learnt and features.requires_grad and not cuts_gradient(controller):
        grads = torch.autograd.grad((features * other.detach().cos()).sum(), list(learnt.values()), allow_unused=True)
        idle = [name for name, grad in zip(learnt, grads, strict=True) if grad is None or not grad.any()]
        if idle:
            yield f"no feature has a gradient in {', '.join(idle)}; is that meant?"


def _weights(value: Any) -> Iterator[nn.Parameter]:
    for one in pytree.tree_leaves(value):
        if isinstance(one, nn.Module):
            yield from one.parameters()
        elif isinstance(one, nn.Parameter):
            yield one
