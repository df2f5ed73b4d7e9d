"""What ``memsuite retention`` prints: the table of one run."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Column, Table

from memsuite.analysis.retention import described


def table_of(report: dict[str, Any]) -> Table:
    """Return the table of one run."""
    half = f"half of the score is left at {report['half_life']:,.0f} steps" if report["half_life"] else None
    title = f"{report['run']}: {report['controller']} trained at {report['trained_horizon']:,} steps"
    if report.get("task_args"):
        title += f", asked with {described(report['task_args'])}"
    headings = ("horizon", "success", "95% interval", "without memory", "score", "retention")
    columns = [Column(name, justify="right", no_wrap=True) for name in headings]
    table = Table(*columns, title=title, caption=half, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in report["rows"]:
        interval = f"{row['success_low']:.3f} to {row['success_high']:.3f}"
        held = "" if row["retention"] is None else f"{row['retention']:.3f}"
        numbers = ["" if row[name] is None else f"{row[name]:.3f}" for name in ("chance", "score")]
        table.add_row(f"{row['horizon']:,}", f"{row['success']:.3f}", interval, *numbers, held)
    return table


def density_of(report: dict[str, Any]) -> Table | None:
    """Return the table of success by distance of one run; None if its task asks for everything at one distance."""
    rows = report.get("density") or []
    if len(rows) < 2:
        return None
    headings = ("steps since it was shown", "success", "95% interval", "decisions")
    columns = [Column(name, justify="right", no_wrap=True) for name in headings]
    title = f"by distance, at {report['trained_horizon']:,} steps"
    table = Table(*columns, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        near, far = row["nearest"], row["farthest"]
        steps = f"{near:,}" if near == far else f"{near:,} to {far:,}"
        interval = f"{row['success_low']:.3f} to {row['success_high']:.3f}"
        table.add_row(steps, f"{row['success']:.3f}", interval, f"{row['decisions']:,}")
    return table
