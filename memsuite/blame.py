"""Errors from a user's own code, reported in one line that names the class, the file and the line."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memsuite.errors import Stopped, UsageError

LONGEST = 300  # letters of an error's text
HERE = f"{Path(__file__).parent}/"
INSTALLED = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def users_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost frame outside memsuite and installed packages; None if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users_file(frame.filename)]
    return f"{shown(own[-1].filename)}:{own[-1].lineno}" if own else None


def is_users_file(filename: str) -> bool:
    """Tell whether a file is neither memsuite's nor one of Python's and of installed packages."""
    return not filename.startswith((HERE, "<", *INSTALLED))


def shown(filename: str) -> str:
    """Return a file's path relative to the current folder, if it lies below it; otherwise unchanged."""
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


def home_of(cls: type) -> str:
    """Return `` (file:line)`` of a class's definition; an empty text if it has no file."""
    try:
        return f" ({shown(inspect.getsourcefile(cls) or '')}:{inspect.getsourcelines(cls)[1]})"
    except (OSError, TypeError):
        return ""


def words_of(error: BaseException) -> str:
    """Return the first line of an error's text, of letters that can be shown; a class of the user's may have none."""
    try:
        text = str(error)
    except Exception:
        return "its text cannot be shown"
    line = next(iter(text.strip().splitlines()), "")[:LONGEST]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def in_one_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its text, with the file and line of the user's code, if any."""
    text = words_of(error)
    if isinstance(error, SyntaxError) and error.filename:
        place: str | None = f"{shown(error.filename)}:{error.lineno}"
        text = str(error.msg)
    else:
        place = users_line(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}" + (f" ({place})" if place else "")


def is_mistake(error: BaseException) -> bool:
    """Tell whether an exception is a mistake in a user's code: an error, or an end of the whole process from within."""
    ours = isinstance(error, UsageError | Stopped)
    return (isinstance(error, Exception) and not ours) or type(error) is SystemExit


@contextmanager
def blamed_on(who: str, kind: type[UsageError] | type[Stopped] = UsageError) -> Iterator[None]:
    """Turn an exception that a user's code raises in the block into one line.

    Args:
        who: the user's code that runs, such as ``controller my_module.MyController``.
        kind: the exception to raise, with the user's exception as its cause.
    """
    try:
        yield
    except BaseException as error:
        if not is_mistake(error):
            raise
        raise kind(f"{who}: {in_one_line(error)}") from error
