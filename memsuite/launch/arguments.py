"""An argument parser that answers a mistake with one line: what is wrong, and the nearest valid names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from jsonargparse.typing import register_type

from memsuite.errors import UsageError, nearest
from memsuite.launch.plain import flat
from memsuite.reading import count_in_tens, positive, read_mapping, read_value, refuse_bombs
from memsuite.runs.config import NAMES, agree, lift, placed
from memsuite.shipped import find

GROUPS = ("model", "model.ppo", "trainer")  # keys that only hold others
FILES = ("--config", "-c")  # the options that name a configuration file
HOLDING = ("task_args", "controller_args")  # settings that are mappings
WITHIN = re.compile(rf"--(?:{'|'.join(HOLDING)})\.\w+\.\w")
# What is wrong with a class that a setting names, among all that the parser says of the types it has tried.
OF_A_CLASS = re.compile(r"- (?:Problem with given )?((?:class_path|no \w+) '.*?)(?= - Expected| - Not a| Given value)")
WORDS = {
    "positive": "a whole number above 0",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "NoneType": "null",
    "dict": "a mapping",
}
register_type(positive, serializer=int)
count_in_tens(get_yaml_default_loader())  # type: ignore[no-untyped-call]
refuse_bombs(get_yaml_default_loader())  # type: ignore[no-untyped-call]


class Arguments(ArgumentParser):
    """A parser that raises :class:`~memsuite.errors.UsageError` in place of printing a page of usage.

    It does not need Lightning: ``memsuite suite`` reads the settings of a thousand runs by it.
    """

    below: frozenset[str] = frozenset()  # settings that the user wrote under ``model``

    def dump(self, cfg: Any, **how: Any) -> str:
        """Return a configuration as text; where it is printed, settings written under ``model`` are there, too."""
        text: str = super().dump(cfg, **how)
        if not hasattr(self, "print_config"):
            return text
        written = "".join(f"  {name}: {json.dumps(cfg.as_dict()[name])}\n" for name in sorted(self.below))
        return text.replace("\nmodel:\n", f"\nmodel:\n{written}")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake in one line."""
        raise UsageError(self._in_one_line(message)) from ex

    def known_keys(self) -> list[str]:
        """List every key that can be set, with dots."""
        return sorted({action.dest for action in self._actions if action.dest not in ("help", "print_config")})

    def lifted(self, arguments: list[str]) -> list[str]:
        """Return the arguments with every setting under ``model`` moved to where it belongs, the top.

        A configuration file is replaced by its content, so that it is read in one way, whatever the locale.
        """
        for name in NAMES:
            top, below = options(arguments, f"--{name}"), options(arguments, f"--model.{name}")
            if top and below:
                agree(name, top[-1], below[-1])
        lifted: list[str] = []
        before = ""
        for word in arguments:
            name, equals, value = word.partition("=")
            if before in FILES or (name in FILES and equals):
                path = value if equals else word
                content = self._content_of(path)
                word = f"{name}={content}" if equals else content
            elif (found := re.fullmatch(r"--model\.(\w+)((?:\.\w+)*)", name)) and found[1] in NAMES:
                self.below |= {found[1]}
                word = f"--{found[1]}{found[2]}{equals}{value}"
            lifted.append(word)
            before = word
        return gathered(lifted)

    def _content_of(self, path: str) -> str:
        """Return the content of a configuration file, as it was read, with no setting under ``model``."""
        content = self.check_config_file(str(find("configuration", path)))
        self.below |= {name for name in content.get("model", ()) if name in NAMES}
        try:
            top = lift(content)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        return yaml.safe_dump(top, width=math.inf) if top else path

    def check_config_file(self, path: str) -> dict[Any, Any]:
        """Return the content of a configuration file.

        Raises:
            UsageError: it is not a mapping of known top-level keys; an empty unknown one would pass unseen.
        """
        content = read_mapping(path, "configuration", "task: delayed_cue")
        self._check_groups(content, path)
        valid = {key.split(".")[0] for key in self.known_keys()}
        for key in content:
            if key not in valid:
                raise UsageError(
                    f"{path}: no key {str(key)!r}; did you mean: {', '.join(nearest(str(key), sorted(valid)))}"
                )
        return content

    @classmethod
    def _check_groups(cls, content: dict[Any, Any], path: str, above: str = "") -> None:
        """Refuse a plain value where there are keys below; null would be taken for no settings, unseen."""
        for key, value in content.items():
            name = f"{above}{key}"
            below = name in GROUPS
            if below and not isinstance(value, dict):
                raise UsageError(f"{path}: {name} is {flat(repr(value))}; it must hold settings, as '{name}: {{...}}'")
            if below:
                cls._check_groups(value, path, f"{name}.")

    def _in_one_line(self, message: str) -> str:
        text = flat(message)
        if found := re.search(r"unrecognized arguments: (\S+)", text):
            if not found[1].startswith("-"):
                return f"no option stands before {found[1]!r}; name it, as in --task delayed_cue --controller gru"
            return self._no_key(found[1].partition("=")[0])
        if found := re.search(
            r"(?:Parser key \"([^\"]*)\".*?)?(?:Option|Key) '([^']*)' is not (?:accepted|expected)", text
        ):
            return self._no_key(f"{found[1]}.{found[2]}" if found[1] else found[2])
        if found := re.search(r"Group '([^']*)' does not accept (?:option|nested key) '([^']*)'", text):
            return self._no_key(f"{found[1]}.{found[2]}")
        if found := re.match(r"(?:Parser key|Key) \"([^\"]*)\": (.*)", text):
            return f"{found[1]}: {self._expectation(found[2])}"
        return text

    def _no_key(self, key: str) -> str:
        dashes = "--" if key.startswith("--") else ""
        close = nearest(key.removeprefix("--"), self.known_keys())
        hint = f"did you mean: {', '.join(dashes + name for name in close)}" if len(close) <= 3 else "see --help"
        kind = "key" if not key.startswith("-") and "." in key else "option" if key.startswith("-") else "argument"
        return f"no {kind} {key!r}; {hint}"

    @staticmethod
    def _expectation(text: str) -> str:
        # Literals are listed as the other types are: 64, 32, 16 for Literal['64', '32', '16'].
        plain = re.sub(r"(?<=[\[ ])'([^']*)'(?=[,\]])", r"\1", text)
        text = re.sub(r"typing\.Literal\[([^\]]*)\]", r"<class '\1'>", plain)
        text = re.sub(r"dict\[[^\]]*\]", "<class 'dict'>", text)
        value = re.search(r".*(?:Given value|Got value): (.*)$", text)
        types = re.search(r"Subtypes: \[(.*?)\] Errors", text) or re.search(r"Expected a (<class '[^']*'>)", text)
        if value and types:
            if found := OF_A_CLASS.search(text):
                return found[1]
            names = [name.rsplit(".", 1)[-1] for name in re.findall(r"<class '([^']*)'", types[1])]
            if names[0] == "positive" and value[1].isdigit() and int(value[1]):
                return f"{value[1]} is above {2**63 - 1}, the largest that is allowed"
            return f"{value[1]!r} is not {' or '.join(WORDS.get(name, name) for name in names)}"
        if found := re.match(r"Not of type positive: (.*)", text):
            return found[1]
        return text


def gathered(arguments: list[str]) -> list[str]:
    """Return arguments in which what lies within a setting's mapping is given as the whole mapping.

    ``--task_args.env_args.n 6`` becomes ``--task_args.env_args={"n": 6}``, with what files and arguments before it have
    there. The parser itself would take the 6 for a text and drop the rest of the mapping, unless it comes first.

    Raises:
        UsageError: the setting has a value that is no mapping.
    """
    if not any(WITHIN.match(word) for word in arguments):
        return arguments
    held: dict[str, dict[str, Any]] = {group: {} for group in HOLDING}
    found, words = [], iter(arguments)
    for word in words:
        name, equals, text = word.partition("=")
        group, _, rest = name[2:].partition(".")
        if name not in FILES and group not in HOLDING:
            found.append(word)
            continue
        text = text if equals else next(words, "")
        above, _, below = rest.partition(".")
        if name in FILES:
            content = yaml.safe_load(text)
            for one in HOLDING if isinstance(content, dict) else ():
                held[one] |= own if isinstance(own := content.get(one), dict) else {}
        elif below:
            held[group][above] = placed(held[group].get(above), above, below.split("."), read_value(name, text))
            name, text = f"--{group}.{above}", json.dumps(held[group][above])
        else:
            value = read_value(name, text)
            held[group] |= {above: value} if above else value if isinstance(value, dict) else {}
        found.append(f"{name}={text}")
    return found


@contextmanager
def told_of_classes() -> Iterator[None]:
    """Say in one line why a class that a setting names, such as a logger, cannot be made.

    Raises:
        UsageError: with what the class itself says, among all that the parser tells of the types it has tried.
    """
    try:
        yield
    except ValueError as error:
        if isinstance(error, UsageError) or "Union subtypes" not in str(error):
            raise
        tried = re.findall(r"^  - (.*)$", str(error), re.MULTILINE)
        own = [line for line in tried if not line.startswith(("Not a valid subclass", "Expected a"))]
        raise UsageError(f"a class in the settings cannot be made: {flat(own[0] if own else str(error))}") from error


def options(arguments: list[str], name: str) -> list[str]:
    """Return the values of a command-line option, spelt ``--name value`` or ``--name=value``."""
    apart = [(i, value) for i, (this, value) in enumerate(pairwise(arguments)) if this == name]
    joined = [(i, this.partition("=")[2]) for i, this in enumerate(arguments) if this.startswith(f"{name}=")]
    return [value for _, value in sorted(apart + joined)]
