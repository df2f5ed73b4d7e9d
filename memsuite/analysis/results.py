"""Finished runs as one tidy table: a row for every run, whatever folder or file it lies in."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.tasks import DIFFICULTIES, TASKS, get_task_config

if TYPE_CHECKING:
    import pandas as pd

# What tells one cell of results from another; the seeds are what is repeated.
CELL = ["task", "difficulty", "horizon", "controller", "variant", "budget"]
NEEDED = ("task", "difficulty", "horizon", "controller", "seed", "success", "success_low", "success_high")
UNKNOWN_AS_NULL = NEEDED[5:]  # where no decision is scored
# What is read of a result, and its kind; null, or nothing at all, is a value that is not known.
KINDS: dict[str, tuple[tuple[type, ...], tuple[str, ...]]] = {
    "a text": ((str,), ("task", "difficulty", "controller")),
    "a whole number": ((int,), ("horizon", "seed")),
    "a number": (
        (int, float),
        (
            *("success", "success_low", "success_high", "score", "chance", "target_success", "env_steps"),
            *("steps_to_target", "steps_per_second", "cpu_seconds", "parameters", "state_floats"),
        ),
    ),
    "true or false": ((bool,), ("reached_target",)),
    "a mapping": ((dict,), ("config", "curriculum", "hardware", "versions")),
}
SETTINGS = ("ppo", "controller_args", "task_args")  # mappings within the configuration


def import_pandas() -> Any:
    """Import pandas; :class:`UsageError` that names the extra if it is not there."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError("this needs pandas and scipy: pip install 'memsuite[report]'") from error
    return pandas


def read_results(path: str | Path) -> pd.DataFrame:
    """Read every run under a folder, or in a file of results, sorted by cell and seed.

    A folder is searched for ``result.json``; a run without one is not finished and not counted. A file holds a list of
    such results, or mappings of them (``results/reference.json``).

    Returns:
        A table with the fields of ``result.json``; ``hardware``, ``versions`` and ``config`` as JSON text; ``variant``,
        what of the settings is not the default, and the curriculum if there was one; ``budget``, the steps that were
        asked for; and ``folder``.

    Raises:
        UsageError: nothing there, or not results.
    """
    pandas = import_pandas()
    path = Path(path)
    if path.is_dir():
        files = sorted(path.rglob("result.json"))
        runs = [{**_read(file), "folder": str(file.parent)} for file in files]
        if not runs:
            raise UsageError(f"no finished run (result.json) under {path}")
    elif path.is_file():
        runs = _runs_in(_read(path))
        if not runs:
            raise UsageError(f"{path} holds no results")
    else:
        raise UsageError(f"no results at {path}")
    for run in runs:
        _check(run, str(run.get("folder", path)))
    table = pandas.DataFrame([_row(run) for run in runs])
    numbers = [name for name in KINDS["a number"][1] if name in table]
    # Where no run knows a number its column would hold None, which is no number to compare or to print.
    table = _in_order(table.assign(**{name: pandas.to_numeric(table[name]) for name in numbers}))
    again = table[table.duplicated([*CELL, "seed"])]
    if len(again):
        one = again.iloc[0]
        raise UsageError(
            f"{path} holds {cell_name(one)} seed {one['seed']} more than once; a seed counts once, so keep one of them"
        )
    return table


def _check(run: dict[str, Any], where: str) -> None:
    """Refuse what is no result, before it is added up with others."""
    for name in NEEDED:
        value = run.get(name, "")
        if value == "" or (value is None and name not in UNKNOWN_AS_NULL):
            raise UsageError(f"{where} holds no result of memsuite's: it has no {name!r}")
    for kind, (types, names) in KINDS.items():
        for name in names:
            _require(where, name, run.get(name), kind, types)
    config, used = run.get("config") or {}, run.get("curriculum") or {}
    for name in SETTINGS:
        _require(where, f"config.{name}", config.get(name), "a mapping", (dict,))
    for name in ("argument", "start", "factor") if used else ():
        if name not in used:
            raise UsageError(f"{where}: curriculum has no {name!r}")


def _require(where: str, name: str, value: Any, kind: str, types: tuple[type, ...]) -> None:
    if value is None:
        return
    fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and math.isinf(value)):
        raise UsageError(f"{where}: {name} is {value!r}; it must be {kind}")


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort runs by cell and seed, the tiers from easy to extreme."""
    order = {name: index for index, name in enumerate(DIFFICULTIES)}
    table = table.assign(_order=table["difficulty"].map(order)).sort_values(["task", "_order", *CELL[2:], "seed"])
    return table.drop(columns="_order").reset_index(drop=True)


def collect_results(path: str | Path) -> dict[str, Any]:
    """Return the results of all finished runs under a folder as one object, which :func:`read_results` reads again."""
    files = sorted(Path(path).rglob("result.json"))
    if not files:
        raise UsageError(f"no finished run (result.json) under {path}")
    return {"runs": [_read(file) for file in files]}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not JSON: {type(error).__name__}") from error


def _runs_in(content: Any) -> list[dict[str, Any]]:
    """Find the results in nested lists and mappings."""
    if isinstance(content, dict) and "success" in content and "seed" in content:
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [run for part in parts for run in _runs_in(part)]


def _row(run: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in run.items() if not isinstance(value, dict)}
    nested = {key: json.dumps(value, sort_keys=True) for key, value in run.items() if isinstance(value, dict)}
    config = run.get("config") or {}
    differs = ", ".join(part for part in (variant(config), _curriculum(run)) if part)
    return {**plain, **nested, "variant": differs, "budget": config.get("steps")}


def _curriculum(run: dict[str, Any]) -> str:
    """Mark a run that was trained on a curriculum: another experiment than training at full length."""
    used = run.get("curriculum")
    return "" if not used else f"curriculum={used['argument']} from {used['start']} x {used['factor']:g}"


def variant(config: dict[str, Any]) -> str:
    """Name what of a run's settings is not the default, such as ``depth=2, epochs=8``; empty if all is."""
    from memsuite.rl import NUM_ENVS, PPOConfig

    ppo = config.get("ppo") or {}
    usual = asdict(PPOConfig())
    found = _arguments(config)
    if config.get("num_envs", NUM_ENVS) != NUM_ENVS:
        found["num_envs"] = config["num_envs"]
    found |= {key: value for key, value in ppo.items() if key in usual and value != usual[key]}
    return ", ".join(f"{key}={value}" for key, value in sorted(found.items()))


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of controller and task that are not their defaults.

    All that were given, for classes of somebody's own: reading results imports none of them.
    """
    usual: dict[str, Any] = {}
    controller, task = config.get("controller"), config.get("task")
    if controller in CONTROLLERS:
        parameters = inspect.signature(CONTROLLERS[controller]).parameters
        # A memory horizon's default is the task's; null, the signature's, asks for none.
        usual = {name: parameter.default for name, parameter in parameters.items() if name != "memory_horizon"}
    if task in TASKS:
        usual |= get_task_config(task, config.get("difficulty", "medium")).arguments()
    given = dict(config.get("controller_args") or {}) | dict(config.get("task_args") or {})
    return {name: value for name, value in given.items() if name not in usual or value != usual[name]}


def cell_name(row: Any) -> str:
    """Name a cell in full: ``delayed_cue-medium H=200 gru (depth=2), 200000 steps``."""
    text = f"{row['task']}-{row['difficulty']} H={row['horizon']} {row['controller']}"
    text += f" ({row['variant']})" if row["variant"] else ""
    return f"{text}, {row['budget']:.0f} steps" if row["budget"] and row["budget"] == row["budget"] else text


def labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Name the cells of a table as briefly as tells them apart: columns ``cell`` (task and tier), ``model``, ``apart``.

    A horizon or a budget is named where a tier has several, a setting where not all cells share it.
    """
    parts = [set(text.split(", ")) - {""} for text in rows["variant"]]
    common = set.intersection(*parts) if parts else set()
    tiers = rows.fillna({"budget": -1}).groupby(["task", "difficulty"])
    horizons, budgets = (tiers[name].transform("nunique") for name in ("horizon", "budget"))
    names = []
    for (_, row), own, lengths, costs in zip(rows.iterrows(), parts, horizons, budgets, strict=True):
        cell = f"{row['task']}-{row['difficulty']}" + (f" H={row['horizon']}" if lengths > 1 else "")
        if costs > 1:
            cell += f" {row['budget'] / 1000:g}k steps" if row["budget"] == row["budget"] else " default steps"
        names.append({"cell": cell, "model": row["controller"], "apart": ", ".join(sorted(own - common))})
    return import_pandas().DataFrame(names, index=rows.index)


def read_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Read the evaluations on the way of every run that has a folder: CELL, seed, env_steps, success."""
    pandas = import_pandas()
    parts = []
    for _, run in table.iterrows():
        file = Path(str(run.get("folder", ""))) / "metrics.csv"
        if not file.is_file():
            continue
        rows = pandas.read_csv(file)
        if "evaluation_success" not in rows:
            continue
        rows = rows.dropna(subset="evaluation_success")[["env_steps", "evaluation_success"]]
        rows = rows.rename(columns={"evaluation_success": "success"})
        parts.append(rows.assign(seed=run["seed"], **{key: run[key] for key in CELL}))
    columns = [*CELL, "seed", "env_steps", "success"]
    return pandas.concat(parts)[columns] if parts else pandas.DataFrame(columns=columns)


def read_retention(table: pd.DataFrame) -> pd.DataFrame:
    """Read what ``memsuite retention`` measured of the runs: CELL, seed, evaluated_horizon, success, retention."""
    pandas = import_pandas()
    parts = []
    for _, run in table.iterrows():
        file = Path(str(run.get("folder", ""))) / "retention.json"
        if file.is_file():
            rows = pandas.DataFrame(_read(file)["rows"]).rename(columns={"horizon": "evaluated_horizon"})
            parts.append(rows.assign(seed=run["seed"], **{key: run[key] for key in CELL}))
    return pandas.concat(parts) if parts else pandas.DataFrame(columns=[*CELL, "seed", "evaluated_horizon", "success"])
