"""The display of a suite: a live table on a terminal; otherwise a line per event and a summary at intervals."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from memsuite.suite.estimate import in_words

MOST = 20  # largest number of rows in the live table


@dataclass(frozen=True)
class Row:
    """A current run: its id, its environment steps so far, and their final number."""

    id: str
    env_steps: int
    of: int


class View:
    """The display.

    Args:
        console: the output.
        every_seconds: seconds between two summaries when there is no terminal.
    """

    def __init__(self, console: Console, every_seconds: float = 30.0) -> None:
        self.console, self.every_seconds = console, every_seconds
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._next = time.monotonic() + every_seconds

    def __enter__(self) -> View:
        """Show the table from now on."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Remove the table."""
        if self._live:
            self._live.stop()

    def line(self, text: str) -> None:
        """Print a line about an event."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, rows: list[Row], summary: str) -> None:
        """Show the current runs."""
        if self._live:
            self._live.update(Group(_table(rows), Text(summary)))
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every_seconds
            self.line(summary)

    @staticmethod
    def time_left(seconds: float) -> str:
        """Return a text with the remaining time."""
        return f"about {in_words(seconds)} left"


def _table(rows: list[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, expand=True)
    for name in ("running", "", "steps"):
        table.add_column(name, justify="right" if name == "steps" else "left", no_wrap=True)
    for row in rows[:MOST]:
        bar = ProgressBar(total=row.of, completed=row.env_steps, width=20)
        table.add_row(row.id, bar, f"{row.env_steps:,} of {row.of:,}")
    if len(rows) > MOST:
        table.add_row(f"and {len(rows) - MOST} more", "", "")
    return table


def outcome(result: dict[str, Any]) -> str:
    """Return the success of a run, or its return, with the interval and the wall time, as a short text."""
    name, low, high = ("success", "success_low", "success_high")
    digits = 3
    if result.get(name) is None:
        name, low, high, digits = ("return_mean", "return_low", "return_high", 1)
    try:
        kind, value, ends = name.partition("_")[0], result[name], (result[low], result[high])
        interval = "interval unknown" if None in ends else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
        return f"{kind} {value:.{digits}f} ({interval}), {result['wall_seconds']:.0f} s"
    except (KeyError, TypeError, ValueError):
        return "finished"
