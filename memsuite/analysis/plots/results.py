"""The figures of a report: each function turns tidy tables into a matplotlib figure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from memsuite.analysis.compare import group_cells, measure, summarise
from memsuite.analysis.plots.canvas import (
    DASHES,
    FAINT,
    ROW,
    SETTINGS,
    TITLE,
    broken,
    finish,
    handles_of,
    legend_below,
    log_steps,
    panels_of,
    pyplot,
    styles_of,
)
from memsuite.analysis.results import CELL, labels, models_of
from memsuite.analysis.stats import performance_profile, stratified_iqm
from memsuite.runs.config import DIFFICULTIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def sized_models(table: pd.DataFrame) -> list[str]:
    """Return a name for every row with the model's parameters and the size of its state, the most over its cells."""
    names = models_of(table)
    sizes: dict[str, str] = {}
    for name in dict.fromkeys(names):
        own = table[[one == name for one in names]]
        known = {key: own[key].max() for key in ("parameters", "state_floats") if key in own and own[key].notna().any()}
        text = {"parameters": "{} parameters", "state_floats": "state {}"}
        sizes[name] = ", ".join(text[key].format(_brief(value)) for key, value in known.items())
    return [f"{name}, {sizes[name]}" if sizes[name] else name for name in names]


def _brief(number: float) -> str:
    return f"{number / 1e6:.2f}M" if number >= 1e6 else f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:,.0f}"


def solved_map(table: pd.DataFrame) -> Figure:
    """Draw tasks by controllers: mean success as a colour, and the fraction of seeds that reached the target."""
    plt = pyplot()
    cells = summarise(table)
    cells["model"], cells["cell"] = models_of(cells), labels(cells)["cell"]
    models, rows = sorted(set(cells["model"])), _in_order(cells)
    with plt.rc_context(SETTINGS):
        names = [model.replace(", ", ",\n").replace(" (", "\n(") for model in models]  # one setting per line
        longest = max(len(line) for name in names for line in name.split("\n"))
        wide = max(0.8, 0.25 * max(name.count("\n") + 1 for name in names))  # a slanting name takes this for each line
        size = (3.2 + wide * len(models) + 0.04 * longest, 1.2 + 0.07 * longest + 0.42 * len(rows))
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        values = np.full((len(rows), len(models)), np.nan)
        for _, cell in cells.iterrows():
            values[rows.index(cell["cell"]), models.index(cell["model"])] = cell["success"]
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for _, cell in cells.iterrows():
            solved = cell.get("solved_seeds", 0)
            scored = cell["success"] == cell["success"]  # else there is a return alone, of no colour
            text = (
                f"{cell['success']:.2f}  {solved}/{cell['seeds']}"
                if scored
                else f"return {cell.get('return', np.nan):.4g}"
            )
            bold = "bold" if scored and solved == cell["seeds"] else "normal"
            at = (models.index(cell["model"]), rows.index(cell["cell"]))
            colour = "white" if scored and cell["success"] < 0.55 else "black"
            axes.text(*at, text, ha="center", va="center", fontsize=8.5, fontweight=bold, color=colour)
        axes.set_xticks(range(len(models)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), [broken(row, ROW) for row in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if not np.isnan(values).all():
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

    A seed that stopped at its target keeps its last value from there on. Where no decision is scored it is the return.
    """
    if curves.empty:
        return None
    plt = pyplot()
    table = table.assign(model=models_of(table), cell=labels(table)["cell"])
    styles, rows = styles_of(table["model"].tolist()), _in_order(table)
    known = {_key(key): own for key, own in curves.groupby([*CELL, "seed"], dropna=False)}
    with plt.rc_context(SETTINGS):
        figure, panels = panels_of(plt, len(rows))
        told: set[str] = set()
        missing = 0
        for panel, name in zip(panels, rows, strict=False):
            own = table[table["cell"] == name]
            measures = measure(own)
            told.add("greedy success" if measures == "success" else "greedy return")
            for key, runs in group_cells(own).items():
                of_seeds = [known[(*key, seed)] for seed in runs["seed"] if (*key, seed) in known]
                drawn = [curve[["env_steps", measures]].dropna().to_numpy(float) for curve in of_seeds]
                if any(len(curve) for curve in drawn):
                    whole = [curve for curve in drawn if len(curve)]
                    _band(panel, whole, runs["model"].iloc[0], styles)
                    missing += len(runs) - len(whole)
            _guides(panel, own, name, measures)
        left_out = f" ({missing} runs have no curve)" if missing else ""
        finish(figure, panels, len(rows), "environment steps" + left_out, " or ".join(sorted(told, reverse=True)))
        return figure  # type: ignore[no-any-return]


def _guides(panel: Any, own: pd.DataFrame, name: str, measures: str) -> None:
    """Draw the target and the best without memory, where there are any, and name the panel."""
    for column, style in (("target_success", ":"), ("chance", "-")):
        if measures == "success" and column in own and own[column].notna().any():
            panel.axhline(own[column].dropna().iloc[0], color=FAINT, linewidth=1, linestyle=style)
    if measures == "success":
        panel.set(title=broken(name, TITLE), ylim=(-0.03, 1.03))
    else:
        panel.set(title=broken(f"{name}: return", TITLE))


def _key(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if value != value else value for value in values)


def _band(panel: Any, drawn: list[Any], name: str, styles: dict[str, dict[str, Any]]) -> None:
    steps = np.unique(np.concatenate([curve[:, 0] for curve in drawn]))
    begin = max(curve[0, 0] for curve in drawn)
    steps = steps[steps >= begin]
    values = np.stack([curve[np.searchsorted(curve[:, 0], steps, side="right") - 1, 1] for curve in drawn])
    mark = "o" if len(steps) == 1 else None  # a line of one point would not be seen
    panel.plot(steps, values.mean(0), label=name, linewidth=1.6, marker=mark, **styles[name])
    panel.fill_between(steps, values.min(0), values.max(0), color=styles[name]["color"], alpha=0.15, linewidth=0)


def _scores(table: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, list[Any]]]:
    """Return the scores of every model, one row per cell, of models that ran the same cells together.

    Only these can be ranked: an easier set of cells makes any model look better. The largest set comes first.
    """
    if "score" not in table:
        return {}
    table = table.assign(model=sized_models(table))
    table = table[table["score"].notna()]
    found: dict[str, dict[Any, Any]] = {}
    for (model, *cell), runs in table.groupby(["model", "task", "difficulty", "horizon", "budget"], dropna=False):
        found.setdefault(str(model), {})[_key(cell)] = runs["score"].to_numpy(float)
    groups: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    for model, cells in found.items():
        groups.setdefault(tuple(cells), {})[model] = list(cells.values())
    return {cells: groups[cells] for cells in sorted(groups, key=len, reverse=True)}


def _of_cells(cells: tuple[Any, ...]) -> str:
    """Name a set of cells: all of them while they are few."""
    tasks = dict.fromkeys(f"{task}-{difficulty}" for task, difficulty, *_ in cells)
    if len(tasks) > 2:
        return f"{len(cells)} cells"
    return ", ".join(tasks) + (f" ({len(cells)} cells)" if len(cells) > len(tasks) else "")


def aggregate_scores(table: pd.DataFrame) -> Figure | None:
    """Draw the interquartile mean of the scores, with stratified bootstrap intervals; None without scores.

    Models that ran the same cells stand together in order; between such groups there is no order.
    """
    groups = _scores(table)
    if not groups:
        return None
    plt = pyplot()
    styles = styles_of([model for models in groups.values() for model in models])
    ticks, names, least, at = [], [], 0.0, 0.0
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.6, 3), layout="constrained")
        for cells, models in groups.items():
            found = {name: stratified_iqm(scores) for name, scores in models.items()}
            axes.text(0.0, at - 0.1, f"over {_of_cells(cells)}:", fontsize=8.5, color="#666666", va="center")
            at += 0.7
            for name in sorted(found, key=lambda name: -found[name].mean):
                one, colour = found[name], styles[name]["color"]
                names.append(textwrap.fill(name, 44))
                height = max(1.0, 0.65 * (names[-1].count("\n") + 1))
                at += (height - 1) / 2
                axes.plot([one.low, one.high], [at, at], color=colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
                axes.plot([one.mean] * 2, [at - 0.3, at + 0.3], color=colour, linewidth=2.4)
                ticks.append(at)
                least, at = min(least, np.fmin(one.low, one.mean)), at + (height + 1) / 2
            at += 0.3
        figure.set_figheight(0.9 + 0.34 * at)
        axes.set_yticks(ticks, names)
        axes.set(xlabel="interquartile mean of the score", ylim=(at - 0.5, -0.6), xlim=(least - 0.02, 1.02))
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
        return figure  # type: ignore[no-any-return]


def profiles(table: pd.DataFrame) -> Figure | None:
    """Draw the share of runs whose score is above each threshold (Dolan & More 2002), a panel per set of cells."""
    groups, thresholds = _scores(table), np.linspace(0, 1, 101)
    if not groups:
        return None
    plt = pyplot()
    styles = styles_of([model for models in groups.values() for model in models])
    with plt.rc_context(SETTINGS):
        figure, panels = panels_of(plt, len(groups))
        for panel, (cells, models) in zip(panels, groups.items(), strict=False):
            for name, rows in models.items():
                share, low, high = performance_profile(rows, thresholds)
                panel.plot(thresholds, share, label=name, linewidth=1.6, **styles[name])
                panel.fill_between(thresholds, low, high, color=styles[name]["color"], alpha=0.12, linewidth=0)
            panel.set(title=_of_cells(cells), xlim=(0, 1), ylim=(0, 1.02))
        if len(groups) == 1:
            figure.set_size_inches(6.6, 3.8)
        finish(figure, panels, len(groups), "score", "share of runs above it")
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
        axes.set(yscale="log", xlabel="numbers in the state of an episode", ylabel="training steps / s")
        axes.set_xscale("symlog", linthresh=1)  # a model without a memory has a state of no numbers
        axes.set(xlim=_decades(cells["state_floats"]), ylim=_decades(cells["steps_per_second"]))
        legend_below(figure, handles_of([axes]))
        return figure  # type: ignore[no-any-return]


def _decades(numbers: pd.Series[float]) -> tuple[float, float]:
    """Return powers of ten around numbers, so that a logarithmic axis has two ticks at least, also for one number."""
    low, high = numbers.min(), numbers.max()
    return (10 ** np.floor(np.log10(low) - 0.05) if low else -0.5, 10 ** np.ceil(np.log10(max(high, 1)) + 0.05))


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
        figure, panels = panels_of(plt, len(rows))
        for panel, name in zip(panels, rows, strict=False):
            for model, own in retained[retained["cell"] == name].groupby("model"):
                seeds = own["seed"].nunique()  # a mean over other seeds at each horizon would jump for that alone
                by = own.groupby("evaluated_horizon").filter(lambda at, n=seeds: at["seed"].nunique() == n)
                by = by.groupby("evaluated_horizon")["success"]
                panel.plot(by.mean().index, by.mean(), label=model, marker="o", markersize=3, **styles[model])
                panel.fill_between(by.mean().index, by.min(), by.max(), color=styles[model]["color"], alpha=0.15)
            panel.axvline(own["horizon"].iloc[0], color=FAINT, linewidth=1, linestyle=":")
            log_steps(panel, retained.loc[retained["cell"] == name, "evaluated_horizon"].tolist())
            panel.set(title=broken(name, TITLE), ylim=(-0.03, 1.03))
        finish(figure, panels, len(rows), "steps of an episode (trained at the dotted line)", "greedy success")
        return figure  # type: ignore[no-any-return]
