"""How a mistake must be answered: one line, status 2, no traceback, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memsuite.__main__ import main


def answer_in(folder: Path, read_standard_error: Callable[[], str]) -> Callable[..., str]:
    """Return a function that gives a command and returns the one line it is answered with."""

    def call(*words: str) -> str:
        before = sorted(folder.rglob("*"))
        status = main(list(words))
        said = read_standard_error()
        assert status == 2, said
        assert len(said.splitlines()) == 1, said
        assert "Traceback" not in said
        assert sorted(folder.rglob("*")) == before
        return said

    return call
