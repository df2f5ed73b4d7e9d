"""A figure of success far beyond training, for several controllers and seeds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.plots.canvas import (
    COLOURS,
    FAINT,
    INK,
    LETTER,
    SETTINGS,
    handles_of,
    legend_below,
    log_steps,
    pyplot,
)
from memsuite.analysis.retention import group_reports

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 4  # panels per row
LETTERS = 32  # characters per line in a panel's title


def seeds_beyond(reports: list[dict[str, Any]]) -> Figure:
    """Draw success against the evaluated horizon: one panel per model, thin lines for seeds, a thick line for the mean.

    Args:
        reports: measurements of ``memsuite retention`` (:func:`memsuite.analysis.retention.curve`). Models are ordered
            by their success at their longest horizon, best first.
    """
    plt, groups = pyplot(), group_reports(reports)
    names = sorted(groups, key=lambda name: _rank(groups[name]))
    with plt.rc_context(SETTINGS):
        figure, panels = panels_of(plt, len(names))
        counts = {len(runs) for runs in groups.values()}
        for panel, name in zip(panels, names, strict=False):
            _draw(panel, name if len(counts) == 1 else f"{name}, {_seeds(groups[name])}", groups[name])
        each = f"; {max(counts)} seeds each, the mean thick" if len(counts) == 1 else ""
        label = f"steps of an episode (trained at the dotted line; grey: without memory{each})"
        label_below(figure, label)
        figure.supylabel("greedy success", fontsize=10)
        return figure  # type: ignore[no-any-return]


def success_beyond(reports: list[dict[str, Any]]) -> Figure:
    """Draw success against the evaluated horizon, one curve per run of ``memsuite retention``."""
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        named = [(name, report) for name, own in group_reports(reports).items() for report in own]
        tasks = dict.fromkeys(f"{report['task']}, {report['difficulty']}" for report in reports)
        for index, (model, report) in enumerate(named):
            rows, colour = report["rows"], COLOURS[index % len(COLOURS)]
            steps = [row["horizon"] for row in rows]
            name = f"{model}, seed {report['seed']}, trained at {report['trained_horizon']:,}"
            axes.plot(steps, [row["success"] for row in rows], color=colour, marker="o", markersize=3.5, label=name)
            ends = [[row[end] for row in rows] for end in ("success_low", "success_high")]
            axes.fill_between(steps, *ends, color=colour, alpha=0.15, linewidth=0)
            axes.axvline(report["trained_horizon"], color=colour, linewidth=1, linestyle=":")
            if all(row["chance"] is not None for row in rows):
                look = {"color": colour, "alpha": 0.6} if len(tasks) > 1 else {"color": FAINT}
                label = "best without memory" + (", in the colour of the run" if len(tasks) > 1 else "")
                axes.plot(steps, [row["chance"] for row in rows], linewidth=1, label=label, **look)
        log_steps(axes, [row["horizon"] for report in reports for row in report["rows"]])
        axes.set(ylim=(-0.03, 1.03), xlabel="steps of an episode", ylabel="greedy success")
        axes.set_title("; ".join(tasks))
        legend_below(figure, handles_of([axes]))
        return figure  # type: ignore[no-any-return]


def panels_of(plt: Any, count: int) -> tuple[Any, list[Any]]:
    """Return a figure with so many panels in rows of :data:`ACROSS`, and the panels; all have the same axes."""
    across, down = min(ACROSS, count), -(-count // ACROSS)
    size = (2.55 * across + 0.3, 1.95 * down + 0.6)
    figure, axes = plt.subplots(
        down, across, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    panels = list(axes.ravel())
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel in panels[max(0, count - across) : count]:
        panel.tick_params(labelbottom=True)
    return figure, panels


def label_below(figure: Any, label: str) -> None:
    """Write below all panels, in as many lines as the figure is narrow."""
    figure.supxlabel(textwrap.fill(label, max(20, int(figure.get_figwidth() / LETTER))), fontsize=10)


def mean_of(runs: list[dict[str, Any]]) -> tuple[list[int], Any]:
    """Return the horizons at which every run was measured, and the mean success over the runs at each."""
    found = [{row["horizon"]: row["success"] for row in run["rows"]} for run in runs]
    steps = sorted(set.intersection(*(set(one) for one in found)))
    return steps, np.array([[one[step] for step in steps] for one in found]).mean(0)


def _seeds(runs: list[dict[str, Any]]) -> str:
    return f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0]['seed']}"


def _rank(runs: list[dict[str, Any]]) -> tuple[float, ...]:
    return tuple(-success for success in reversed(mean_of(runs)[1]))


def _draw(panel: Any, name: str, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        line = [(row["horizon"], row["success"]) for row in run["rows"]]
        panel.plot(*zip(*line, strict=True), color=COLOURS[0], linewidth=0.8, alpha=0.45)
    steps, mean = mean_of(runs)
    panel.plot(steps, mean, color=COLOURS[0], linewidth=2, marker="o", markersize=3.5, clip_on=False)
    panel.annotate(f"{mean[-1]:.2f}", (steps[-1], mean[-1]), (3, 4), textcoords="offset points", color=INK, fontsize=9)
    if (chance := runs[0]["rows"][0]["chance"]) is not None:
        panel.axhline(chance, color=FAINT, linewidth=1, zorder=0)
    panel.axvline(runs[0]["trained_horizon"], color=FAINT, linewidth=1, linestyle=":", zorder=0)
    panel.set_title(textwrap.fill(name, LETTERS), fontsize=9.5, loc="left")
    log_steps(panel, [row["horizon"] for run in runs for row in run["rows"]])
    panel.set(ylim=(-0.04, 1.08))
