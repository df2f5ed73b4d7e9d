"""The figures of a report: each function turns tidy tables into a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.compare import group_cells, summarise
from memsuite.analysis.results import CELL, labels
from memsuite.analysis.stats import iqm, performance_profile, stratified_bootstrap
from memsuite.errors import UsageError
from memsuite.runs.config import DIFFICULTIES
from memsuite.shipped import extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Distinguishable with colour vision deficiencies too (Wong 2011, and Tol's); the first colours differ most.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255", "#117733", "#AA4499")
DASHES = ("-", "--", "-.", ":")
INK, FAINT = "#222222", "#bbbbbb"
SETTINGS = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.edgecolor": "#666666",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}


def pyplot() -> Any:
    """Import matplotlib without a display; raise :class:`UsageError` with the extra to install if it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(f"figures need matplotlib: {extra('report')}") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def models_of(table: pd.DataFrame) -> list[str]:
    """Return a name for every row: the controller, and the settings that distinguish its cells."""
    names = labels(table)
    return [f"{a} ({b})" if b else a for a, b in zip(names["model"], names["apart"], strict=True)]


def styles_of(models: list[str]) -> dict[str, dict[str, Any]]:
    """Give every model a colour, and another dash once all colours are used."""
    order = sorted(set(models))
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        for i, name in enumerate(order)
    }


def solved_map(table: pd.DataFrame) -> Figure:
    """Draw tasks by controllers: mean success as a colour, and the fraction of seeds that reached the target."""
    plt = pyplot()
    cells = summarise(table)
    cells["model"], cells["cell"] = models_of(cells), labels(cells)["cell"]
    models, rows = sorted(set(cells["model"])), _in_order(cells)
    with plt.rc_context(SETTINGS):
        names = [model.replace(", ", ",\n").replace(" (", "\n(") for model in models]  # one setting per line
        longest = max(len(line) for name in names for line in name.split("\n"))
        size = (3.2 + 0.8 * len(models) + 0.04 * longest, 1.2 + 0.07 * longest + 0.42 * len(rows))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        values = np.full((len(rows), len(models)), np.nan)
        for _, cell in cells.iterrows():
            values[rows.index(cell["cell"]), models.index(cell["model"])] = cell["success"]
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for _, cell in cells.iterrows():
            solved = cell.get("solved_seeds", 0)
            text = f"{cell['success']:.2f}  {solved}/{cell['seeds']}"
            bold = "bold" if solved == cell["seeds"] else "normal"
            at = (models.index(cell["model"]), rows.index(cell["cell"]))
            colour = "white" if cell["success"] < 0.55 else "black"
            axes.text(*at, text, ha="center", va="center", fontsize=8.5, fontweight=bold, color=colour)
        axes.set_xticks(range(len(models)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="mean success", fraction=0.05, pad=0.02, aspect=8 + len(rows))
        return figure  # type: ignore[no-any-return]


def _in_order(cells: pd.DataFrame) -> list[str]:
    order = {name: index for index, name in enumerate(DIFFICULTIES)}
    keyed = {
        row["cell"]: (order.get(row["difficulty"], 9), row["task"], row["horizon"], row["budget"] or 0)
        for _, row in cells.iterrows()
    }
    return sorted(keyed, key=lambda name: keyed[name])


def learning_curves(table: pd.DataFrame, curves: pd.DataFrame) -> Figure | None:
    """Draw greedy success against environment steps: mean and range over seeds; None without curves.

    A seed that stopped at its target keeps its last value from there on.
    """
    if curves.empty:
        return None
    plt = pyplot()
    table = table.assign(model=models_of(table), cell=labels(table)["cell"])
    styles, rows = styles_of(table["model"].tolist()), _in_order(table)
    with plt.rc_context(SETTINGS):
        figure, panels = _panels(plt, len(rows))
        for panel, name in zip(panels, rows, strict=False):
            own = table[table["cell"] == name]
            for key, runs in group_cells(own).items():
                drawn = [_curve(curves, key, seed) for seed in runs["seed"]]
                if any(len(curve) for curve in drawn):
                    _band(panel, [curve for curve in drawn if len(curve)], runs["model"].iloc[0], styles)
            if "target_success" in own:
                panel.axhline(own["target_success"].iloc[0], color=FAINT, linewidth=1, linestyle=":")
            if "chance" in own:
                panel.axhline(own["chance"].iloc[0], color=FAINT, linewidth=1)
            panel.set(title=name, ylim=(-0.03, 1.03))
        _finish(figure, panels, len(rows), "environment steps", "greedy success")
        return figure  # type: ignore[no-any-return]


def _panels(plt: Any, count: int) -> tuple[Any, list[Any]]:
    across = min(3, count)
    down = -(-count // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.4 * across + 0.4, 2.6 * down + 0.8), squeeze=False, layout="constrained"
    )
    return figure, list(axes.ravel())


def _finish(figure: Any, panels: list[Any], used: int, x: str, y: str) -> None:
    """Label the axes once, put one legend below all panels, and remove the unused panels."""
    handles: dict[str, Any] = {}
    for panel in panels[:used]:
        handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        panel.xaxis.set_major_formatter(thousands) if x == "environment steps" else None
    for panel in panels[used:]:
        panel.remove()
    across = min(3, used)
    for index, panel in enumerate(panels[:used]):  # a label of the whole figure would overlap the legend outside
        panel.set_xlabel(x if index + across >= used else "")
        panel.set_ylabel(y if index % across == 0 else "")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, max(1, len(handles))))


def thousands(value: float, _: Any = None) -> str:
    """Write a number of steps briefly: ``200k``, ``1.5M``."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value else "0"


def _curve(curves: pd.DataFrame, key: tuple[Any, ...], seed: int) -> Any:
    own = curves[curves["seed"] == seed]
    for name, value in zip(CELL, key, strict=True):
        own = own[own[name].isna()] if value is None else own[own[name] == value]
    return own[["env_steps", "success"]].to_numpy(float)


def _band(panel: Any, drawn: list[Any], name: str, styles: dict[str, dict[str, Any]]) -> None:
    steps = np.unique(np.concatenate([curve[:, 0] for curve in drawn]))
    begin = max(curve[0, 0] for curve in drawn)
    steps = steps[steps >= begin]
    values = np.stack([curve[np.searchsorted(curve[:, 0], steps, side="right") - 1, 1] for curve in drawn])
    panel.plot(steps, values.mean(0), label=name, linewidth=1.6, **styles[name])
    panel.fill_between(steps, values.min(0), values.max(0), color=styles[name]["color"], alpha=0.15, linewidth=0)


def _scores(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return, for every model, the scores of its runs: one row per task and tier."""
    table = table.assign(model=models_of(table))
    found: dict[str, list[Any]] = {}
    for (model, *_), runs in table.groupby(["model", "task", "difficulty", "horizon", "budget"], dropna=False):
        found.setdefault(str(model), []).append(runs["score"].to_numpy(float))
    return found


def aggregate_scores(table: pd.DataFrame) -> Figure:
    """Draw the interquartile mean of the scores of every model, with stratified bootstrap intervals."""
    plt = pyplot()
    found = {name: stratified_bootstrap(rows, iqm) for name, rows in _scores(table).items()}
    counts = {name: len(rows) for name, rows in _scores(table).items()}
    order, styles = sorted(found, key=lambda name: found[name].mean), styles_of(list(found))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(6.6, 0.9 + 0.36 * len(order)), layout="constrained")
        for at, name in enumerate(order):
            one, colour = found[name], styles[name]["color"]
            axes.plot([one.low, one.high], [at, at], color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
            axes.plot([one.mean] * 2, [at - 0.3, at + 0.3], color=colour, linewidth=2.4)
        axes.set_yticks(range(len(order)), [f"{name} ({counts[name]} cells)" for name in order])
        axes.set(xlabel="interquartile mean of the score", ylim=(-0.6, len(order) - 0.4))
        axes.set_xlim(min(0.0, *(one.low for one in found.values())) - 0.02, 1.02)
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
        return figure  # type: ignore[no-any-return]


def profiles(table: pd.DataFrame) -> Figure:
    """Draw the share of runs whose score is above each threshold (Dolan & More 2002)."""
    plt = pyplot()
    scores, thresholds = _scores(table), np.linspace(0, 1, 101)
    styles = styles_of(list(scores))
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
        for name, rows in scores.items():
            share, low, high = performance_profile(rows, thresholds)
            axes.plot(thresholds, share, label=name, linewidth=1.6, **styles[name])
            axes.fill_between(thresholds, low, high, color=styles[name]["color"], alpha=0.12, linewidth=0)
        axes.set(xlabel="score", ylabel="share of runs above it", xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(loc="outside right upper", fontsize=9)
        return figure  # type: ignore[no-any-return]


def cost(table: pd.DataFrame) -> Figure | None:
    """Draw training speed against the size of the state, a point per controller and horizon; None without the data."""
    plt = pyplot()
    numbers = ["parameters", "state_floats", "steps_per_second"]
    cells = summarise(table).astype(dict.fromkeys(numbers, float)).dropna(subset=numbers)
    if cells.empty:
        return None
    cells = cells.assign(model=models_of(cells))
    styles = styles_of(cells["model"].tolist())
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
        for model, own in cells.groupby("model"):
            size = 12 + 6 * np.log10(own["parameters"].to_numpy(float))
            axes.scatter(
                own["state_floats"],
                own["steps_per_second"],
                s=size,
                color=styles[model]["color"],
                marker="osD^"[DASHES.index(styles[model]["linestyle"])],
                alpha=0.7,
                label=model,
            )
        axes.set(xscale="log", yscale="log", xlabel="numbers in the state of an episode", ylabel="training steps / s")
        figure.legend(loc="outside right upper", fontsize=9)
        return figure  # type: ignore[no-any-return]


def retention_curves(table: pd.DataFrame, retained: pd.DataFrame) -> Figure | None:
    """Draw success against the evaluated horizon, far beyond training; None if it was not measured."""
    if retained.empty:
        return None
    plt = pyplot()
    retained = retained.reset_index(drop=True)
    retained = retained.assign(model=models_of(retained), cell=labels(retained)["cell"])
    styles, rows = styles_of(models_of(table)), _in_order(retained)
    styles = styles_of(retained["model"].tolist()) | styles
    with plt.rc_context(SETTINGS):
        figure, panels = _panels(plt, len(rows))
        for panel, name in zip(panels, rows, strict=False):
            for model, own in retained[retained["cell"] == name].groupby("model"):
                by = own.groupby("evaluated_horizon")["success"]
                panel.plot(by.mean().index, by.mean(), label=model, marker="o", markersize=3, **styles[model])
                panel.fill_between(by.mean().index, by.min(), by.max(), color=styles[model]["color"], alpha=0.15)
            panel.axvline(own["horizon"].iloc[0], color=FAINT, linewidth=1, linestyle=":")
            panel.set(title=name, xscale="log", ylim=(-0.03, 1.03))
        _finish(figure, panels, len(rows), "steps of an episode (trained at the dotted line)", "greedy success")
        return figure  # type: ignore[no-any-return]


def success_beyond(reports: list[dict[str, Any]]) -> Figure:
    """Draw success against the evaluated horizon, one curve per run of ``memsuite retention``."""
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        for index, report in enumerate(reports):
            rows, colour = report["rows"], COLOURS[index % len(COLOURS)]
            steps = [row["horizon"] for row in rows]
            name = f"{report['controller']}, seed {report['seed']}, trained at {report['trained_horizon']:,}"
            axes.plot(steps, [row["success"] for row in rows], color=colour, marker="o", markersize=3.5, label=name)
            ends = [[row[end] for row in rows] for end in ("success_low", "success_high")]
            axes.fill_between(steps, *ends, color=colour, alpha=0.15, linewidth=0)
            axes.axvline(report["trained_horizon"], color=colour, linewidth=1, linestyle=":")
        axes.plot(steps, [row["chance"] for row in rows], color=FAINT, linewidth=1, label="best without memory")
        axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel="steps of an episode", ylabel="greedy success")
        axes.set_title(f"{reports[0]['task']}, {reports[0]['difficulty']}")
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        return figure  # type: ignore[no-any-return]
