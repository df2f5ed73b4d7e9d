"""Controllers with arguments of their own in a list of names: ``gru,s5:mlp_ratio=0``."""

from __future__ import annotations

from typing import Any

import yaml

from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.launch.plain import names_among


def variants(text: str) -> list[str]:
    """Read comma-separated controllers, each with as many ``:ARGUMENT=VALUE`` as are asked for."""
    names = text.split(",")
    for name in names:
        names_among("controller", name.partition(":")[0], CONTROLLERS)
        arguments_of(name)
    return names


def arguments_of(variant: str) -> dict[str, Any]:
    """Return the controller's name and its arguments, as :class:`~memsuite.module.MemoryPPO` takes them.

    Raises:
        UsageError: what follows the name is not ``:ARGUMENT=VALUE``.
    """
    name, *settings = variant.split(":")
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not (key and sign and value):
            raise UsageError(f"--controllers {variant}: {setting!r} is not ARGUMENT=VALUE, as in s5:mlp_ratio=0")
        arguments[key] = yaml.safe_load(value)
    return {"controller": name, "controller_args": arguments}
