"""The figure of ``memsuite retention``, which depends on what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memsuite.analysis.plots.beyond import seeds_beyond, success_beyond
from memsuite.analysis.plots.canvas import save
from memsuite.analysis.plots.contamination import contaminated
from memsuite.analysis.retention import described, group_reports


def draw(reports: list[dict[str, Any]], path: Path) -> None:
    """Draw success against the horizon: a curve for each run, or a panel for each model where it has several seeds."""
    several = len(group_reports(reports)) < len(reports)
    if len({described(report.get("task_args") or {}) for report in reports}) > 1:
        figure = contaminated(reports)
    else:
        figure = seeds_beyond(reports) if several else success_beyond(reports)
    save(figure, path)
    print(path)
