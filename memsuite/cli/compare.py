"""``memsuite compare``: results against a baseline, cell by cell; status 1 if something is worse, and only then."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Column, Table

from memsuite.analysis.compare import VERDICTS, compare, summarise, with_ceilings
from memsuite.analysis.results import labels, read_results
from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.launch.plain import PlainParser, for_tables

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "results/reference.jsonl"
STYLES = {"worse": "bold red", "better": "bold green", "missing": "yellow", "unknown": "yellow"}


def main(verb: str, arguments: list[str]) -> int:
    """Compare, print, and tell by the exit status whether something is worse."""
    options = parse(arguments)
    results = read_results(options.results)
    if options.baseline is None and not Path(REFERENCE).is_file():
        rows = summarise(results, options.confidence)
        table = summary_table(with_ceilings(rows))
        status = 0
    else:
        rows = compare(results, read_results(options.baseline or REFERENCE), options.confidence)
        table, status = comparison_table(rows, options), int((rows["verdict"] == "worse").any())
    plain = json.loads(rows.to_json(orient="records"))
    if options.out:
        try:
            write_json(Path(options.out), plain)
        except OSError as error:
            raise UsageError(f"cannot write --out {options.out}: {error.strerror}") from error
    try:
        if options.json:
            print(json.dumps(plain, indent=2))
        else:
            for_tables().print(table)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, and the status still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite compare", description=__doc__.partition(":")[2])
    parser.add_argument("--results", required=True, help="a folder of runs, or a file of results")
    parser.add_argument(
        "--baseline",
        help=f"what to compare with, likewise; default: {REFERENCE} if it is there, else a summary of --results alone",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of all intervals together; default: 0.95")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--out", help="write the JSON to this file too")
    options = parser.parse_args(arguments)
    if not 0.5 <= options.confidence < 1:
        raise UsageError(f"--confidence is {options.confidence}; it must be at least 0.5 and below 1")
    if options.out and Path(options.out).is_dir():
        raise UsageError(f"--out {options.out} is a folder; name a file")
    return options


def _table(title: str, names: pd.DataFrame, headings: tuple[str, ...], caption: str | None = None) -> Table:
    apart = ["settings"] if (names["apart"] != "").any() else []
    columns = [Column(name, no_wrap=True) for name in ("task", "controller", *apart)]
    columns += [Column(name, justify="right", no_wrap=True) for name in headings]
    style: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
    return Table(*columns, title=title, caption=caption, **style)


def _named(names: pd.DataFrame, index: Any) -> list[str]:
    own = names.loc[index]
    return [own["cell"], own["model"], *([own["apart"]] if (names["apart"] != "").any() else [])]


def summary_table(cells: pd.DataFrame) -> Table:
    """Return the table of one set of results, with the ceiling of a cell beside it where there is one."""
    names, ceilings = labels(cells), ["ceiling"] if cells["ceiling"].notna().any() else []
    headings = ("success", "interval", *ceilings, "target", "solved")
    table = _table("Success over seeds, with intervals", names, headings)
    for index, row in cells.iterrows():
        known = row["success"] == row["success"]  # a task that scores no decision has none
        success, interval = (
            (f"{row['success']:.3f}", f"{row['success_low']:.3f} to {row['success_high']:.3f}") if known else ("", "")
        )
        told = [f"{row['ceiling']:.3f}" if row["ceiling"] == row["ceiling"] else "" for _ in ceilings]
        target = "" if row["target_success"] != row["target_success"] else f"{row['target_success']:.2f}"
        solved, seeds = row.get("solved_seeds"), f"{row['seeds']:.0f}" if row["seeds"] == row["seeds"] else ""
        solved = seeds if solved is None or solved != solved else f"{solved:.0f} of {seeds}"
        table.add_row(*_named(names, index), success, interval, *told, target, solved)
    return table


def comparison_table(rows: pd.DataFrame, options: argparse.Namespace) -> Table:
    """Return the table of a comparison, the worst first; seeds in brackets."""
    counts = ", ".join(
        f"{count} {verdict}" for verdict in VERDICTS if (count := int((rows["verdict"] == verdict).sum()))
    )
    sure = f"{100 * options.confidence:g}% that none of the intervals misses"
    names = labels(rows)
    table = _table("Success against the baseline", names, ("new", "base", "difference", ""), f"{counts}; {sure}")
    order = rows["verdict"].map({verdict: index for index, verdict in enumerate(VERDICTS)})
    for index, row in rows.loc[order.sort_values(kind="stable").index].iterrows():
        means = [f"{row[name]:.3f} ({row[f'{name}_seeds']})" if row[f"{name}_seeds"] else "" for name in ("new", "old")]
        gap = "" if row["difference"] != row["difference"] else f"{row['difference']:+.3f}"
        if row["difference_low"] == row["difference_low"]:
            gap += f" ±{row['difference_high'] - row['difference']:.3f}"
        table.add_row(*_named(names, index), *means, gap, row["verdict"], style=STYLES.get(row["verdict"]))
    return table
