"""Changes to a suite from the command line: ``--set controller=my_module.MyModel`` trains its cells with another model.

A change wins over everything in the file. It takes the place of the values of an axis, or of a setting, wherever the
file gives them; several values make an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from memsuite.errors import UsageError
from memsuite.reading import UniqueKeys, read_value
from memsuite.suite.content import ENTRY_KEYS, Settings, axes_of, flatten, is_mapping, list_of, mapping

Changes = dict[str, list[Any]]
NO_SETTING = ("name", "config", "settings", "grid", "entries", "overrides", "exclude")  # parts of a suite's file


def read_changes(given: Sequence[str]) -> Changes:
    """Read ``KEY=VALUE[,VALUE]``, each value as YAML.

    Raises:
        UsageError: one is of another form, or a key is given twice.
    """
    changes: Changes = {}
    for each in given:
        key, equals, text = each.partition("=")
        if not (key and equals and text.strip()):
            raise UsageError(f"--set {each}: write it as KEY=VALUE or KEY=VALUE,VALUE")
        try:
            values = yaml.load(f"[{text}]", UniqueKeys)
        except yaml.YAMLError:
            raise UsageError(f"--set {each}: {text!r} is not a value in YAML") from None
        if key in NO_SETTING:
            raise UsageError(f"--set {each}: {key} is no setting of a run; change it in the file")
        if twice := [value for at, value in enumerate(values) if value in values[:at]]:
            raise UsageError(f"--set {each}: {twice[0]} is given twice")
        # With one mapping for its value, a key stands for the settings below it, as in the file.
        below = flatten({key: values[0]}) if len(values) == 1 else {next(iter(flatten({key: None}))): None}
        for name, value in below.items():
            if name in changes:
                raise UsageError(f"--set gives {name} a second time; write its values in one: {name}=A,B")
            changes[name] = [value] if len(values) == 1 else values
    return changes


def spelt_out(changes: Changes) -> str:
    """Return the changes as options: ``--set steps=2400``."""
    return " ".join(f"--set {name}={','.join(map(str, values))}" for name, values in changes.items())


def key_values(option: str, given: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE``, the value as YAML."""
    settings = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise UsageError(f"--{option} {each}: write it as KEY=VALUE")
        settings[key] = read_value(f"--{option} {each}", value)
    return settings


def changed(content: Settings, changes: Changes) -> Settings:
    """Return the content of a suite's file with the changes made.

    Args:
        content: what the file holds.
        changes: the new values of settings with dots (:func:`read_changes`).
    """
    settings, grid = _without(flatten(mapping(content, "settings")), changes), axes_of(content)
    top = {name: changes.get(name, values) for name, values in grid.items()}
    for name, values in changes.items():
        if name not in grid and len(values) == 1:
            settings[name] = values[0]
        else:
            top[name] = values
    new = {**content, "settings": settings, "grid": top}
    if "entries" in content:
        new["entries"] = [_entry(is_mapping(each, "entries"), changes) for each in list_of(content, "entries")]
    if "overrides" in content:
        overrides = [is_mapping(each, "overrides") for each in list_of(content, "overrides")]
        new["overrides"] = [
            {**each, "settings": _without(flatten(mapping(each, "settings")), changes)} for each in overrides
        ]
    return new


def _without(settings: Settings, changes: Changes) -> Settings:
    return {name: value for name, value in settings.items() if name not in changes}


def _entry(entry: Settings, changes: Changes) -> Settings:
    """Return an entry without the settings that are changed; an axis of its own keeps its place in the ids."""
    kept = {name: value for name, value in entry.items() if name in ENTRY_KEYS}
    own = flatten({name: value for name, value in entry.items() if name not in ENTRY_KEYS})
    if "grid" in entry:
        kept["grid"] = {name: changes.get(name, values) for name, values in axes_of(entry).items()}
    return _without(own, changes) | kept
