"""Compares models: is the first one better than each of the others, in every cell that both ran and over all of them?

A cell is a task with its tier, horizon and arguments, and the budget of steps. Two models are compared within it by a
t test that is paired where they have the same seeds (:func:`~memsuite.analysis.differences.t_test`), corrected for the
number of all tests that are made (Holm 1979), with which a permutation test must agree. Over the cells that all models
ran there are the interquartile mean of the score and the probability of improvement, with stratified bootstrap
intervals (Agarwal et al. 2021, arXiv 2108.13264).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.compare import measure, values_of
from memsuite.analysis.curves import read_curve
from memsuite.analysis.differences import holm, t_test, verdict
from memsuite.analysis.results import CELL, SUPERVISED, import_pandas, labels, parts_of
from memsuite.analysis.stats import (
    Interval,
    improvement_p,
    mean_interval,
    probability_of_improvement,
    sampling_variance,
    stratified_iqm,
)
from memsuite.errors import UsageError, unknown

if TYPE_CHECKING:
    import pandas as pd

BETWEEN_NAMES = re.compile(r",(?![^(]*\))")  # the settings of a name stand in brackets, and have commas of their own


@dataclass(frozen=True)
class Comparison:
    """What the runs of several models say.

    Attributes:
        first: the model that the others are compared with.
        models: one row per model: its parameters, its state, its settings and its recipe.
        cells: one row per cell and model that ran it: ``value`` with its interval, what it ``measures``, seeds, steps
            to the target and the area under the curve.
        differences: one row per cell and other model that both it and the first ran.
        overall: one row per model: over the cells that all models ran, the IQM of the score, and the probability that
            the first is better with its p value.
        missing: the cells that a model did not run, as ``copy_memory-easy (lru)``.
        confidence: of each interval.
    """

    first: str
    models: pd.DataFrame
    cells: pd.DataFrame
    differences: pd.DataFrame
    overall: pd.DataFrame
    missing: list[str]
    confidence: float

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        tables = {name: getattr(self, name) for name in ("models", "cells", "differences", "overall")}
        rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
        return {"first": self.first, **rows, "missing": self.missing, "confidence": self.confidence}


def split_names(text: str) -> list[str]:
    """Split the comma-separated names of models, of which some may have settings: ``lru,gru (depth=2, clip=0.1)``."""
    found = [name.strip() for name in BETWEEN_NAMES.split(text)]
    if len(found) < 2 or not all(found) or len(set(found)) < len(found):
        raise UsageError(f"--models {text}: name two or more different models, as my_module.MyModel,gru,lru")
    return found


def compare_models(table: pd.DataFrame, names: Sequence[str], confidence: float = 0.95) -> Comparison:
    """Compare the first model with each of the others.

    Args:
        table: runs (:func:`~memsuite.analysis.results.read_results`); ceilings are left out.
        names: of the models: the controller, or ``CONTROLLER (SETTINGS)`` where it ran with several. A controller
            alone then means its runs with the settings of the recipe.
        confidence: of each interval; a difference counts if its corrected p value is below ``1 - confidence`` and a
            permutation test agrees.

    Raises:
        UsageError: a name is of no run, or of runs with different settings in one cell; or no cell is shared.
    """
    runs = _named(_with_cells(table), names)
    cells = import_pandas().DataFrame(
        [_cell(own, name, cell, confidence) for (cell, name), own in _by_cell(runs, names)]
    )
    differences = _differences(runs, names, confidence)
    have = {name: set(runs["cell"][runs["model"] == name]) for name in names}
    every = list(dict.fromkeys(runs["cell"]))
    missing = [
        f"{cell} ({', '.join(lacking)})" for cell in every if (lacking := [n for n in names if cell not in have[n]])
    ]
    common = [cell for cell in every if all(cell in have[name] for name in names)]
    models = import_pandas().DataFrame([_model(runs[runs["model"] == name], name) for name in names])
    overall = import_pandas().DataFrame(_overall(runs[runs["cell"].isin(common)], names, confidence))
    return Comparison(names[0], models, cells, differences, overall, missing, confidence)


def models_in(names: Sequence[str], own: pd.DataFrame | None, published: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of a user, and the published runs of those models that the user has not run."""
    if own is None:
        return published
    lacking = [name for name in names if not _is_model(own, name).any()]
    found = [_is_model(published, name) for name in lacking]
    added = published[np.logical_or.reduce(found)] if found else published[:0]
    return import_pandas().concat([own, added], ignore_index=True) if len(added) else own


def _is_model(table: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Tell for every run whether it is of a model.

    It is named with or without its settings and its recipe, or with those that tell it apart, as tables do.
    """
    found = table["controller"] == name
    if len(table):
        found |= table["controller"] + " (" + labels(table)["apart"] + ")" == name
    for recipes in ([""] * len(table), table["recipe"]):
        kinds = zip(table["controller"], table["variant"], recipes, strict=True)
        found |= np.array([_full_name(*kind) == name for kind in kinds], bool)
    return found


def _full_name(controller: str, variant: str, recipe: str = "") -> str:
    settings = ", ".join(sorted(parts_of(variant, recipe)))
    return f"{controller} ({settings})" if settings else controller


def _with_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Add to every run the name of its cell, which does not depend on the model."""
    table = table[table["objective"] != SUPERVISED].reset_index(drop=True)
    if table.empty:
        raise UsageError("these results hold ceilings alone (--objective supervised), which compare no models")
    arguments = [json.loads(text).get("task_args") or {} for text in table["config"]]
    told = [", ".join(f"{key}={value}" for key, value in sorted(own.items())) for own in arguments]
    alike = table[CELL].assign(controller="", recipe="", variant=told)
    tiers = alike.groupby(["task", "difficulty", "horizon"])["variant"].transform("nunique") > 1
    shown = labels(alike.assign(variant=alike["variant"].where(tiers, "")))
    return table.assign(cell=[a + f" ({b})" * bool(b) for a, b in zip(shown["cell"], shown["apart"], strict=True)])


def _named(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the runs of the models that are asked for, with a column ``model``."""
    parts = []
    for name in names:
        own = table[_is_model(table, name)].assign(model=name)
        if own.empty:
            valid = {_full_name(*kind) for kind in zip(table["controller"], table["variant"], strict=True)}
            raise unknown("runs of the model", name, sorted(valid))
        own = own.groupby("cell", group_keys=False)[list(own)].apply(_of_one_kind, name=name)
        parts.append(own)
    return import_pandas().concat(parts, ignore_index=True)


def _of_one_kind(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the runs of a model in a cell, which must have the same settings; a bare name means the recipe's own."""
    if len(runs[["variant", "recipe"]].drop_duplicates()) == 1:
        return runs
    usual = runs[runs["variant"] == ""]
    if usual["recipe"].nunique() == 1:
        return usual
    several = runs["recipe"].nunique() > 1
    kinds = zip(runs["controller"], runs["variant"], runs["recipe"] if several else [""] * len(runs), strict=True)
    told = ", ".join(f"'{one}'" for one in sorted({_full_name(*kind) for kind in kinds}))
    cell = runs["cell"].iloc[0]
    raise UsageError(f"{name} ran {cell} with several settings; name one: {told}, or leave results out")


def _by_cell(runs: pd.DataFrame, names: Sequence[str]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    order = {name: at for at, name in enumerate(names)}
    rank = {cell: at for at, cell in enumerate(dict.fromkeys(runs["cell"]))}
    groups = [((str(cell), str(name)), own) for (cell, name), own in runs.groupby(["cell", "model"])]
    return sorted(groups, key=lambda group: (rank[group[0][0]], order[group[0][1]]))


def _cell(runs: pd.DataFrame, name: str, cell: str, confidence: float) -> dict[str, Any]:
    """Return the results of one model in one cell."""
    measures = measure(runs)
    noise = sampling_variance(runs[f"{measures}_low"], runs[f"{measures}_high"])
    found = mean_interval(values_of(runs), noise, confidence)
    low, high = (max(found.low, 0.0), min(found.high, 1.0)) if measures == "success" else (found.low, found.high)
    steps = runs["steps_to_target"].astype(float) if "steps_to_target" in runs else np.full(len(runs), math.nan)
    median = float(np.median(np.nan_to_num(steps, nan=math.inf)))
    areas = [area_under_curve(run, measures) for _, run in runs.iterrows()]
    return {
        **{key: runs[key].iloc[0] for key in ("task", "difficulty", "horizon", "budget")},
        "cell": cell,
        "model": name,
        "measures": measures,
        "seeds": len(runs),
        "value": found.mean,
        "low": low,
        "high": high,
        "solved_seeds": int(runs["reached_target"].fillna(False).sum()) if "reached_target" in runs else None,
        "steps_to_target": median if math.isfinite(median) else math.nan,  # NaN: half of the seeds did not reach it
        "area": float(np.mean(areas)),  # NaN where a seed has no curve: means of other seeds cannot be compared
        **{key: runs[key].max() if key in runs else None for key in ("parameters", "state_floats")},
    }


def area_under_curve(run: pd.Series[Any], measures: str = "success") -> float:
    """Return the mean over training of what the evaluations on the way found; NaN without them.

    Each evaluation counts until the next one, the last one until the end of the budget, and before the first one the
    model is taken for a random one.
    """
    curve = read_curve(run)
    if curve is None or curve[measures].isna().all():
        return math.nan
    rows = curve.dropna(subset=[measures])
    steps, values = rows["env_steps"].to_numpy(float), rows[measures].to_numpy(float)
    end = max(float(run["budget"]) if run["budget"] == run["budget"] and run["budget"] else 0.0, steps[-1])
    start = run.get("random") if measures == "success" else None
    start = values[0] if start is None or start != start else float(start)
    return float(np.diff([0.0, *steps, end]) @ np.array([start, *values]) / end)


def _differences(runs: pd.DataFrame, names: Sequence[str], confidence: float) -> pd.DataFrame:
    groups = dict(_by_cell(runs, names))
    rows: list[dict[str, Any]] = []
    values = []
    for (cell, other), theirs in groups.items():
        own = groups.get((cell, names[0]))
        if own is None or other == names[0]:
            continue
        if measure(own) != measure(theirs):
            raise UsageError(f"{cell}: {names[0]} has a {measure(own)} and {other} a {measure(theirs)}")
        values.append((values_of(own), values_of(theirs)))
        found = t_test(*_by_seed(own), *_by_seed(theirs), confidence=confidence)
        kept = {"difference": found.interval.mean, "low": found.interval.low, "high": found.interval.high}
        rows.append({"cell": cell, "against": other, **kept, "test": found.test, "p": found.p})
    if not rows:
        raise UsageError(f"{names[0]} shares no cell (task, tier, horizon and budget of steps) with the other models")
    for row, corrected, both in zip(rows, holm([row["p"] for row in rows]), values, strict=True):
        row["p_holm"] = corrected
        row["verdict"] = verdict(row["difference"], corrected < 1 - confidence, *both, confidence)
    return import_pandas().DataFrame(rows)


def _by_seed(runs: pd.DataFrame) -> tuple[dict[int, float], dict[int, float]]:
    name = measure(runs)
    noise = np.nan_to_num(sampling_variance(runs[f"{name}_low"], runs[f"{name}_high"]))
    seeds = runs["seed"].tolist()
    values = values_of(runs).tolist()
    return dict(zip(seeds, values, strict=True)), dict(zip(seeds, noise.tolist(), strict=True))


def _model(runs: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return what a model is: the numbers of its parameters and its state, least and most, and how it was trained."""
    sizes: dict[str, Any] = {}
    for key in ("parameters", "state_floats"):
        known = runs[key].dropna() if key in runs else runs["seed"][:0]
        sizes |= {key: known.max() if len(known) else None, f"least_{key}": known.min() if len(known) else None}
    told = {key: "; ".join(sorted(set(runs[key]) - {""})) for key in ("variant", "recipe")}
    return {"model": name, "cells": runs["cell"].nunique(), "runs": len(runs), **sizes, **told}


def _overall(runs: pd.DataFrame, names: Sequence[str], confidence: float) -> list[dict[str, Any]]:
    """Return the aggregates over the cells that all models ran."""
    groups = dict(_by_cell(runs, names))
    cells = list(dict.fromkeys(cell for cell, _ in groups))
    unknown_ = Interval(math.nan, math.nan, math.nan)
    rows = []
    for name in names:
        own = [groups[cell, name] for cell in cells]
        scores = [one["score"].to_numpy(float) for one in own if "score" in one and one["score"].notna().all()]
        mean = stratified_iqm(scores, confidence=confidence) if scores else unknown_
        pairs = [(values_of(groups[cell, names[0]]), values_of(groups[cell, name])) for cell in cells]
        wins = probability_of_improvement(pairs, confidence=confidence) if pairs and name != names[0] else unknown_
        row: dict[str, Any] = {"model": name, "cells": len(cells), "scored_cells": len(scores)}
        for key, found in (("iqm", mean), ("first_is_better", wins)):
            row |= {key: found.mean, f"{key}_low": found.low, f"{key}_high": found.high}
        row["p"] = improvement_p(pairs) if pairs and name != names[0] else math.nan
        rows.append(row)
    return rows
