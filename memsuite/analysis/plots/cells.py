"""The map of solved cells: tasks by difficulties, with the model that reaches the target soonest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from memsuite.analysis.plots.canvas import SETTINGS, pyplot
from memsuite.runs.config import DIFFICULTIES
from memsuite.tasks import SUITE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHEAP, DEAR = 1.0, 3000.0  # CPU-seconds at the ends of the colours
OPEN = "#f1f1f1"


def map_of_cells(rows: list[dict[str, Any]]) -> Figure:
    """Draw the map.

    Args:
        rows: of :func:`memsuite.bench.map.measure`, one per cell and model.
    """
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
        colours = plt.get_cmap("YlGnBu")
        for y, task in enumerate(SUITE):
            for x, difficulty in enumerate(DIFFICULTIES):
                own = [row for row in rows if (row["task"], row["difficulty"]) == (task, difficulty)]
                best = min(own, key=_rank) if own else None
                _cell(plt, axes, (x, y), best, colours)
        axes.set(xlim=(-0.5, len(DIFFICULTIES) - 0.5), ylim=(len(SUITE) - 0.5, -0.5))
        axes.set_xticks(range(len(DIFFICULTIES)), DIFFICULTIES)
        axes.set_yticks(range(len(SUITE)), [task.replace("_", " ") for task in SUITE])
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        scale = plt.matplotlib.colors.LogNorm(CHEAP, DEAR)
        shown = plt.cm.ScalarMappable(
            scale, plt.matplotlib.colors.ListedColormap(colours([_tone(i / 255) for i in range(256)]))
        )
        bar = figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.02)
        bar.set_label("CPU-seconds of one core to the target, median")
        if any(row["curriculum"] for row in rows):
            axes.set_xlabel("* with a curriculum: training begins with short episodes", fontsize=8.5)
        bar.set_ticks([1, 10, 100, 1000], labels=["1", "10", "100", "1,000"])
        return figure  # type: ignore[no-any-return]


def _rank(row: dict[str, Any]) -> tuple[bool, bool, int, float]:
    taken, grown = row["cpu_seconds_to_target"], row["curriculum"] is not None
    return not row["solved"], grown, -row["solved_seeds"], math.inf if taken is None else taken


def _tone(share: float) -> float:
    return 0.1 + 0.62 * share  # neither white nor so dark that black text drowns


def _cell(plt: Any, axes: Any, at: tuple[int, int], row: dict[str, Any] | None, colours: Any) -> None:
    """Draw one cell: the model, its seeds at the target, and the cost; or the best success if it is not solved."""
    taken = None if row is None else row["cpu_seconds_to_target"]
    face, text = OPEN, "not run"
    if row is not None:
        model = row["controller"].replace("_", " ") + (" *" if row["curriculum"] else "")
        seeds = f"{row['solved_seeds']} of {len(row['seeds'])}"
        text = f"{model}\n{seeds}, best {max(run['success'] for run in row['seeds']):.2f}"
        if row["solved"] and taken is not None:
            share = math.log(max(CHEAP, taken) / CHEAP) / math.log(DEAR / CHEAP)
            seconds = f"{taken:,.0f} s" if taken >= 1 else "under 1 s"
            face, text = colours(_tone(min(1.0, share))), f"{model}\n{seeds}, {seconds}"
    x, y = at
    axes.add_patch(plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=face, edgecolor="none"))
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5, color="black", linespacing=1.25)
