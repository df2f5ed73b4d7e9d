"""Learning curves: what the evaluations on the way have found, from run folders and from files of collected runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.analysis.results import CELL, import_pandas, told
from memsuite.runs.folder import METRICS

if TYPE_CHECKING:
    import pandas as pd

# The columns of a curve, by their names in metrics.csv.
COLUMNS = {"env_steps": "env_steps", "evaluation_success": "success", "evaluation_return_mean": "return"}
DIGITS = 4  # of what is kept of an evaluation; its own error is larger


def read_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Read the curves of all runs that have one: CELL, seed, env_steps, success, return."""
    pandas = import_pandas()
    found = {index: rows for index, run in table.iterrows() if (rows := read_curve(run)) is not None}
    columns = [*CELL, "seed", *COLUMNS.values()]
    if not found:
        return pandas.DataFrame(columns=columns)
    curves = pandas.concat(found, names=["run", None])
    return table[[*CELL, "seed"]].join(curves.reset_index(level=1, drop=True), how="right")[columns]


def read_curve(run: Mapping[str, Any] | pd.Series[Any]) -> pd.DataFrame | None:
    """Read the curve of one run: env_steps, success and return; None where there is none.

    Args:
        run: a row of results; its ``folder`` comes before its ``curve``.
    """
    folder, kept = run.get("folder"), run.get("curve")
    if isinstance(folder, str) and (file := Path(folder) / METRICS).is_file():
        return _from_metrics(file)
    if isinstance(kept, str):
        with told("curve"):
            return import_pandas().DataFrame(json.loads(kept), columns=list(COLUMNS.values())).astype(float)
    return None


def _from_metrics(file: Path) -> pd.DataFrame | None:
    pandas = import_pandas()
    with told(file):
        rows = pandas.read_csv(file, encoding_errors="replace")
        if "evaluation_success" not in rows:
            return None
        rows = rows.reindex(columns=list(COLUMNS)).apply(pandas.to_numeric).rename(columns=COLUMNS)
    return rows.dropna(subset=["success", "return"], how="all")


def with_curve(where: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run with its curve in it, if its folder has one, for a file of many runs.

    Args:
        where: the run's folder, or the place in a file where it was found.
        run: the record.
    """
    rows = None if run.get("curve") else read_curve({"folder": where})
    if rows is None or rows.empty:
        return dict(run)
    kept = {name: [_rounded(value) for value in rows[name]] for name in ("success", "return")}
    return {**run, "curve": {"env_steps": [int(steps) for steps in rows["env_steps"]], **kept}}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), DIGITS)
