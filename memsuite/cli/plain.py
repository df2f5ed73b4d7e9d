"""The standard argument parser for the verbs that need no LightningCLI, with the same one-line answers."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from rich.console import Console

from memsuite.errors import UsageError, unknown

PIPED = 140  # columns where there is no screen: rich would take 80 and cut what does not fit


class PlainParser(argparse.ArgumentParser):
    """Raises :class:`~memsuite.errors.UsageError` in place of printing usage and leaving."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake in one line."""
        text = flat(message)
        if found := re.match(r"unrecognized arguments: (\S+)", text):
            options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            raise unknown("option", found[1], options)
        raise UsageError(text)


def flat(text: Any) -> str:
    """Return a message in one line."""
    return re.sub(r"\s+", " ", str(text)).strip()


def for_tables() -> Console:
    """Return a console as wide as the screen, or wide enough where the output goes to a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPED)
