"""Controllers with arguments of their own in a list of names: ``gru,s5:mlp_ratio=0``."""

from __future__ import annotations

from typing import Any

from memsuite.controllers import CONTROLLERS, make_controller
from memsuite.errors import UsageError
from memsuite.launch.plain import names_among
from memsuite.reading import read_value


def variants(text: str) -> list[str]:
    """Read comma-separated controllers, each with as many ``:ARGUMENT=VALUE`` as are asked for."""
    names = text.split(",")
    for name in names:
        names_among("controller", name.partition(":")[0], CONTROLLERS)
        asked = arguments_of(name)
        if asked["controller_args"]:  # a mistake is said before anything is measured
            make_controller(asked["controller"], input_dim=1, **asked["controller_args"])
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
        if not (key and sign and value) or key in arguments:
            wrong = "is there twice" if key in arguments else "is not ARGUMENT=VALUE, as in s5:mlp_ratio=0"
            raise UsageError(f"--controllers {variant!r}: {setting!r} {wrong}")
        arguments[key] = read_value(f"--controllers {variant!r}", value)
    return {"controller": name, "controller_args": arguments}
