"""Finished runs as one tidy table: one row per run, from a folder or a file."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.errors import UsageError
from memsuite.runs import RunResult
from memsuite.runs.checkpoints import is_of_another
from memsuite.runs.collection import check_values, find_runs, in_order, read_json
from memsuite.runs.config import DIFFICULTIES
from memsuite.runs.folder import RETENTION
from memsuite.runs.recipes import nearest_recipe
from memsuite.runs.result import KIND_OF
from memsuite.shipped import extra

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("memsuite")
# The columns that identify a cell of results; the seeds are its repetitions.
CELL = ["task", "difficulty", "horizon", "controller", "variant", "recipe", "budget", "objective"]
SETTING = CELL[:-1]  # the columns that a cell shares with its ceiling, which is trained with the right actions
SUPERVISED = "supervised"  # the objective of a ceiling
BETWEEN_SETTINGS = re.compile(r", (?=[\w.]+=)")  # not the commas within a value such as mask=[1, 3]
NUMBERS = [
    name for name, kind in KIND_OF.items() if kind in ("int", "float") and name not in ("seed", "horizon", "schema")
]


def import_pandas() -> Any:
    """Import pandas; raise :class:`UsageError` with the extra to install if it is missing."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError(f"this needs pandas and scipy: {extra('report')}") from error
    return pandas


def read_results(*paths: str | Path) -> pd.DataFrame:
    """Read every run under folders, or in files of results, sorted by cell and seed.

    A folder is searched for ``result.json``; a run without one is not finished and is ignored. A file holds JSON Lines
    (``results/reference.jsonl``, :mod:`memsuite.runs.collection`), or JSON with lists and mappings of results. A name
    such as ``reference`` is that of a file that comes with memsuite.

    Returns:
        A table with the fields of ``result.json``; ``hardware``, ``versions`` and ``config`` as JSON text; ``variant``,
        the settings that differ from the recipe, and the curriculum if there was one; ``budget``, the requested number
        of steps; and ``folder``.

    Raises:
        UsageError: a path has no results or invalid ones, or a seed occurs twice in a cell.
    """
    pandas = import_pandas()
    found = runs_at(*paths)
    rows = [_row(run, where) | ({"folder": where} if Path(where).is_dir() else {}) for where, run in found]
    table = pandas.DataFrame(rows)
    numbers = [name for name in NUMBERS if name in table]
    # A number that no run has would be a column of None, which cannot be compared or printed as a number.
    table = table.assign(**{name: pandas.to_numeric(table[name]) for name in numbers})
    _check_once(table, [where for where, _ in found])
    return _in_order(table)


def runs_at(*paths: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the runs at all paths, each with where it was found; what two paths both lead to is read once."""
    found: list[tuple[str, dict[str, Any]]] = []
    before: set[Path] = set()
    for path in paths:
        here = set()
        for where, run in find_runs(path):
            place = Path(where if Path(where).is_dir() else path).resolve()
            if place not in before:
                found.append((where, run))
            here.add(place)
        before |= here
    return found


def _check_once(table: pd.DataFrame, places: list[str]) -> None:
    """Refuse a seed that is there twice; it would count as twice the evidence."""
    first: dict[tuple[Any, ...], str] = {}
    for (_, run), place in zip(table.iterrows(), places, strict=True):
        key = tuple(None if run[name] != run[name] else run[name] for name in [*CELL, "seed"])
        if key in first:
            raise UsageError(
                f"{cell_name(run)} seed {run['seed']} is there more than once, in {first[key]} and in {place}; "
                "a seed counts once, so keep one of them"
            )
        first[key] = place


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by cell and seed, the tiers from easy to extreme."""
    order = {name: index for index, name in enumerate(DIFFICULTIES)}
    table = table.assign(_order=table["difficulty"].map(order)).sort_values(["task", "_order", *CELL[2:], "seed"])
    return table.drop(columns="_order").reset_index(drop=True)


def _row(run: dict[str, Any], where: str) -> dict[str, Any]:
    check_values(run, where)
    result = RunResult.read(run, where)
    known = {name: value for name, value in result.as_dict().items() if name in run or value is not None}
    values = in_order({**run, **known})
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    nested = {key: json.dumps(value, sort_keys=True) for key, value in values.items() if isinstance(value, dict)}
    recipe, text = variant(result)
    differs = ", ".join([text] * bool(text) + result.besides())
    return {**plain, **nested, "variant": differs, "recipe": recipe, "budget": result.config.get("steps")}


def variant(result: RunResult) -> tuple[str, str]:
    """Return the name of the nearest recipe, and the settings that differ from it, such as ``depth=2, epochs=8``."""
    recipe, found = nearest_recipe(result.config, result.steps_to_remember)
    return recipe, ", ".join(f"{key}={value}" for key, value in sorted(found.items()))


def parts_of(variant: str, recipe: str = "") -> set[str]:
    """Return the settings that a variant's text lists, and the recipe that they differ from."""
    return {*BETWEEN_SETTINGS.split(variant), f"recipe={recipe}" if recipe else ""} - {""}


def cell_name(row: Any) -> str:
    """Return the full name of a cell: ``delayed_cue-medium H=200 gru (depth=2), 200000 steps``."""
    text = f"{row['task']}-{row['difficulty']} H={row['horizon']} {row['controller']}"
    text += f" ({row['variant']})" if row["variant"] else ""
    text += f", {SUPERVISED}" if row["objective"] == SUPERVISED else ""
    return f"{text}, {row['budget']:.0f} steps" if row["budget"] and row["budget"] == row["budget"] else text


def labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the shortest distinct names of cells: columns ``cell`` (task and tier), ``model`` and ``apart``.

    A horizon or a budget is named if its tier has several, a setting or a recipe if not all cells share it, and a
    ceiling always (``supervised``).
    """
    recipes = rows["recipe"] if "recipe" in rows else [""] * len(rows)
    parts = [parts_of(*each) for each in zip(rows["variant"], recipes, strict=True)]
    common = set.intersection(*parts) if parts else set()
    tiers = rows.fillna({"budget": -1}).groupby(["task", "difficulty"])
    horizons, budgets = (tiers[name].transform("nunique") for name in ("horizon", "budget"))
    names = []
    for (_, row), own, lengths, costs in zip(rows.iterrows(), parts, horizons, budgets, strict=True):
        cell = f"{row['task']}-{row['difficulty']}" + (f" H={row['horizon']}" if lengths > 1 else "")
        if costs > 1:
            unit, name = (1e6, "M") if row["budget"] >= 1e6 else (1e3, "k")
            cell += f" {row['budget'] / unit:g}{name} steps" if row["budget"] == row["budget"] else " default steps"
        own = own - common | ({SUPERVISED} if row.get("objective") == SUPERVISED else set())
        names.append({"cell": cell, "model": row["controller"], "apart": ", ".join(sorted(own))})
    return import_pandas().DataFrame(names, index=rows.index)


def models_of(rows: pd.DataFrame) -> list[str]:
    """Return a name for every row: the controller, and in brackets the settings that distinguish its cells.

    A width that differs from task to task, as between networks of equal size, makes no other model of a controller.
    """
    names = labels(rows)
    settings = [BETWEEN_SETTINGS.split(text) for text in names["apart"]]
    bare = [", ".join(one for one in own if not one.startswith("hidden_dim=")) for own in settings]
    shown = rows[["task", "difficulty", "horizon", "budget"]].assign(
        model=names["model"], bare=bare, full=names["apart"]
    )
    in_a_cell = shown.groupby([*shown.columns[:-1]], dropna=False)["full"].transform("nunique")
    several = in_a_cell.groupby([shown["model"], shown["bare"]]).transform("max") > 1
    told = shown["bare"].where(~several, shown["full"])
    return [f"{model} ({text})" if text else model for model, text in zip(shown["model"], told, strict=True)]


def read_retention(table: pd.DataFrame) -> pd.DataFrame:
    """Read the measurements of ``memsuite retention``: CELL, seed, evaluated_horizon, success, retention."""
    pandas = import_pandas()
    parts = []
    for _, run in table.iterrows():
        file = Path(str(run.get("folder", ""))) / RETENTION
        if file.is_file():
            with told(file):
                content = read_json(file)
                rows = pandas.DataFrame(content["rows"]).rename(columns={"horizon": "evaluated_horizon"})
                if is_of_another(content.get("checkpoint"), file.parent):
                    log.warning("%s is of an earlier checkpoint, and left out; memsuite retention measures again", file)
                    continue
                for name in ("evaluated_horizon", "success", "retention"):
                    rows[name] = pandas.to_numeric(rows[name])
            parts.append(rows.assign(seed=run["seed"], **{key: run[key] for key in CELL}))
    return pandas.concat(parts) if parts else pandas.DataFrame(columns=[*CELL, "seed", "evaluated_horizon", "success"])


@contextmanager
def told(file: Path | str) -> Iterator[None]:
    """Turn what goes wrong in reading a file of numbers into one line that names it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{file} does not hold the numbers of a run ({type(error).__name__})") from error
