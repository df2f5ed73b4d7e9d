"""``memsuite retention``: what a trained agent still knows at horizons far beyond the one it was trained at."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table

from memsuite.analysis.loading import load
from memsuite.analysis.retention import beyond, curve_of
from memsuite.cli.allocator import keep_freed_memory
from memsuite.cli.plain import PlainParser, for_tables, whole_numbers
from memsuite.errors import UsageError
from memsuite.files import write_json

USUAL = "50,100,200,500,1000,2000,5000,10000,20000"


def main(verb: str, arguments: list[str]) -> int:
    """Measure every run, write its ``retention.json``, print the table and draw the figure."""
    options = parse(arguments)
    keep_freed_memory()
    console, reports = Console(stderr=True), []
    for folder in options.runs:
        report = measure(folder, options, console)
        if folder.is_dir():
            write_json(folder / "retention.json", report)
        reports.append(report)
    if options.json:
        print(json.dumps(reports, indent=2))
    else:
        for table in [table_of(report) for report in reports]:
            for_tables().print(table)
    if options.plot:
        draw(reports, Path(options.plot))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite retention", description=__doc__.partition(":")[2])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders (each gets a retention.json) or checkpoints")
    parser.add_argument("--horizons", default=USUAL, help=f"comma-separated steps of an episode; default: {USUAL}")
    parser.add_argument("--episodes", type=int, default=256, help="episodes at each horizon; default: 256")
    parser.add_argument("--plot", help="draw the curves of all runs into this file (png, svg, pdf)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    options = parser.parse_args(arguments)
    options.horizons = sorted(set(whole_numbers("--horizons", options.horizons)))
    if options.episodes < 1:
        raise UsageError(f"--episodes is {options.episodes}; the least is 1")
    if options.plot:
        from memsuite.analysis.plots import pyplot

        kinds = pyplot().figure().canvas.get_supported_filetypes()
        if Path(options.plot).suffix[1:] not in kinds:
            raise UsageError(f"--plot {options.plot}: name a file that ends in one of {', '.join(sorted(kinds))}")
    return options


def measure(path: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure one run at every horizon."""
    module = load(path)
    config, rows = module.config, []
    if config["task"].startswith("gym:"):
        raise UsageError(f"{path}: {config['task']} has a horizon of its own, which cannot be made longer")
    for horizon in options.horizons:  # a horizon too short is told before the first is measured
        module.preset.make(**{**(config["task_args"] or {}), "horizon": horizon})
    with console.status("") as status:
        measured = beyond(module, options.horizons, options.episodes)
        for horizon in options.horizons:
            status.update(f"{path}: {options.episodes} episodes of {horizon:,} steps")
            rows.append(next(measured))
    return {"run": str(path), **curve_of(module, rows)}


def table_of(report: dict[str, Any]) -> Table:
    """Return the table of one run."""
    half = f"half of the score is left at {report['half_life']:,.0f} steps" if report["half_life"] else None
    title = f"{report['run']}: {report['controller']} trained at {report['trained_horizon']:,} steps"
    headings = ("horizon", "success", "95% interval", "without memory", "score", "retention")
    columns = [Column(name, justify="right", no_wrap=True) for name in headings]
    table = Table(*columns, title=title, caption=half, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in report["rows"]:
        interval = f"{row['success_low']:.3f} to {row['success_high']:.3f}"
        held = "" if row["retention"] is None else f"{row['retention']:.3f}"
        numbers = [f"{row[name]:.3f}" for name in ("chance", "score")]
        table.add_row(f"{row['horizon']:,}", f"{row['success']:.3f}", interval, *numbers, held)
    return table


def draw(reports: list[dict[str, Any]], path: Path) -> None:
    """Draw success against the horizon, a curve for each run."""
    from memsuite.analysis.plots import success_beyond

    figure = success_beyond(reports)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot write --plot {path}: {error.strerror}") from error
    print(path)
