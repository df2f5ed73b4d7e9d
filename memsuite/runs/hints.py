"""The kinds of values that the fields of a dataclass declare: what fits them, and how they are called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from memsuite.errors import UsageError
from memsuite.reading import plain_number, positive

PLAIN = (NoneType, bool, int, float, str)
LARGEST = 2**63
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "nothing"}


class Said(str):
    """Words that say what a value is."""


def shown(value: Any) -> str:
    """Say briefly what a value is."""
    if type(value).__module__.startswith("torch") and hasattr(value, "layout"):  # torch itself is not needed to tell
        kind = f"{value.dtype}".removeprefix("torch.")
        place = "" if str(value.layout) == "torch.strided" else f" of the layout {value.layout}"
        return f"a tensor {list(value.shape)} of {kind}{place}{' without numbers' if value.is_meta else ''}"
    if isinstance(value, Said):
        return value
    if isinstance(value, str):
        return f"the text {value[:40]!r}{'...' if len(value) > 40 else ''}"
    if type(value) in PLAIN:
        text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a whole number of many digits"
        return text if value is not None else "missing"
    return f"a {type(value).__name__}"


@cache
def hints(cls: type) -> dict[str, Any]:
    """Return what kind of value each field of a dataclass declares, by name."""
    found = get_type_hints(cls)
    return {one.name: found[one.name] for one in fields(cls)}


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a declared kind."""
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if hint is positive:
        return type(value) is int and value > 0
    return type(value) in ((int, float) if hint is float else (hint,))


def wanted(hint: Any) -> str:
    """Say of which kind a value must be."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(wanted(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return KINDS.get(hint, "a whole number above 0" if hint is positive else "a mapping")


def settle(settings: Any, above: str = "", *, but: tuple[str, ...] = ()) -> None:
    """Make the fields of frozen settings plain values of their kinds, which a checkpoint may hold.

    A number of NumPy's becomes Python's own, 1e6 a whole number where one is declared, and a path a text.

    Args:
        settings: an instance of a dataclass; how large its numbers are is not looked at, and neither are names of which
            one is chosen.
        above: what stands before a name in a message.
        but: names of fields that are left alone.

    Raises:
        UsageError: a value of another kind than its field's.
    """
    for name, hint in hints(settings.__class__).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if name in but or any(get_origin(kind) is Literal for kind in kinds):
            continue
        given = getattr(settings, name)
        value = _plain(given, kinds)
        if not any(type(value) is int if kind is positive else fits(value, kind) for kind in kinds):
            what = "null" if given is None else shown(given)
            raise UsageError(f"{above}{name} is {what}; it must be {wanted(hint)}")
        object.__setattr__(settings, name, value)


def _plain(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return a value as Python's own of one of several kinds, if it stands for one; else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a number of an array library
        value = value.item()
    value = plain_number(value)
    if type(value) is float and value.is_integer() and {int, positive} & set(kinds) and float not in kinds:
        return int(value)
    if isinstance(value, os.PathLike) and str in kinds:
        return os.fspath(value)
    is_mapping = isinstance(value, Mapping) and any(get_origin(kind) is dict for kind in kinds)
    return dict(value) if is_mapping else value
