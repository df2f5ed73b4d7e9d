"""The kinds of values that settings have, and the words that say what a value is and what it must be."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from memsuite.reading import positive
from memsuite.runs.config import RunConfig
from memsuite.runs.ppo import PPOConfig

PLAIN = (NoneType, bool, int, float, str)
LARGEST = 2**63
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "nothing"}


class Said(str):
    """Words that say what a value is."""


class Wrong(ValueError):
    """What is wrong in a checkpoint: the name of the entry, what it is, and what it must be."""

    def __init__(self, where: str, value: Any, wanted: str) -> None:
        super().__init__(f"{where} is {shown(value)}; it must be {wanted}")


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


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a mapping; refuse anything else, and keys that are no text."""
    if not isinstance(value, dict):
        raise Wrong(where, value, "a mapping")
    if others := [key for key in value if not isinstance(key, str)]:
        raise Wrong(f"a name in {where}", others[0], "text")
    return value


def check_settings(config: dict[str, Any]) -> None:
    """Refuse a setting of a kind that no run can have; those of another version are not looked at here."""
    for cls, values, above in (
        (RunConfig, {name: value for name, value in config.items() if name != "ppo"}, ""),
        (PPOConfig, mapping(config.get("ppo"), "config.ppo"), "ppo."),
    ):
        for name, hint in _hints(cls).items():
            if name in values and not _fits(values[name], hint):
                raise Wrong(f"config.{above}{name}", values[name], _wanted(hint))


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {one.name: hints[one.name] for one in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if hint is positive:
        return type(value) is int and value > 0
    return type(value) in ((int, float) if hint is float else (hint,))


def _wanted(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_wanted(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return KINDS.get(hint, "a whole number above 0" if hint is positive else "a mapping")
