"""Two runs of a controller compared: how far apart they are, and where they part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memsuite.controllers.base import Controller
from memsuite.controllers.copies import in_precision
from memsuite.laws.cases import FEATURES, Case, Outputs

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


@dataclass(frozen=True)
class Finding:
    """What trying one law has shown.

    Attributes:
        error: the largest difference, relative to the larger of 1 and the size of what differs.
        allowed: how large it may be.
        where: in words, where the largest difference is; empty if nothing differs.
    """

    error: float
    allowed: float
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the law holds; a difference that is not a number breaks it."""
        return self.error <= self.allowed


def worse(one: Finding, other: Finding) -> Finding:
    """Return the finding that breaks its law, or is nearer to that; of two that break it, the place of the first."""
    if one.holds != other.holds:
        return other if one.holds else one
    if not one.holds:
        return one if one.error >= other.error or one.error != one.error else replace(one, error=other.error)
    return one if _share(one) >= _share(other) else other


def prefixed(prefix: str, one: Finding) -> Finding:
    """Return a finding whose place begins with more words, if it has one."""
    return replace(one, where=one.where and f"{prefix}: {one.where}")


def _share(one: Finding) -> float:
    return one.error / max(one.allowed, 1e-300) if one.error == one.error else float("inf")


def compared(
    controller: Controller,
    case: Case,
    one: Callable[[Controller, Case], Outputs],
    other: Callable[[Controller, Case], Outputs],
) -> Finding:
    """Compare two ways to run a controller.

    In single precision some models magnify rounding, in whichever way they are run (a norm over two numbers that are
    nearly 0). What is allowed therefore grows with the error of ``other`` itself against double precision.

    Args:
        controller: is run.
        case: what it reads.
        one: a way to run it, which names its outputs.
        other: another way, with outputs of the same names.
    """
    ones, others = one(controller, case), other(controller, case)
    if ones.keys() != others.keys():
        return Finding(float("inf"), TOLERANCE[case.x.dtype], "the parts of the state are others")
    found = _all_apart(ones, others, others, case)
    if found.holds or case.x.dtype != torch.float32:
        return found  # the truth, which only allows for more, is not needed
    return _all_apart(ones, others, other(in_precision(controller, torch.float64), case.to(torch.float64)), case)


def _all_apart(ones: Outputs, others: Outputs, truths: Outputs, case: Case) -> Finding:
    found = Finding(0.0, TOLERANCE[case.x.dtype])
    for name, got in ones.items():
        found = worse(found, apart(name, got.detach(), others[name].detach(), truths[name].detach(), case))
    return found


def apart(name: str, got: Tensor, expected: Tensor, truth: Tensor, case: Case) -> Finding:
    """Compare two tensors.

    Args:
        name: of what they hold.
        got: the one.
        expected: the other.
        truth: the other in double precision.
        case: what was read.
    """
    allowed = TOLERANCE[case.x.dtype]
    if got.shape != expected.shape:
        return Finding(float("inf"), allowed, f"{name}, of shape {list(got.shape)} and {list(expected.shape)}")
    if not got.numel():
        return Finding(0.0, allowed)
    scale = max(1.0, float(difference_of(truth, torch.zeros_like(truth)).nan_to_num(0, 0, 0).max()))
    difference = difference_of(got, expected) / scale
    allowed += 8 * float(difference_of(expected, truth).max()) / scale
    error = float(difference.max())
    return Finding(error, allowed, place(name, difference, allowed, case) if error > 0 or error != error else "")


def difference_of(one: Tensor, other: Tensor) -> Tensor:
    """Return how far apart the numbers of two tensors are, also truth values; what is equal, as infinity, is not."""
    if not all(part.is_floating_point() or part.is_complex() for part in (one, other)):
        one, other = one.double(), other.double()
    return (one - other).abs().masked_fill(one == other, 0)


def place(name: str, difference: Tensor, allowed: float, case: Case) -> str:
    """Say in words where a difference is: the first step with a large one, its row and its episode, or a name.

    Args:
        name: of what differs.
        difference: of its shape.
        allowed: how large it may be.
        case: what was read.
    """
    if name != FEATURES or difference.dim() != 3:
        return name
    large = ~(difference <= allowed).all(-1)
    if not large.any():
        large = difference.amax(-1) == difference.max()
    step, row = (int(index) for index in large.nonzero()[0])
    return f"{name} at step {step} of row {row}, {episode_of(case.is_first, step, row)}"


def episode_of(is_first: Tensor, step: int, row: int) -> str:
    """Say in words where in which episode of a row a step is; the first that the sequence begins is episode 1."""
    begun = is_first[: step + 1, row].nonzero().flatten().tolist()
    if not begun:
        return f"step {step} of the episode that was carried in"
    return f"step {step - begun[-1]} of episode {len(begun)}"
