"""The width at which a model has a given number of parameters, or of numbers in its state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from memsuite.controllers import controller_class, make_controller
from memsuite.controllers.base import Controller, accepted_arguments
from memsuite.errors import UsageError

STEP = 4  # widths are multiples of it, which heads and vectors divide
COARSE = 16
WIDEST = 8192
TOLERANCE = 0.1  # how far from the number asked for the nearest width may be
KINDS: dict[str, Callable[[Controller], int]] = {
    "parameters": lambda controller: sum(parameter.numel() for parameter in controller.parameters()),
    "state": Controller.state_floats,
}


def read_match(given: Any) -> tuple[str, int]:
    """Read ``parameters:60000`` or ``{"state": 4096}``; return what is to be matched, and the number.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(given, str):
        kind, _, number = given.partition(":")
        given = {kind: int(number) if number.isdecimal() else number}
    if isinstance(given, Mapping) and len(given) == 1:
        ((kind, size),) = given.items()
        if kind in KINDS and type(size) is int and size > 0:
            return kind, size
    raise UsageError(f"match is {given!r}; name one of {', '.join(KINDS)} and a whole number: parameters:60000")


def matched_width(name: str, input_dim: int, match: tuple[str, int], arguments: Mapping[str, Any]) -> int:
    """Return the ``hidden_dim`` at which a controller comes within a tenth of a size.

    Args:
        name: of the controller.
        input_dim: width of its input.
        match: ``parameters`` (the controller's alone) or ``state`` (the numbers in it), and the number asked for.
        arguments: its other arguments.

    Raises:
        UsageError: the controller takes no ``hidden_dim``, or no width comes within a tenth of the number.
    """
    (kind, size), (width, found) = match, nearest_of(name, input_dim, match, arguments)
    if not near(found, size):
        what = "parameters" if kind == "parameters" else "numbers in its state"
        raise UsageError(f"no width of {name} has about {size:,} {what}; hidden_dim {width} has {found:,}")
    return width


def near(found: int, size: int) -> bool:
    """Tell whether a size is within a tenth of the one asked for."""
    return abs(found - size) <= TOLERANCE * size


def nearest_of(name: str, input_dim: int, match: tuple[str, int], arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Return the ``hidden_dim`` at which a controller comes nearest to a size, and the size that it then has.

    Arguments and errors are those of :func:`matched_width`, whose tolerance does not hold here.
    """
    if "hidden_dim" not in accepted_arguments(controller_class(name)):
        raise UsageError(f"{name} takes no hidden_dim, so its size cannot be set; leave match out")
    rest = {key: value for key, value in arguments.items() if key not in ("hidden_dim", "memory_horizon")}
    horizon, (kind, size) = arguments.get("memory_horizon"), match

    def count(width: int) -> int:
        given = {"input_dim": input_dim, "memory_horizon": horizon, "hidden_dim": width, **rest}
        try:
            with torch.device("meta"):  # without data, however many parameters a width has
                return KINDS[kind](make_controller(name, **given))
        except UsageError:  # no such width, or a class that looks at numbers as it is built
            with torch.random.fork_rng(devices=[]):
                return KINDS[kind](make_controller(name, **given))

    if count(COARSE) == count(2 * COARSE):
        raise UsageError(f"the {kind} of {name} does not depend on hidden_dim; it is {count(COARSE):,}")
    return nearest_width(count, size)


def nearest_width(count: Callable[[int], int], size: int) -> tuple[int, int]:
    """Return the width whose size is nearest to the one asked for, and that size.

    Args:
        count: the size at a width, which grows with it; a :class:`UsageError` for a width that is not allowed.
        size: the number asked for.
    """
    low, high = 0, COARSE
    while high < WIDEST and count(high) < size:
        low, high = high, high * 2
    while high - low > COARSE:
        middle = (low + high) // 2 // COARSE * COARSE
        low, high = (middle, high) if count(middle) < size else (low, middle)
    found = {high: count(high)}
    for width in range(max(STEP, low), high, STEP):
        with contextlib.suppress(UsageError):  # a width that the heads do not divide
            found[width] = count(width)
    width = min(found, key=lambda one: abs(found[one] - size))
    return width, found[width]
