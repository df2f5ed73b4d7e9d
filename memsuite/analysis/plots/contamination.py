"""A figure of success far beyond training where the delay is not blank, for several controllers and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memsuite.analysis.plots.beyond import mean_of, panels_of
from memsuite.analysis.plots.canvas import COLOURS, FAINT, SETTINGS, pyplot
from memsuite.analysis.retention import described

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("--", "-", ":", "-.")


def contaminated(reports: list[dict[str, Any]]) -> Figure:
    """Draw success against the evaluated horizon, a panel per controller.

    A colour stands for what the delay holds when the agent is evaluated, a kind of line for what it held in training;
    each line is the mean over the seeds.

    Args:
        reports: measurements of ``memsuite retention`` with arguments of the task replaced.
    """
    plt = pyplot()
    asked = sorted({described(report["task_args"]) for report in reports})
    trained = sorted({described(report["trained_task_args"]) for report in reports})
    names = list(dict.fromkeys(report["controller"] for report in reports))
    with plt.rc_context(SETTINGS):
        figure, panels = panels_of(plt, len(names))
        for panel, name in zip(panels, names, strict=False):
            own = [report for report in reports if report["controller"] == name]
            for colour, now in zip(COLOURS, asked, strict=False):
                for style, before in zip(STYLES, trained, strict=False):
                    _line(panel, own, now, before, {"color": colour, "linestyle": style})
            if (chance := own[0]["rows"][0]["chance"]) is not None:
                panel.axhline(chance, color=FAINT, linewidth=1, zorder=0)
            panel.axvline(own[0]["trained_horizon"], color=FAINT, linewidth=1, linestyle=":", zorder=0)
            seeds = len({report["seed"] for report in own})
            panel.set_title(f"{name}, {seeds} seed{'s' * (seeds > 1)}", fontsize=9.5, loc="left")
            panel.set(xscale="log", ylim=(-0.04, 1.08))
        kinds = zip(COLOURS, asked, strict=False)
        lines = [plt.Line2D([], [], color=colour, label=f"asked with {now}") for colour, now in kinds]
        lines += [
            plt.Line2D([], [], color="grey", linestyle=style, label=f"trained with {before}")
            for style, before in zip(STYLES, trained, strict=False)
        ]
        figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=8.5, frameon=False)
        figure.supxlabel("steps of an episode (trained at the dotted line; grey: without memory)", fontsize=10)
        figure.supylabel("greedy success", fontsize=10)
        return figure  # type: ignore[no-any-return]


def _line(panel: Any, reports: list[dict[str, Any]], now: str, before: str, look: dict[str, str]) -> None:
    runs = [
        report
        for report in reports
        if (described(report["task_args"]), described(report["trained_task_args"])) == (now, before)
    ]
    if runs:
        panel.plot(*mean_of(runs), linewidth=1.6, marker="o", markersize=3, clip_on=False, **look)
