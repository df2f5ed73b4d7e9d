"""What a file of somebody else's may name without being trusted: what memsuite and Gymnasium ship, and no other code.

A configuration is code: a class path in it is imported and called. The settings in a checkpoint are read as a
configuration is. docs/safety.md tells what is trusted, and when.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from memsuite.errors import UsageError
from memsuite.runs.recipes import GYM
from memsuite.runs.seal import SEALED, seal

PACKAGE = Path(__file__).parents[1]
PLAIN = re.compile(r"[\w .,/+@#%=~-]*")  # a text that no reader of YAML takes for anything else
SETTING = re.compile(r"[\w:,-]*")  # a text for the Trainer that is no path of a class
WRAPPERS = ("GymV21Environment", "GymV26Environment")  # Gymnasium's ids that make the environment another id names
OURS = ("memsuite.callbacks.Curriculum", "memsuite.callbacks.StopAtTarget")
ONE_START = ("out", "overwrite", "ckpt_path", "trust", "modules", "config")  # what belongs to one start of a run


def check_names(path: Path, settings: Mapping[str, Any], typed: Collection[str] = ()) -> None:
    """Refuse settings of a file that would import what memsuite and Gymnasium do not ship.

    Args:
        path: the file, for the message.
        settings: what it holds, by the names of :class:`~memsuite.runs.config.RunConfig`; some may be missing.
        typed: the settings that the user has given himself, which are his to trust.

    Raises:
        UsageError: one line that names the module, the file, and how to trust it.
    """
    for name in ("task", "controller"):
        module = module_in(str(settings.get(name) or ""))
        if module and name not in typed:
            raise untrusted(path, f"the {name} {str(settings[name])!r}, for which {module!r} would be imported")
    for name in ("task_args", "controller_args"):
        if name not in typed and (found := next(_not_plain(settings.get(name), PLAIN), None)):
            raise untrusted(path, f"{found} in {name}, which may stand for code")


def sealed(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint holds of its settings: with the user's seal where they name modules of somebody's."""
    named = any(module_in(config[name]) for name in ("task", "controller"))
    own = seal(config) if named or any(next(_not_plain(config[name], PLAIN), "") for name in SEALED[2:]) else None
    return {"config": config, **({"seal": own} if own else {})}


def check_configuration(path: Path, content: Mapping[str, Any], typed: Collection[str] = ()) -> None:
    """Refuse a configuration that lies beside a checkpoint where it would import or call what it names.

    Args:
        path: the configuration, for the message.
        content: what it holds.
        typed: the settings that the user has given himself.

    Raises:
        UsageError: one line that says what it names, and how to trust it.
    """
    check_names(path, content, typed)
    if other := next((name for name in ONE_START if content.get(name)), None):
        raise untrusted(path, f"{other}, which belongs to one start of a run")
    if found := next(_not_plain(content.get("trainer"), SETTING), None):
        raise untrusted(path, f"{found} under trainer, which would be imported or called")


def untrusted(path: Path, what: str) -> UsageError:
    """Build the error for a file that names code."""
    return UsageError(f"{path} names {what}; if you trust whoever made the file, add --trust (in Python: trust=True)")


def module_in(name: str) -> str:
    """Return the module that a task's or a controller's name would import; nothing for what memsuite ships.

    Args:
        name: a built-in name, the path of a class, or ``gym:`` with an id of Gymnasium's.
    """
    if name.startswith(GYM):
        module, _, env_id = name[len(GYM) :].rpartition(":")
        return module or (env_id if env_id.startswith(WRAPPERS) else "")
    module = name.rpartition(".")[0]
    return "" if _is_ours(module) else module


def _is_ours(module: str) -> bool:
    """Tell whether a module is one of memsuite's, and no file of the current folder would be taken for it."""
    first, *parts = module.split(".")
    if first != "memsuite" or not all(part.isidentifier() for part in parts):
        return False
    inside, here = PACKAGE.joinpath(*parts), Path.cwd().joinpath(*module.split("."))
    there = inside.with_suffix(".py").is_file() if parts else True
    beside = [file for file in (here.with_suffix(".py"), here / "__init__.py") if file.is_file()]
    return (there or (inside / "__init__.py").is_file()) and all(PACKAGE in file.resolve().parents for file in beside)


def _not_plain(value: Any, plain: re.Pattern[str]) -> Iterator[str]:
    """Find what in nested settings may stand for code: paths of classes, and texts that are more than words."""
    if isinstance(value, Mapping):
        if "class_path" in value and value["class_path"] not in OURS:
            yield repr(str(value["class_path"]))[:100]
        for key, each in value.items():
            if key == "class_path":
                continue
            if not plain.fullmatch(str(key)):
                yield repr(key)[:100]
            yield from _not_plain(each, plain)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _not_plain(each, plain)
    elif isinstance(value, str) and not plain.fullmatch(value):
        yield repr(value)[:100]
