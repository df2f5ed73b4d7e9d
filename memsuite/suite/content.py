"""What a suite's YAML holds, checked: settings with dots, lists and mappings, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memsuite.errors import UsageError
from memsuite.runs.config import GROUPS, lift_dotted

Settings = dict[str, Any]
ENTRY_KEYS = ("grid", "name")  # the keys of an entry that are not settings


def flatten(settings: Settings) -> Settings:
    """Flatten nested settings to dotted keys, as on the command line; ``model.task`` and the like become ``task``."""
    return lift_dotted(_dotted(settings, ""))


def _dotted(settings: Settings, above: str) -> Settings:
    flat: Settings = {}
    for key, value in settings.items():
        name = f"{above}{key}"
        if name.removeprefix("model.") in (*GROUPS, "ppo") and isinstance(value, dict):
            flat |= _dotted(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def mapping(content: Settings, key: str) -> Settings:
    """Return the mapping under a key, empty where there is none."""
    return is_mapping({} if content.get(key) is None else content[key], key)


def is_mapping(value: Any, key: str) -> Settings:
    """Return a mapping with texts for its names; raise :class:`UsageError` for anything else."""
    if not isinstance(value, dict):
        raise UsageError(f"{key} holds {short(value)}; it must hold settings, such as '{{seed: 1}}'")
    return {str(name): each for name, each in value.items()}


def list_of(content: Settings, key: str) -> Iterable[Any]:
    """Return the list under a key, empty where there is none."""
    value = content.get(key)
    if value is not None and not isinstance(value, list):
        raise UsageError(f"{key} is {short(value)}; it must be a list, with '- ' before each item")
    return value or []


def short(value: Any) -> str:
    """Return the beginning of a value as text in one line, for a message."""
    return " ".join(repr(value).split())[:60]


def axes_of(content: Settings) -> Settings:
    """Return the axes of a grid: under each setting, with dots, the list of its values."""
    axes = flatten(mapping(content, "grid"))
    for key, values in axes.items():
        if not isinstance(values, list):
            raise UsageError(f"grid.{key} is {short(values)}; it must be a list of values, such as '{key}: [...]'")
        if not values:
            raise UsageError(f"the grid is empty: grid.{key} has no values")
    return axes
