"""How a user's YAML is read: a mapping with keys that differ, or one line that names the file and what is wrong."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from memsuite.errors import UsageError


class positive(int):
    """A whole number above 0, also where it is written 1e6: steps are counted in millions."""

    def __new__(cls, value: Any) -> positive:
        """Read a number or its text; raise ValueError for any other."""
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal(0)
        if not (number.is_finite() and 0 < number < 2**63 and number == int(number)):
            raise ValueError(f"{value!r} is not a whole number above 0")
        return super().__new__(cls, number)


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which the first would be dropped unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping of keys that differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise yaml.YAMLError(f"line {key.start_mark.line + 1} gives {name!r} a second time")
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_mapping(path: str | Path, kind: str, example: str) -> dict[Any, Any]:
    """Read a YAML file that must hold a mapping.

    Args:
        path: the file.
        kind: what it is, for the message.
        example: a key it could hold, for the message.

    Raises:
        UsageError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        content = yaml.load(Path(path).read_text(), UniqueKeys)
    except OSError as error:
        raise UsageError(f"cannot read the {kind} {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings; write keys such as '{example}'")
    return content
