"""The kinds of values that settings in a checkpoint have, and the error that names what is of another kind."""

from __future__ import annotations

from typing import Any

from memsuite.runs.config import RunConfig
from memsuite.runs.hints import fits, hints, shown, wanted
from memsuite.runs.ppo import PPOConfig


class Wrong(ValueError):
    """What is wrong in a checkpoint: the name of the entry, what it is, and what it must be."""

    def __init__(self, where: str, value: Any, wanted: str) -> None:
        super().__init__(f"{where} is {shown(value)}; it must be {wanted}")


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
        for name, hint in hints(cls).items():
            if name in values and not fits(values[name], hint):
                raise Wrong(f"config.{above}{name}", values[name], wanted(hint))
