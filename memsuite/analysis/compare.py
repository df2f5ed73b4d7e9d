"""Compares two sets of results cell by cell: better, worse, or not distinguishable with these seeds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.differences import difference, verdict
from memsuite.analysis.results import CELL, SETTING, SUPERVISED, import_pandas, read_results
from memsuite.analysis.stats import Interval, Numbers, mean_interval, sampling_variance
from memsuite.shipped import names

if TYPE_CHECKING:
    import pandas as pd

VALUE = {"success": "success", "return": "return_mean"}  # the column of each measure
PUBLISHED = "reference_v2"  # of today's recipe
REFERENCES = (PUBLISHED, "reference")  # the other one is of the first recipe; a cell has runs of one recipe
VERDICTS = ("worse", "better", "similar", "unknown", "new", "missing")


def group_cells(table: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Split a table of runs into its cells, in the order of their first rows."""
    keys = [tuple(None if value != value else value for value in row) for row in table[CELL].itertuples(index=False)]
    cells: dict[tuple[Any, ...], list[int]] = {}
    for index, key in enumerate(keys):
        cells.setdefault(key, []).append(index)
    return {key: table.iloc[rows] for key, rows in cells.items()}


def summarise(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return one row per cell: seeds, success and score with intervals over seeds, solved seeds, cost."""
    rows = []
    for key, runs in group_cells(table).items():
        success = _of(runs, "success", confidence)
        row = dict(zip(CELL, key, strict=True)) | {"seeds": len(runs), **_columns("success", success)}
        if measure(runs) == "return":
            row |= _columns("return", _of(runs, "return", confidence))
        if "score" in runs:
            span = _score_span(runs)
            row |= _columns("score", _of(runs, "score", confidence, span))
        for name in ("target_success", "parameters", "state_floats"):
            row[name] = runs[name].iloc[0] if name in runs else None
        if "reached_target" in runs:
            row["solved_seeds"] = int(runs["reached_target"].sum())
        for name in ("steps_to_target", "steps_per_second", "cpu_seconds"):
            row[name] = runs[name].median(skipna=False) if name in runs else None
        rows.append(row)
    return import_pandas().DataFrame(rows)


def with_ceilings(cells: pd.DataFrame) -> pd.DataFrame:
    """Add to every cell of PPO its ceiling: the success of the same cell when it is told the right actions.

    Args:
        cells: the output of :func:`summarise`.

    Returns:
        The cells of PPO with a column ``ceiling``, then one row for each ceiling without a cell of PPO; such a row
        has no other results.
    """
    told = cells["objective"] == SUPERVISED
    ceilings = cells[told][[*SETTING, "success"]].rename(columns={"success": "ceiling"})
    learnt = cells[~told].merge(ceilings, on=SETTING, how="left")
    alone = ceilings.merge(learnt[SETTING], on=SETTING, how="left", indicator=True)
    alone = alone[alone.pop("_merge") == "left_only"].assign(objective=SUPERVISED)
    return import_pandas().concat([learnt, alone], ignore_index=True) if len(alone) else learnt


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _score_span(runs: pd.DataFrame) -> float:
    """Return the score that one unit of success is worth, ``1 / (oracle - memoryless)``; 1.0 where it is not known.

    Results of earlier versions do not name the oracle's success; there a run that is not at chance shows it.
    """
    if "chance" not in runs:
        return 1.0
    if "oracle" in runs and runs["oracle"].notna().all():
        between = float((runs["oracle"] - runs["chance"]).iloc[0])
        return 1 / between if between > 0 else 1.0
    known = runs[(runs["success"] - runs["chance"]).abs() > 1e-6]
    return float((known["score"] / (known["success"] - known["chance"])).iloc[0]) if len(known) else 1.0


def _of(runs: pd.DataFrame, name: str, confidence: float, span: float = 1.0) -> Interval:
    """Return a mean over seeds with its interval, clipped to the possible values."""
    kind = "return" if name == "return" else "success"
    noise = sampling_variance(runs[f"{kind}_low"], runs[f"{kind}_high"]) * span**2
    found = mean_interval(runs[VALUE.get(name, name)].astype(float).tolist(), noise, confidence)
    if name == "return":
        return found
    low = max(found.low, 0.0) if name == "success" else found.low
    return Interval(found.mean, low, min(found.high, 1.0))


def measure(runs: pd.DataFrame) -> str:
    """Return what runs are judged by: ``success``, or ``return`` where no decision is scored, as in Gymnasium."""
    returns = "return_mean" in runs and runs["return_mean"].notna().any()
    return "return" if returns and runs["success"].isna().all() else "success"


def compare(new: pd.DataFrame, old: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Compare success cell by cell, or returns where no decision is scored.

    A cell is better or worse if its interval for the difference excludes 0 and a permutation test agrees
    (:func:`~memsuite.analysis.differences.verdict`). The intervals are made to hold together (Bonferroni): where the
    results of the seeds are normal, all of them contain the true difference with the probability ``confidence``.

    Returns:
        One row per cell of either side: ``new``, ``old`` (means), ``difference``, its interval, and ``verdict``, one
        of :data:`VERDICTS`; the verdict is unknown if there are too few seeds for a permutation test to find anything.
    """
    ours, theirs = group_cells(new), group_cells(old)
    common = [key for key in ours if key in theirs]
    each = 1 - (1 - confidence) / max(1, len(common))
    rows = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        one, other = ours.get(key), theirs.get(key)
        row: dict[str, Any] = dict(zip(CELL, key, strict=True))
        for name, side in (("new", one), ("old", other)):
            row[name], row[f"{name}_seeds"] = (
                (math.nan, 0) if side is None else (float(values_of(side).mean()), len(side))
            )
        found = Interval(math.nan, math.nan, math.nan)
        if one is not None and other is not None and measure(one) == measure(other):
            found = difference(*_sampled(one), *_sampled(other), confidence=each)
        rows.append(row | {**_columns("difference", found), "verdict": _verdict(one, other, found, confidence)})
    return import_pandas().DataFrame(rows)


def published_beside(results: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the published references in the cells that ``results`` has runs of."""
    shipped = names("results")  # by their paths, because a name may also be that of a folder of the user's
    files = [shipped[name] for name in REFERENCES if name in shipped]
    if not files:  # an installation without results
        return results.iloc[:0]
    published = read_results(*files)
    theirs = group_cells(published)
    found = [theirs[key] for key in group_cells(results) if key in theirs]
    return import_pandas().concat(found) if found else published.iloc[:0]


def values_of(runs: pd.DataFrame) -> Numbers:
    """Return what runs are judged by, one number for each (:func:`measure`)."""
    return np.asarray(runs[VALUE[measure(runs)]], float)


def _sampled(runs: pd.DataFrame) -> tuple[Numbers, Numbers]:
    name = measure(runs)
    return values_of(runs), sampling_variance(runs[f"{name}_low"], runs[f"{name}_high"])


def _verdict(new: pd.DataFrame | None, old: pd.DataFrame | None, found: Interval, confidence: float) -> str:
    if new is None or old is None:
        return "missing" if new is None else "new"
    return verdict(found.mean, found.high < 0 or found.low > 0, values_of(new), values_of(old), confidence)
