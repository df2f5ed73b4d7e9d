"""The tables of a comparison of models: the models, their results, the differences, and what holds over all cells."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from memsuite.analysis.differences import enough
from memsuite.analysis.layout import Grid, write_csv
from memsuite.analysis.models import Comparison
from memsuite.reading import counted

STYLES = {"worse": "bold red", "better": "bold green", "unknown": "yellow"}
MOST_NAMED = 4  # missing cells that are named; the others are counted
MARKS = {"better": " *", "worse": " !"}
KEYS = ["cell", "model"]


def grids(found: Comparison) -> list[Grid]:
    """Return the tables of a comparison, for people."""
    return [_models(found), _results(found), *_budget_free(found), _differences(found), _overall(found)]


def missing_line(found: Comparison) -> str:
    """Return one line about the cells that not all models ran; empty if all did."""
    return f"cells without some of the models: {first_of(found.missing)}" if found.missing else ""


def first_of(cells: list[str]) -> str:
    """Name the first cells of a list, and count the others."""
    more = len(cells) - MOST_NAMED
    return "; ".join(cells[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def as_csv(found: Comparison) -> str:
    """Return all numbers as one table: a row per cell and model, then a row per model for ``all cells``."""
    import pandas

    against = found.differences.rename(columns={"against": "model", "low": "difference_low", "high": "difference_high"})
    rows = found.cells.astype({"horizon": "Int64", "seeds": "Int64"}).merge(against, on=KEYS, how="left")
    everything = found.overall.rename(columns={"iqm": "value", "iqm_low": "low", "iqm_high": "high"})
    everything = everything.drop(columns=["cells", "scored_cells"]).assign(
        cell="all cells", measures="iqm of the score"
    )
    buffer = io.BytesIO()
    write_csv(pandas.concat([rows, everything], ignore_index=True), buffer)
    return buffer.getvalue().decode()


def number(value: Any, digits: int) -> str:
    """Return a number as text; empty if it is not known."""
    return "" if value is None or value != value else f"{value:,.{digits}f}"


def chance(value: float) -> str:
    """Return a p value as text."""
    return "<0.0001" if value < 0.0001 else number(value, 4)


def steps(value: Any) -> str:
    """Return a number of steps as text with its unit: ``4.1M``, ``820k``; a dash if it is not known."""
    if value is None or value != value:
        return "-"
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.0f}"


def spread(value: Any, low: Any, high: Any, digits: int = 3) -> str:
    """Return a value with half of its interval, ``0.981 ±0.012``, or both ends where it is not in the middle."""
    if value != value:
        return ""
    if low != low:
        return f"{value:.{digits}f}"
    up, down = f"{high - value:.{digits}f}", f"{value - low:.{digits}f}"
    return f"{value:.{digits}f} ±{up}" if up == down else f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _sizes(row: Any, name: str) -> str:
    least, most = row[f"least_{name}"], row[name]
    return number(most, 0) if least == most else f"{number(least, 0)} to {number(most, 0)}"


def _models(found: Comparison) -> Grid:
    rows = []
    for _, row in found.models.iterrows():
        sizes = [_sizes(row, "parameters"), _sizes(row, "state_floats")]
        rows.append([row["model"], row["variant"], row["recipe"], *sizes, f"{row['cells']}", f"{row['runs']}"])
    left = 3 if any(row[1] for row in rows) else 2
    headings = ["model", "settings", "recipe", "parameters", "state", "cells", "runs"]
    return Grid("The models", *_without_empty(headings, rows), left=left)


def _without_empty(headings: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    return [headings[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _wide(found: Comparison, title: str, text: Callable[[Any], str], note: str = "") -> Grid:
    """Return a grid with a row per cell and a column per model, which holds what ``text`` says of the two."""
    known = {(row["cell"], row["model"]): text(row) for _, row in found.cells.iterrows()}
    names = found.models["model"].tolist()
    rows = [[cell, *(known.get((cell, name), "") for name in names)] for cell in dict.fromkeys(found.cells["cell"])]
    return Grid(title, ["cell", *names], rows, note=note)


def _results(found: Comparison) -> Grid:
    verdicts = {(row["cell"], row["against"]): row["verdict"] for _, row in found.differences.iterrows()}

    def text(row: Any) -> str:
        value = spread(row["value"], row["low"], row["high"], 3 if row["measures"] == "success" else 1)
        return value + MARKS.get(verdicts.get((row["cell"], row["model"]), ""), "")

    note = (
        f"Mean over seeds with its {100 * found.confidence:g}% interval (Student's t; of one seed over its episodes). "
        f"* means that {found.first} is better than this model here, ! that it is worse (Holm over all tests)."
    )
    return _wide(found, f"Final {' or '.join(sorted(set(found.cells['measures'])))}", text, note)


def _budget_free(found: Comparison) -> list[Grid]:
    """Return the tables of what depends less on the budget than the final success does; only those that are known."""

    def to_target(row: Any) -> str:
        known = row["solved_seeds"] is not None and row["solved_seeds"] == row["solved_seeds"]
        return f"{steps(row['steps_to_target'])} ({row['solved_seeds']:.0f}/{row['seeds']})" if known else ""

    note = "Median over seeds, a dash where half of them did not reach it; in brackets the seeds at the target."
    tables = [_wide(found, "Steps to the target", to_target, note)]
    if found.cells["area"].notna().any():
        note = "The mean over training of what the evaluations on the way found, which results hold, too."
        tables.append(_wide(found, "Area under the learning curve", lambda row: number(row["area"], 3), note))
    return tables


def _differences(found: Comparison) -> Grid:
    rows = []
    for _, row in found.differences.iterrows():
        p = [chance(row["p"]), chance(row["p_holm"])]
        gap = spread(row["difference"], row["low"], row["high"])
        rows.append([row["cell"], row["against"], gap, row["test"], *p, row["verdict"]])
    count = int(found.differences["p"].notna().sum())
    note = (
        f"Each interval holds alone with {100 * found.confidence:g}%. The verdict is by the p value, corrected for "
        f"{counted(count, 'test')} (Holm), with which a permutation test must agree; it is unknown where there are too "
        f"few seeds for that ({enough(found.confidence)} are enough). The t test is paired by seed where both models "
        "have the same seeds, else Welch's."
    )
    headings = ["cell", "against", "difference", "test", "p", "p (Holm)", "verdict"]
    styles = [STYLES.get(row[-1], "") for row in rows]
    return Grid(f"{found.first} minus each other model", headings, rows, left=2, note=note, styles=styles)


def _overall(found: Comparison) -> Grid:
    rows = []
    for _, row in found.overall.iterrows():
        wins = spread(row["first_is_better"], row["first_is_better_low"], row["first_is_better_high"], 2)
        rows.append([row["model"], spread(row["iqm"], row["iqm_low"], row["iqm_high"]), wins, chance(row["p"])])
    cells, scored = (int(found.overall[name].iloc[0]) for name in ("cells", "scored_cells"))
    note = (
        f"Over {counted(cells, 'cell')} that all models ran (the IQM: {scored} with a score), with "
        f"{100 * found.confidence:g}% stratified bootstrap intervals (Agarwal et al. 2021). The score is 0 for the "
        "best policy without memory and 1 for a perfect one. For p, the runs of every cell are dealt to both models at "
        "random."
    )
    headings = ["model", "IQM of the score", f"P({found.first} is better)", "p"]
    return Grid("Over all cells", headings, rows, note=note)
