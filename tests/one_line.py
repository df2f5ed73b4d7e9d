"""The required answer to a mistake: one line, status 2, no traceback, and no files left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memsuite.__main__ import main


def answer_in(folder: Path, read_standard_error: Callable[[], str]) -> Callable[..., str]:
    """Return a function that runs a command and returns its one-line answer."""

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
