"""Says after the tests how many examples of each kind were tried."""

from __future__ import annotations

from typing import Any

from examples import COUNTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write a line for each kind."""
    for kind, count in sorted(COUNTS.items()):
        parts = ", ".join(f"{number} {name}" for name, number in sorted(count.items()))
        terminalreporter.write_line(f"fuzz of {kind}: {count.total()} examples: {parts}")
