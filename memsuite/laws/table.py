"""What a check found, laid out for a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from memsuite.laws.check import Report


def table_of(name: str, report: Report) -> Table:
    """Lay out the laws of one controller, its retention and its cost."""
    caption = "\n".join(filter(None, (costs(report), *report.notes)))
    found = Table(title=name, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=caption)
    for heading in ("law", "holds"):
        found.add_column(heading, no_wrap=True)
    found.add_column("error", justify="right", no_wrap=True)
    found.add_column("where", overflow="fold")
    for law, one in report.findings.items():
        found.add_row(law, "yes" if one.holds else "NO", f"{one.error:.1e}", one.where if not one.holds else "")
    return found


def costs(report: Report) -> str:
    """Say in words what a controller retains before training, and what a step costs."""
    kept = [f"retention after {steps:,} steps {value:.3f}" for steps, value in report.retention.items()]
    told = {"step": "a step alone", "sequence": "a step of a sequence"}
    return "; ".join([*kept, *(f"{told[mode]} {time:.1f} us" for mode, time in report.microseconds.items())])


def overview(reports: dict[str, Report]) -> Table:
    """Lay out a line for each of several controllers."""
    found = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    found.add_column("controller", no_wrap=True)
    found.add_column("laws", overflow="fold")
    headings = [f"H {steps:,}" for steps in max((report.retention for report in reports.values()), key=len)]
    for heading in ("largest error", *headings, "us, step", "us, sequence"):
        found.add_column(heading, justify="right", no_wrap=True)
    for name, report in reports.items():
        broken = [f"{law} ({report.findings[law].where})" for law in report.broken()]
        error = max(one.error for one in report.findings.values())
        kept = [f"{value:.3f}" for value in report.retention.values()] or [""] * len(headings)
        times = [f"{report.microseconds[mode]:.1f}" for mode in ("step", "sequence")]
        laws = "BROKEN: " + "; ".join(broken) if broken else "all hold"
        found.add_row(name, "; ".join([laws, *report.notes]), f"{error:.1e}", *kept, *times)
    return found
