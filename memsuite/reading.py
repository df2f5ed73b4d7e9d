"""Reading a user's YAML: a mapping with unique keys, or one line that names the file and the mistake."""

from __future__ import annotations

import numbers
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from memsuite.errors import UsageError

MOST_ALIASED = 100_000


def plain_number(value: Any) -> Any:
    """Return a number of NumPy's or of another library as Python's own; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``1,760 runs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


class positive(int):
    """A whole number above 0, also in the form 1e6, because steps are counted in millions."""

    def __new__(cls, value: Any) -> positive:
        """Read a number or its text; raise ValueError for anything else."""
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal(0)
        if not (number.is_finite() and 0 < number < 2**63 and number == int(number)):
            raise ValueError(f"{value!r} is not a whole number above 0")
        return super().__new__(cls, number)


def count_in_tens(loader: Any) -> None:
    """Make a YAML loader read ``010`` as ten, unlike YAML 1.1, and ``1:30`` as a text.

    Args:
        loader: the loader's class.
    """
    resolvers = {
        letter: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":int")]
        for letter, pairs in loader.yaml_implicit_resolvers.items()
    }
    loader.yaml_implicit_resolvers = resolvers
    loader.add_implicit_resolver(WHOLE, re.compile(r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
    loader.add_constructor(WHOLE, lambda _, node: int(node.value, 16 if "0x" in node.value else 10))


def refuse_bombs(loader: Any) -> None:
    """Have a YAML loader refuse a few lines whose aliases stand for so many values that no machine can hold them.

    Args:
        loader: the loader's class.
    """
    compose = loader.get_single_node

    def get_single_node(self: Any) -> Any:
        node = compose(self)
        sizes: dict[int, int] = {}
        if node is not None and _expanded(node, sizes) - len(sizes) > MOST_ALIASED:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_ALIASED:,} values")
        return node

    loader.get_single_node = get_single_node


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the values below a node, those behind an alias each time; ``sizes`` remembers each node's number."""
    if id(node) not in sizes:
        sizes[id(node)] = 1  # an alias within what it stands for is its own loader's to refuse
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for each in below for part in (each if isinstance(each, tuple) else (each,))]
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in parts)
    return sizes[id(node)]


class UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice; the standard loader would silently drop the first value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; raise YAMLError for a repeated key."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise yaml.YAMLError(f"line {key.start_mark.line + 1} gives {name!r} a second time")
            seen.add(name)
        return super().construct_mapping(node, deep)


WHOLE = "tag:yaml.org,2002:int"
count_in_tens(UniqueKeys)
refuse_bombs(UniqueKeys)


def read_value(given: str, text: str) -> Any:
    """Read one value of YAML that was typed, ``1e-3`` as a number too.

    Args:
        given: the option, for the message.
        text: the value.
    """
    try:
        value = yaml.load(text, UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"{given}: {text!r} is not a value in YAML") from None
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def read_mapping(path: str | Path, kind: str, example: str) -> dict[Any, Any]:
    """Read a YAML file that must hold a mapping.

    Args:
        path: the file.
        kind: the kind of file, for the message.
        example: a key it could hold, for the message.

    Raises:
        UsageError: the file cannot be read, is not YAML, or does not hold a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8-sig"), UniqueKeys)
    except OSError as error:
        raise UsageError(f"cannot read the {kind} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        text = f"byte {error.start + 1} is {error.object[error.start]:#04x}"
        raise UsageError(f"{path} is not in UTF-8 ({text}); save it in that encoding") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings; write keys such as '{example}'")
    return content
