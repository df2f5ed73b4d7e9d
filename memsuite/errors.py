"""The error a user can cause, the end a run can come to before its time, and the words they are told in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 200  # letters of a name in a message


class UsageError(ValueError):
    """A mistake in what was asked for: one line that names the mistake and the fix; the CLI exits with status 2."""


class Stopped(RuntimeError):
    """A run that ended before its time, through no mistake in what was asked.

    Args:
        message: one line that says why, and what is kept.
        status: the exit status; 128 + its number after a signal.
        together: all processes of the run come to this end, so that one line for all is enough.
    """

    def __init__(self, message: str, status: int = 1, together: bool = False) -> None:
        super().__init__(message)
        self.status, self.together = status, together


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """Return the valid names most like ``name``, best first; all of them in order when none is close."""
    names = list(valid)
    plain = {option.lower().replace("-", "_"): option for option in names}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=count, cutoff=0.5)
    return [plain[match] for match in close] or names


def unknown(kind: str, name: object, valid: Iterable[str]) -> UsageError:
    """Build the error for a name that is not among ``valid``: "no task 'delyed_cue'; did you mean: delayed_cue?"."""
    names, text = list(valid), str(name)[:LONGEST]
    near = nearest(text, names)
    question = "valid names" if near == names else "did you mean"
    return UsageError(f"no {kind} {text!r}; {question}: {', '.join(near) or '(none)'}")
