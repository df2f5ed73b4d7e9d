"""The standard argument parser for the verbs that need no LightningCLI, with the same one-line answers."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.status import Status

from memsuite.errors import UsageError, unknown
from memsuite.files import write_json
from memsuite.reading import positive

SECONDS_A_LINE = 30.0  # between two lines of a log that say what is being done
PIPED = 500  # columns at most where there is no screen; rich would take 80


class PlainParser(argparse.ArgumentParser):
    """Raises :class:`~memsuite.errors.UsageError` in place of printing usage and leaving."""

    def __init__(self, description: str, **kwargs: Any) -> None:
        text = description.strip()  # of a module, often: what stands behind its name begins with a small letter
        super().__init__(allow_abbrev=False, description=text[:1].upper() + text[1:], **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake in one line."""
        text = re.sub(r"invalid positive value: (.*)", r"\1 is not a whole number above 0", flat(message))
        if found := re.match(r"unrecognized arguments: (\S+)", text):
            options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            raise unknown("option", found[1], options)
        raise UsageError(text)


def whole_numbers(option: str, text: str) -> list[int]:
    """Read the comma-separated whole numbers above 0 of an option."""
    try:
        return [int(positive(number)) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a list of whole numbers such as 50,200; {error}") from error


def apart(arguments: list[str], prefix: str) -> tuple[dict[str, str], list[str]]:
    """Take the options that begin with a prefix, such as ``--task_args.noise 0.1``, out of a command line.

    Returns:
        What is after the prefix, with its value as text; and the other words.

    Raises:
        UsageError: such an option without a name or a value.
    """
    found, rest, words = {}, [], iter(arguments)
    for word in words:
        if not word.startswith(prefix):
            rest.append(word)
            continue
        name, _, value = word[len(prefix) :].partition("=")
        value = value or next(words, "")
        if not name or not value or value.startswith("--"):
            raise UsageError(f"{word} needs a name and a value: {prefix}noise 0.1")
        found[name] = value
    return found, rest


def names_among(kind: str, text: str, valid: Iterable[str]) -> list[str]:
    """Read the comma-separated names of an option, each of which must be valid."""
    names = text.split(",")
    for name in names:
        if name not in valid:
            raise unknown(kind, name, valid)
    return names


def flat(text: Any) -> str:
    """Return a message in one line."""
    return re.sub(r"\s+", " ", str(text)).strip()


class Unbroken:
    """Standard output that a reader such as ``head`` may leave: the work goes on, and one line says that it does.

    Args:
        stream: where to write for as long as somebody reads.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if somebody reads."""
        self._unless_left(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if somebody reads."""
        self._unless_left(self._stream.flush)

    def _unless_left(self, call: Callable[..., Any], *given: str) -> None:
        if self._left:
            return
        try:
            call(*given)
        except BrokenPipeError:
            self._left = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # for what is still in the buffer
            print("memsuite: nobody reads the output any more; the work goes on", file=sys.stderr)


class LoggedConsole(Console):
    """A console whose ``status`` is seen in a file, too, where rich shows none: as a line from time to time.

    A command that is over in :data:`SECONDS_A_LINE` prints no such line.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._told = time.monotonic()

    def print(self, *objects: Any, crop: bool = False, **how: Any) -> None:
        """Print; what is wider than the screen goes on in the next line, where rich would cut it off."""
        super().print(*objects, crop=crop, **how)

    def status(self, status: Any, **settings: Any) -> Status:
        """Return what shows that something is being done, for a ``with`` statement."""
        return super().status(status, **settings) if self.is_terminal else LoggedStatus(status, console=self)

    def tell(self, text: Any) -> None:
        """Print a line, unless the last one was a short time ago."""
        if text and time.monotonic() - self._told >= SECONDS_A_LINE:
            self._told = time.monotonic()
            self.print(text)


class LoggedStatus(Status):
    """A status of a :class:`LoggedConsole` that is no terminal."""

    def start(self) -> None:
        """Tell what begins."""
        self.update(self.status)

    def update(self, status: Any = None, **settings: Any) -> None:
        """Tell what is being done now."""
        console = self.console
        assert isinstance(console, LoggedConsole)
        console.tell(status)

    def stop(self) -> None:
        """Tell nothing."""


def console(**settings: Any) -> LoggedConsole:
    """Return a console that shows every text as it is: folders and classes may have names that rich takes for markup.

    Args:
        settings: what :class:`rich.console.Console` takes.
    """
    return LoggedConsole(markup=False, emoji=False, **settings)


def for_tables() -> Console:
    """Return a console for tables: as wide as the screen, or wide enough where the output goes to a file or a pipe."""
    return console(width=None if sys.stdout.isatty() else PIPED)


def write_asked(path: Path, content: Any, what: str) -> None:
    """Write a JSON file that a command was asked for; a usage error that names it as ``what`` if that cannot be."""
    try:
        write_json(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {what} {path}: {error.strerror}") from error
