"""What ``memsuite retention`` shows: the table of one run, and the figure of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.table import Column, Table

from memsuite.analysis.retention import described, group_reports


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


def draw(reports: list[dict[str, Any]], path: Path) -> None:
    """Draw success against the horizon: a curve for each run, or a panel for each model where it has several seeds."""
    from memsuite.analysis.plots import success_beyond
    from memsuite.analysis.plots.beyond import seeds_beyond
    from memsuite.analysis.plots.canvas import save
    from memsuite.analysis.plots.contamination import contaminated

    several = len(group_reports(reports)) < len(reports)
    if len({described(report.get("task_args") or {}) for report in reports}) > 1:
        figure = contaminated(reports)
    else:
        figure = seeds_beyond(reports) if several else success_beyond(reports)
    save(figure, path)
    print(path)
