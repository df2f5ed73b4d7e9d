"""The tables of one set of results, and of two that are compared cell by cell."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memsuite.analysis.compare import VERDICTS, compare, summarise, with_ceilings
from memsuite.analysis.differences import enough
from memsuite.analysis.layout import Grid, as_latex, as_markdown, write_csv
from memsuite.analysis.model_tables import STYLES, as_csv, first_of, grids, missing_line
from memsuite.analysis.results import labels
from memsuite.metrics import decimals
from memsuite.reading import counted

if TYPE_CHECKING:
    import pandas as pd

    from memsuite.analysis.models import Comparison


@dataclass(frozen=True)
class Answer:
    """What a comparison has found, in every form.

    Attributes:
        grids: the tables.
        plain: the same and more as plain values, for JSON.
        csv: the numbers as a table for spreadsheets.
        worse: whether something is worse than its baseline.
        line: what is missing, in one line; of one set of results, why nothing stands beside it.
    """

    grids: list[Grid]
    plain: Any
    csv: str
    worse: bool = False
    line: str = ""
    comparison: Comparison | None = field(default=None, repr=False)

    def text(self, kind: str) -> str:
        """Return it as ``csv``, ``json``, ``latex`` or ``markdown``."""
        if kind == "json":
            return json.dumps(self.plain, indent=2)
        if kind == "csv":
            return self.csv.rstrip("\n")
        write = as_latex if kind == "latex" else as_markdown
        said = [f"{'% ' * (kind == 'latex')}{self.line}"] if self.line else []
        return "\n\n".join([*(write(grid).rstrip("\n") for grid in self.grids), *said])


def of_one(results: pd.DataFrame, confidence: float) -> Answer:
    """Summarise one set of results."""
    rows = summarise(results, confidence)
    line = "There are no published results of these cells, settings and steps included; --baseline names other results."
    return Answer([summary(with_ceilings(rows))], _plain(rows), _csv(rows), line=line)


def of_two(results: pd.DataFrame, baseline: pd.DataFrame, confidence: float) -> Answer:
    """Compare one set of results with another."""
    rows = compare(results, baseline, confidence)
    worse = bool((rows["verdict"] == "worse").any())
    return Answer([comparison(rows, confidence)], _plain(rows), _csv(rows), worse, missing(rows))


def of_models(found: Comparison) -> Answer:
    """Lay out a comparison of models."""
    return Answer(grids(found), found.plain(), as_csv(found), line=missing_line(found), comparison=found)


def _plain(rows: pd.DataFrame) -> Any:
    return json.loads(rows.to_json(orient="records"))


def _csv(rows: pd.DataFrame) -> str:
    buffer = io.BytesIO()
    write_csv(rows, buffer)
    return buffer.getvalue().decode()


def _apart(names: pd.DataFrame) -> list[str]:
    return ["settings"] if (names["apart"] != "").any() else []


def _named(names: pd.DataFrame, index: Any) -> list[str]:
    own = names.loc[index]
    return [own["cell"], own["model"], *(own["apart"] for _ in _apart(names))]


def _known(value: Any) -> bool:
    return value is not None and value == value


def summary(cells: pd.DataFrame) -> Grid:
    """Return the table of one set of results, with the ceiling of a cell beside it where there is one."""
    names, ceilings = labels(cells), ["ceiling"] if cells["ceiling"].notna().any() else []
    returns = [] if "return" not in cells else ["return", "its interval"]
    headings = ["task", "controller", *_apart(names), "success", "interval", *ceilings, *returns, "target", "solved"]
    rows = []
    for index, row in cells.iterrows():
        success = [f"{row['success']:.3f}", interval_text(row, "success", 3)] if _known(row["success"]) else ["", ""]
        told = [f"{row['ceiling']:.3f}" if _known(row["ceiling"]) else "" for _ in ceilings]
        if returns:  # a task that scores no decision has these alone
            told += return_text(row, "return")
        target = f"{row['target_success']:.2f}" if _known(row["target_success"]) else ""
        solved, seeds = row.get("solved_seeds"), int(row["seeds"]) if _known(row["seeds"]) else 0
        solved = f"{solved:.0f} of {seeds}" if _known(solved) and target else counted(seeds, "seed")
        rows.append([*_named(names, index), *success, *told, target, solved])
    return Grid("Results over seeds, with intervals", headings, rows, left=2 + len(_apart(names)))


def return_text(row: Any, name: str) -> list[str]:
    """Return a return and its interval, with the digits to which the interval gives a meaning; empty if not known."""
    if not _known(row.get(name)):
        return ["", ""]
    digits = decimals(row[name], row.get("return_low"), row.get("return_high"))
    return [f"{row[name]:,.{digits}f}", interval_text(row, "return", digits)]


def interval_text(row: Any, name: str, digits: int) -> str:
    """Return the interval of a number in a row, ``0.123 to 0.456``; empty where it is not known."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{low:.{digits}f} to {high:.{digits}f}" if _known(low) and _known(high) else ""


def missing(rows: pd.DataFrame) -> str:
    """Return one line about the cells of the baseline that are not in the results; empty if all are."""
    names = labels(rows)
    lacking = [" ".join(_named(names, index)).strip() for index in rows.index[rows["verdict"] == "missing"]]
    return f"missing: {counted(len(lacking), 'cell')} of the baseline: {first_of(lacking)}" if lacking else ""


def comparison(rows: pd.DataFrame, confidence: float) -> Grid:
    """Return the table of a comparison, the worst first; seeds in brackets. What is missing is not in it."""
    counts = ", ".join(
        f"{count} {verdict}" for verdict in VERDICTS if (count := int((rows["verdict"] == verdict).sum()))
    )
    note = f"{counts}; {100 * confidence:g}% that none of the intervals misses"
    if (rows["verdict"] == "unknown").any():
        note += f". Unknown: too few seeds, of which {enough(confidence)} are enough, or a result that is no number"
    names = labels(rows)
    order = rows["verdict"].map({verdict: index for index, verdict in enumerate(VERDICTS)})
    texts, styles = [], []
    for index, row in rows.loc[order.sort_values(kind="stable").index].iterrows():
        if row["verdict"] == "missing":
            continue
        means = [
            f"{row[name]:.3f} ({row[f'{name}_seeds']})" if row[f"{name}_seeds"] and _known(row[name]) else ""
            for name in ("new", "old")
        ]
        gap = f"{row['difference']:+.3f}" if _known(row["difference"]) else ""
        if _known(row["difference_low"]):
            gap += f" ±{row['difference_high'] - row['difference']:.3f}"
        texts.append([*_named(names, index), *means, gap, row["verdict"]])
        styles.append(STYLES.get(row["verdict"], ""))
    headings = ["task", "controller", *_apart(names), "new", "base", "difference", "verdict"]
    left = 2 + len(_apart(names))
    return Grid("Against the baseline", headings, texts, left=left, note=note, styles=styles)
