"""A figure of the cost of learning a task as its horizon grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.plots import canvas
from memsuite.analysis.results import models_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEAST = 3  # smallest number of horizons of one tier for a curve


def steps_by_horizon(table: pd.DataFrame) -> Figure | None:
    """Draw steps to the target against the horizon: every seed, and their median; None with fewer than three horizons.

    A seed that never reached the target is a cross at its number of training steps. There is no median where more
    than half of the seeds are crosses.
    """
    if "steps_to_target" not in table or "target_success" not in table:
        return None
    tiers = [own for _, own in table.groupby(["task", "difficulty"]) if own["horizon"].nunique() >= LEAST]
    if not tiers:
        return None
    plt = canvas.pyplot()
    with plt.rc_context(canvas.SETTINGS):
        figure, panels = plt.subplots(
            1, len(tiers), figsize=(5.6 * len(tiers) + 0.6, 4.2), squeeze=False, layout="constrained"
        )
        for axes, tier in zip(panels[0], tiers, strict=True):
            _panel(axes, tier.assign(model=models_of(tier)))
        canvas.legend_below(figure, canvas.handles_of(panels[0]))
        return figure  # type: ignore[no-any-return]


def _panel(axes: Any, tier: pd.DataFrame) -> None:
    styles = canvas.styles_of(tier["model"].tolist())
    for model, own in tier.groupby("model"):
        colour, reached = styles[str(model)]["color"], own["steps_to_target"].notna()
        axes.scatter(
            own["horizon"][reached], own["steps_to_target"][reached], s=16, color=colour, alpha=0.5, linewidth=0
        )
        axes.scatter(own["horizon"][~reached], own["env_steps"][~reached], s=30, color=colour, marker="x")
        median = own.assign(steps=own["steps_to_target"].fillna(np.inf)).groupby("horizon")["steps"].median()
        median = median[np.isfinite(median)]
        axes.plot(median.index, median, label=model, linewidth=1.6, marker="_", markersize=11, **styles[str(model)])
    ticks = sorted(set(tier["horizon"]))
    axes.set(xscale="log", yscale="log", xlabel="steps of an episode", ylabel="environment steps to the target")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(canvas.thousands)
    axes.set_title(
        f"{tier['task'].iloc[0]}, {tier['difficulty'].iloc[0]}: success {tier['target_success'].iloc[0]:.2f}"
    )
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
