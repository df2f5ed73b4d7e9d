"""A figure of a comparison of models: their results in every cell, and what holds over all cells."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from memsuite.analysis.plots import canvas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from memsuite.analysis.models import Comparison

MARKERS = "osD^"  # of each further round of colours


def comparison_figure(found: Comparison) -> Figure:
    """Draw a panel for each measure, with a row per cell and a mark per model, and below them what holds over all."""
    plt = canvas.pyplot()
    names = found.models["model"].tolist()
    colours = {
        name: {"color": canvas.COLOURS[at % len(canvas.COLOURS)], "marker": MARKERS[at // len(canvas.COLOURS) % 4]}
        for at, name in enumerate(names)
    }
    parts = [own for _, own in found.cells.groupby("measures")]
    heights = [0.5 + own["cell"].nunique() * (0.14 + 0.12 * len(names)) for own in parts] + [0.7 + 0.22 * len(names)]
    with plt.rc_context(canvas.SETTINGS):
        figure = plt.figure(figsize=(8.2, 0.6 + sum(heights)), layout="constrained")
        layout = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        for at, own in enumerate(parts):
            _panel(figure.add_subplot(layout[at, :]), own, colours)
        _aggregate(figure.add_subplot(layout[-1, 0]), found, "iqm", names, colours)
        _aggregate(figure.add_subplot(layout[-1, 1]), found, "first_is_better", names[1:], colours)
        handles = {canvas.plain(name): plt.Line2D([], [], **look) for name, look in colours.items()}
        canvas.legend_below(figure, handles)
        return figure  # type: ignore[no-any-return]


def _panel(axes: Any, cells: pd.DataFrame, colours: dict[str, dict[str, str]]) -> None:
    """Draw the result of every model in every cell, with its interval."""
    order, names = list(dict.fromkeys(cells["cell"])), list(colours)
    for _, row in cells.iterrows():
        at = order.index(row["cell"]) + 0.7 * ((names.index(row["model"]) + 0.5) / len(names) - 0.5)
        axes.plot([row["low"], row["high"]], [at, at], color=colours[row["model"]]["color"], linewidth=2, alpha=0.5)
        axes.plot(row["value"], at, **colours[row["model"]], markersize=4.5)
    measures = cells["measures"].iloc[0]
    axes.set_yticks(range(len(order)), [canvas.plain(name) for name in order])
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel=f"final {measures}")
    if measures == "success":
        axes.set_xlim(-0.02, 1.02)
    for at in range(1, len(order)):
        axes.axhline(at - 0.5, color="#eeeeee", linewidth=1)


def _aggregate(axes: Any, found: Comparison, key: str, names: list[str], colours: dict[str, dict[str, str]]) -> None:
    """Draw one number of each model over all cells, with its interval."""
    rows = found.overall.set_index("model")
    for at, name in enumerate(names):
        value, low, high = (rows.loc[name, f"{key}{end}"] for end in ("", "_low", "_high"))
        axes.plot([low, high], [at, at], color=colours[name]["color"], linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot(value, at, **colours[name], markersize=5)
    axes.set_yticks(range(len(names)), [canvas.broken(canvas.plain(name), canvas.ROW) for name in names], fontsize=8)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(min(0.0, *rows[f"{key}_low"].fillna(0)) - 0.02, 1.02))
    if key == "iqm":
        axes.set_xlabel("IQM of the score, over all cells")
    else:
        axes.set_xlabel(textwrap.fill(f"probability that {canvas.plain(found.first)} is better", 34))
        axes.axvline(0.5, color=canvas.FAINT, linewidth=1, linestyle=":")
