"""The defaults of a user's own classes when a run was made: they tell that a class has changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memsuite.controllers import controller_class
from memsuite.errors import UsageError
from memsuite.imports import parameters_of
from memsuite.runs.hints import PLAIN
from memsuite.runs.recipes import GYM
from memsuite.runs.trust import module_in
from memsuite.tasks.registry import task_class


def own_defaults(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the defaults of the user's own classes that a run names, by ``task`` and ``controller``.

    Args:
        config: the settings of a run.

    Returns:
        For each such class the arguments whose defaults are plain values, with these defaults; nothing for what
        memsuite and Gymnasium ship.
    """
    return {kind: _defaults(cls) for kind, cls in _own_classes(config)}


def check_defaults(path: Path, saved: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a class whose defaults are others now than when the run was made.

    The run's own arguments are in the checkpoint, so the class would be built as large as it was. But what a default
    stood for, the code beside it, has probably changed as well, and nothing else would tell.

    Args:
        path: the file, for the message.
        saved: what memsuite has added to the checkpoint; checkpoints of before 0.2.0 hold no defaults.

    Raises:
        UsageError: one line that names the class, the argument and both defaults.
    """
    before = saved.get("defaults") or {}
    for kind, cls in _own_classes(saved["config"]) if before else ():
        then, now = before.get(kind) or {}, _defaults(cls)
        for name in then:
            if name in now and then[name] != now[name]:
                raise UsageError(
                    f"{path}: the {kind} {cls.__module__}.{cls.__name__} has changed since: {name} was {then[name]!r} "
                    f"by default and is {now[name]!r} now; bring its code of then back, or go on with that of now by "
                    "--trust (in Python: trust=True)"
                )


def _own_classes(config: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    for kind, find in (("task", task_class), ("controller", controller_class)):
        name = str(config[kind])
        if module_in(name) and not name.startswith(GYM):
            yield kind, find(name)


def _defaults(cls: type) -> dict[str, Any]:
    return {name: one.default for name, one in parameters_of(cls).items() if type(one.default) in PLAIN}
