"""A figure of success far beyond training where the delay is not blank, for several controllers and seeds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from memsuite.analysis.plots.beyond import LETTERS, label_below, mean_of, panels_of
from memsuite.analysis.plots.canvas import COLOURS, FAINT, SETTINGS, legend_above, log_steps, pyplot
from memsuite.analysis.retention import described, group_reports
from memsuite.errors import UsageError
from memsuite.reading import counted

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
    if len(asked) > len(COLOURS) or len(trained) > len(STYLES):
        raise UsageError(
            f"the picture tells at most {len(COLOURS)} settings that are asked for and {len(STYLES)} that were trained "
            f"with apart, and there are {len(asked)} and {len(trained)}; draw fewer at once"
        )
    # What is asked for and trained with are colours and lines, so the other differences name the panels.
    models = group_reports([{**report, "task_args": None} for report in reports])
    owners = {id(part["rows"]): name for name, own in models.items() for part in own}
    names = list(models)
    with plt.rc_context(SETTINGS):
        figure, panels = panels_of(plt, len(names))
        for panel, name in zip(panels, names, strict=False):
            own = [report for report in reports if owners[id(report["rows"])] == name]
            for colour, now in zip(COLOURS, asked, strict=False):
                for style, before in zip(STYLES, trained, strict=False):
                    _line(panel, own, now, before, {"color": colour, "linestyle": style})
            if (chance := own[0]["rows"][0]["chance"]) is not None:
                panel.axhline(chance, color=FAINT, linewidth=1, zorder=0)
            panel.axvline(own[0]["trained_horizon"], color=FAINT, linewidth=1, linestyle=":", zorder=0)
            title = f"{name}, {counted(len({report['seed'] for report in own}), 'seed')}"
            panel.set_title(textwrap.fill(title, LETTERS), fontsize=9.5, loc="left")
            log_steps(panel, [row["horizon"] for report in own for row in report["rows"]])
            panel.set(ylim=(-0.04, 1.08))
        kinds = zip(COLOURS, asked, strict=False)
        lines = [plt.Line2D([], [], color=colour, label=f"asked with {now}") for colour, now in kinds]
        lines += [
            plt.Line2D([], [], color="grey", linestyle=style, label=f"trained with {before}")
            for style, before in zip(STYLES, trained, strict=False)
        ]
        label_below(figure, "steps of an episode (trained at the dotted line; grey: without memory)")
        figure.supylabel("greedy success", fontsize=10)
        legend_above(figure, {line.get_label(): line for line in lines})
        return figure  # type: ignore[no-any-return]


def _line(panel: Any, reports: list[dict[str, Any]], now: str, before: str, look: dict[str, str]) -> None:
    runs = [
        report
        for report in reports
        if (described(report["task_args"]), described(report["trained_task_args"])) == (now, before)
    ]
    if runs:
        panel.plot(*mean_of(runs), linewidth=1.6, marker="o", markersize=3, clip_on=False, **look)
