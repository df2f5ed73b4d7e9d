"""The settings with which a suite starts a run, for a run that takes the place of another one in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_ASKED: ContextVar[Mapping[str, Any] | None] = ContextVar("asked", default=None)


@contextmanager
def asked_for(settings: Mapping[str, Any]) -> Iterator[None]:
    """Have a run of this process that replaces another one write these settings to ``asked.json`` when it does."""
    token = _ASKED.set(settings)
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked() -> Mapping[str, Any] | None:
    """Return the settings; None for a run that no suite has started."""
    return _ASKED.get()
