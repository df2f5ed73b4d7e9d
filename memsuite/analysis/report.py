"""One page of results that works offline: the solved map, curves, aggregates, costs, tables, and all commands."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.analysis import plots
from memsuite.analysis.compare import compare, summarise, with_ceilings
from memsuite.analysis.compare_tables import interval_text, missing, return_text
from memsuite.analysis.curves import read_curves
from memsuite.analysis.gap import observability_gaps
from memsuite.analysis.layout import write_csv
from memsuite.analysis.plots import canvas
from memsuite.analysis.plots.horizons import steps_by_horizon
from memsuite.analysis.results import CELL, SUPERVISED, labels, models_of, read_retention
from memsuite.errors import UsageError
from memsuite.files import write_atomically
from memsuite.shipped import extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BESIDE = ["task", "difficulty", "horizon", "budget"]  # what models that are compared have in common
MOST_UNEVEN = 2  # times the size of the smallest, beyond which the page says so
TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its file name, its heading, its caption, and its SVG."""

    name: str
    title: str
    caption: str
    svg: str


def write_report(table: pd.DataFrame, folder: Path, baseline: pd.DataFrame | None = None, title: str = "") -> Path:
    """Write ``index.html``, ``results.csv``, ``results.parquet`` and ``figures/`` into a folder.

    Args:
        table: the runs (:func:`memsuite.analysis.results.read_results`).
        folder: the output folder; created if it does not exist.
        baseline: runs to compare with, for a table of differences.
        title: title of the page.

    Returns:
        The path of the page.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise UsageError(f"a report needs jinja2: {extra('report')}") from error
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    pictures = [
        _saved(folder, name, heading, caption, figure)
        for name, heading, caption, figure in _figures(table)
        if figure is not None
    ]
    for name, write in (("results.csv", write_csv), ("results.parquet", _parquet)):
        write_atomically(folder / name, lambda file, write=write: write(table, file))  # type: ignore[misc]
    found = None if baseline is None else compare(table, baseline)
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text())
    text = page.render(
        title=title or "Memory benchmark results",
        pictures=pictures,
        facts=_facts(table),
        summary=_without_empty(_summary(table)),
        gaps=observability_gaps(table),
        cells=_without_empty(_cells(with_ceilings(summarise(table)))),
        differences=_without_empty(_differences(found)) if found is not None else None,
        missing=missing(found) if found is not None else "",
        runs=_without_empty(_runs(table)),
        commands=_commands(table),
    )
    write_atomically(folder / "index.html", lambda file: file.write(text.encode()))
    return folder / "index.html"


def _figures(table: pd.DataFrame) -> list[tuple[str, str, str, Figure | None]]:
    """Return every figure with its name, heading and caption; the figure is None for missing measurements.

    Ceilings appear in no figure: a model that was told the right actions is not compared with models that learnt them.
    """
    table = table[table["objective"] != SUPERVISED]
    if table.empty:
        return []
    names = table[["task", "controller", "variant"]]  # in which matplotlib would take what is between dollars for TeX
    table = table.assign(**{name: names[name].str.replace("$", r"\$", regex=False) for name in names})
    curves, retained = read_curves(table), read_retention(table)
    mapped = "Mean greedy success over seeds, and how many seeds reached the target of the tier; bold if all did."
    curve = "Greedy success during training: mean and range over seeds. Dotted: target. Grey: best without memory. "
    curve += "A seed that stopped at its target keeps its last value from there on."
    iqm = (
        "Interquartile mean of the score (0: the best memoryless policy, 1: the oracle) with 95% stratified bootstrap "
    )
    iqm += "intervals (Agarwal et al. 2021). Only models that ran the same cells are ranked, and stand together."
    kept = "Success at horizons beyond the trained one: mean and range over seeds."
    length = "Steps to the first evaluation that reached the target: each seed, and the median. "
    length += "A cross is a seed that did not reach it within its training steps."
    return [
        ("solved", "What is solved", mapped, plots.solved_map(table)),
        ("curves", "Learning curves", curve, plots.learning_curves(table, curves)),
        ("aggregate", "Over all tasks", iqm, plots.aggregate_scores(table)),
        ("profiles", "Performance profiles", "Share of runs above each score, 95% bands.", plots.profiles(table)),
        ("horizons", "Cost of a longer horizon", length, steps_by_horizon(table)),
        ("retention", "Beyond the horizon of training", kept, plots.retention_curves(table, retained)),
        ("cost", "Cost", "Training steps per second against the size of the state; a point per cell, larger for more "
         "parameters. Speeds of different machines are not comparable.", plots.cost(table)),
    ]  # fmt: skip


def _saved(folder: Path, name: str, title: str, caption: str, figure: Figure) -> Picture:
    plt = canvas.pyplot()
    buffer = io.StringIO()
    # The salt makes the identifiers unique to a picture, and the same in every run.
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        svg = buffer.getvalue()
        write_atomically(folder / "figures" / f"{name}.svg", lambda file: file.write(svg.encode()))
        figure.savefig(folder / "figures" / f"{name}.png", dpi=150)
    plt.close(figure)
    width = 72 * figure.get_figwidth()
    # Prefix the identifiers with the picture's name, because one page contains all pictures.
    inline = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    inline = inline.replace("<svg", f'<svg role="img" aria-label="{title}" style="--width: {width:.0f}px"', 1)
    return Picture(name, title, caption, inline)


def _parquet(table: pd.DataFrame, file: Any) -> None:
    """Write a table of columns of one kind each: what lists and other kinds there are as JSON."""
    mixed = [name for name in table if table[name].dtype == object and not _is_uniform(table[name])]
    uniform = table.assign(**{name: table[name].map(_as_json) for name in mixed})
    uniform.to_parquet(file, index=False)


def _is_uniform(column: pd.Series[Any]) -> bool:
    kinds = {type(value) for value in column.dropna()}
    return len(kinds) < 2 and kinds <= {str, bool, int, float}


def _as_json(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _facts(table: pd.DataFrame) -> dict[str, str]:
    """Return the summary at the top of the page: number of runs, hardware, versions, CPU time."""
    found = {"runs": str(len(table)), "seeds": ", ".join(map(str, sorted(set(table["seed"]))))}
    for column, wanted in (("hardware", ("cpu", "gpu")), ("versions", ("memsuite", "torch"))):
        values = [json.loads(text) for text in table[column].dropna()] if column in table else []
        for name in wanted:
            if seen := sorted({str(value[name]) for value in values if value.get(name)}):
                found[name] = ", ".join(seen)
    if "commit" in table:
        found["commit"] = ", ".join(sorted({str(value)[:12] for value in table["commit"].dropna()}))
    if "cpu_seconds" in table:
        found["CPU time"] = f"{table['cpu_seconds'].sum() / 3600:.1f} hours"
    if uneven := uneven_sizes(table):
        found["sizes"] = uneven
    return found


def uneven_sizes(table: pd.DataFrame) -> str:
    """Say where models that stand side by side in a cell differ in size by more than a factor of two; empty if none do.

    What is compared then is not the models alone; ``--match`` makes them of one size.
    """
    worst = []
    for column, name in (("parameters", "parameters"), ("state_floats", "state")):
        sized = table[table[column] > 0] if column in table else table[:0]
        if sized.empty:
            continue
        sized = sized.assign(model=models_of(sized))
        for _, own in sized.groupby(BESIDE, dropna=False):
            least, most = own.loc[own[column].idxmin()], own.loc[own[column].idxmax()]
            if most[column] > MOST_UNEVEN * least[column]:
                ends = f"{least[column]:,.0f} ({least['model']}) to {most[column]:,.0f} ({most['model']})"
                worst.append((most[column] / least[column], name, f"{name} from {ends} in one cell"))
    if not worst:
        return ""
    largest = {name: max(one for one in worst if one[1] == name)[2] for name in dict.fromkeys(one[1] for one in worst)}
    return f"unequal: {'; '.join(largest.values())}. Models of one size: --match (docs/controllers.md)"


def _number(value: Any, digits: int = 3) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:,.{digits}f}"


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return headings and rows of the table at the top: one row per model, whatever the number of runs."""
    table = table[table["objective"] != SUPERVISED]
    table = table.assign(model=models_of(table)) if len(table) else table.assign(model="")
    headings = ["model", "parameters", "state", "cells", "runs", "runs at the target", "cells solved", "CPU hours"]
    rows = []
    for name, own in table.groupby("model"):
        at_target = own["reached_target"].fillna(False).astype(bool) if "reached_target" in own else own["seed"] < 0
        cells = own.assign(solved=at_target).groupby(CELL, dropna=False)["solved"].all()
        sizes = [_number(own[key].max(), 0) if key in own else "" for key in ("parameters", "state_floats")]
        hours = _number(own["cpu_seconds"].sum() / 3600, 1) if "cpu_seconds" in own else ""
        counts = [f"{len(cells)}", f"{len(own)}", f"{at_target.sum()}", f"{cells.sum()}"]
        rows.append([str(name), *sizes, *counts, hours])
    return {"headings": headings, "rows": rows}


def _cells(cells: pd.DataFrame) -> dict[str, Any]:
    """Return headings and rows of the table of cells."""
    names = labels(cells)
    headings = ["task", "controller", "settings", "parameters", "state", "seeds", "success", "95% interval"]
    headings += ["return", "its interval", "target", "solved", "ceiling", "score", "steps to target", "steps / s"]
    rows = []
    for index, row in cells.iterrows():
        sizes = [_number(row.get(name), 0) for name in ("parameters", "state_floats")]
        results = [_number(row["success"]), interval_text(row, "success", 3)]
        results += return_text(row, "return")
        scored = row["success"] == row["success"]
        seeds, solved = _number(row["seeds"], 0), _number(row.get("solved_seeds"), 0) if scored else ""
        texts = [*names.loc[index][["cell", "model", "apart"]], *sizes, seeds, *results]
        texts += [_number(row.get("target_success"), 2), f"{solved}/{seeds}" if solved else ""]
        texts += [_number(row["ceiling"]), _number(row.get("score"))]
        rows.append([*texts, *(_number(row.get(name), 0) for name in ("steps_to_target", "steps_per_second"))])
    return {"headings": headings, "rows": rows}


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    """Remove the columns that are empty in every row."""
    kept = [i for i in range(len(table["headings"])) if any(row[i] for row in table["rows"])]
    rows = [[row[i] for i in kept] for row in table["rows"]]
    return {"headings": [table["headings"][i] for i in kept], "rows": rows}


def _differences(found: pd.DataFrame) -> dict[str, Any]:
    """Return headings and rows of the comparison with the baseline; what is missing is told in a line beside it."""
    names = labels(found)
    rows = []
    for index, row in found[found["verdict"] != "missing"].iterrows():
        interval = "" if row["difference_low"] != row["difference_low"] else (
            f"{row['difference_low']:+.3f} to {row['difference_high']:+.3f}"
        )  # fmt: skip
        values = [_number(row[name]) for name in ("new", "old", "difference")]
        rows.append([*names.loc[index][["cell", "model", "apart"]], *values, interval, row["verdict"]])
    headings = ["task", "controller", "settings", "here", "baseline", "difference", "interval", "verdict"]
    return {"headings": headings, "rows": rows}


def _runs(table: pd.DataFrame) -> dict[str, Any]:
    """Return headings and rows of the table of runs, one row per seed."""
    names = labels(table)
    headings = ["task", "controller", "settings", "seed", "success", "95% interval", "return", "its interval"]
    numbers = {"score": 3, "env_steps": 0, "steps_to_target": 0, "cpu_seconds": 0}
    unscored = table["success"].isna()
    rows = []
    for index, row in table.iterrows():
        results = [_number(row["success"]), interval_text(row, "success", 3), "", ""]
        if unscored[index]:  # where decisions are scored, the return says the same
            results[2:] = return_text(row, "return_mean")
        rest = [_number(row.get(name), digits) for name, digits in numbers.items()]
        rows.append([*names.loc[index][["cell", "model", "apart"]], str(row["seed"]), *results, *rest])
    return {"headings": [*headings, "score", "steps", "steps to target", "CPU s"], "rows": rows}


def _commands(table: pd.DataFrame) -> list[str]:
    return [str(text) for text in table["command"].dropna()] if "command" in table else []
