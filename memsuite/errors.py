"""The error that a user can cause, the exception that ends a run early, and the wording of unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 200  # letters of a name in a message
LINE = 1500  # letters of a message


def in_a_line(message: object) -> str:
    """Return a message as one line that can be shown, whatever names and values it holds; of a long one both ends."""
    text = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in str(message))
    return text if len(text) <= LINE else f"{text[: LINE - 500]} ... {text[-400:]}"


class UsageError(ValueError):
    """A user's mistake: one line that names the mistake and the fix; the CLI exits with status 2.

    Args:
        message: the line.
    """

    def __init__(self, message: object) -> None:
        super().__init__(in_a_line(message))


class Stopped(RuntimeError):
    """A run that ended early, through no mistake of the user.

    Args:
        message: one line that gives the reason and says which results are kept.
        status: the exit status; 128 + the signal's number after a signal.
        together: whether all processes of the run end in this way, so that one line for all is enough.
    """

    def __init__(self, message: str, status: int = 1, together: bool = False) -> None:
        super().__init__(in_a_line(message))
        self.status, self.together = status, together


def nearest(name: str, valid: Iterable[str], count: int = 3) -> list[str]:
    """Return the valid names most like ``name``, best first; all valid names in order if none is close."""
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
