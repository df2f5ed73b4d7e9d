"""The figures of the probes: each function turns the output of a probe into a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memsuite.analysis.plots.canvas import COLOURS, DASHES, FAINT, INK, SETTINGS, pyplot
from memsuite.analysis.probes import Decoding, Drift, quantiles
from memsuite.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

MOST_UNITS = 64  # largest number of distinguishable rows in a map


def _style(index: int) -> dict[str, Any]:
    """Return a style that keeps overlapping curves apart: another colour and dash each, the first curves wider."""
    dash, width = DASHES[index % len(DASHES)], max(1.4, 3.0 - 0.7 * index)
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": dash, "linewidth": width}


def decoding_curves(found: dict[str, Decoding], title: str = "") -> Figure:
    """Draw the accuracy of decoding against the step, one curve per name, together with the chance level."""
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
        for index, (name, one) in enumerate(found.items()):
            style = _style(index)
            axes.plot(one.steps, one.accuracy, label=name, **style)
            axes.plot(one.asked, one.accuracy[-1] if one.asked >= one.steps[-1] else np.nan, "o", color=style["color"])
        low = min(float(one.shuffled.min()) for one in found.values())
        steps = max((one.steps for one in found.values()), key=len)
        high = np.max([np.interp(steps, one.steps, one.shuffled_high) for one in found.values()], axis=0)
        axes.fill_between(steps, low, high, color=FAINT, alpha=0.5, linewidth=0, label="shuffled labels")
        for asked in {one.asked for one in found.values()}:
            axes.axvline(asked, color=FAINT, linewidth=1, linestyle=":")
        axes.set(ylim=(-0.03, 1.05), xlabel="step (asked at the dotted line)", ylabel="accuracy on held-out episodes")
        axes.set_title(title, loc="left")
        figure.legend(loc="outside lower center", ncols=min(4, len(found) + 1), fontsize=9)
        return figure  # type: ignore[no-any-return]


def unit_map(found: Decoding, title: str = "") -> Figure:
    """Draw which units store the item: the classifier's weight on each unit at each step, strongest units on top.

    The weights of each step are divided by the largest one, because their size depends on the size of the state.
    """
    plt = pyplot()
    weights = found.units / found.units.amax(1, keepdim=True).clamp(min=1e-12)
    top = weights.mean(0).argsort(descending=True)[:MOST_UNITS]
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
        edges = np.append(found.steps.numpy(), float(found.steps[-1]) + 1)
        mesh = axes.pcolormesh(
            edges, np.arange(len(top) + 1), weights[:, top].t().numpy(), cmap="cividis", vmin=0, vmax=1
        )
        axes.set(xlabel="step", ylabel=f"{len(top)} of {weights.shape[1]:,} units, by weight", yticks=[])
        axes.invert_yaxis()
        axes.set_title(title, loc="left")
        figure.colorbar(mesh, ax=axes, label="weight / largest weight", fraction=0.05, pad=0.02)
        return figure  # type: ignore[no-any-return]


def drift_curves(found: dict[str, Drift]) -> Figure:
    """Draw the length of the state, its speed and its cosine with the state after the cue: medians, and 10% to 90%."""
    plt = pyplot()
    panels_of = (("norm", "length of the state"), ("speed", "distance a step"), ("cosine", "cosine with after the cue"))
    with plt.rc_context(SETTINGS):
        figure, panels = plt.subplots(1, 3, figsize=(10.4, 3.3), layout="constrained")
        for panel, (field, label) in zip(panels, panels_of, strict=True):
            for index, (name, one) in enumerate(found.items()):
                low, middle, high = np.nanquantile(_from_second(getattr(one, field), field), (0.1, 0.5, 0.9), axis=1)
                steps = one.steps[1:] if field == "speed" else one.steps
                style = _style(index)
                panel.plot(steps, middle, label=name, **style)
                panel.fill_between(steps, low, high, color=style["color"], alpha=0.15, linewidth=0)
            panel.set(xlabel="step", ylabel=label)
        panels[1].set_yscale("symlog", linthresh=1e-6)
        panels[2].set_ylim(min(-0.03, panels[2].get_ylim()[0]), 1.05)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
        return figure  # type: ignore[no-any-return]


def _from_second(values: Tensor, field: str) -> Any:
    return values[1:].numpy() if field == "speed" else values.numpy()


def reach_curves(found: dict[str, Tensor], title: str = "") -> Figure:
    """Draw how far the gradient reaches: its norm at every step, ``[T]``, divided by the largest norm."""
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
        for index, (name, reach) in enumerate(found.items()):
            steps = torch.arange(len(reach)) - len(reach) + 1
            share = (reach / reach.max()).masked_fill(reach == 0, torch.nan)
            axes.plot(steps, share, label=name, **_style(index))
        axes.set(yscale="log", xlabel="steps before the end of the episode", ylabel="gradient / largest gradient")
        axes.set_ylim(bottom=max(1e-12, axes.get_ylim()[0]), top=2)
        axes.set_title(title, loc="left")
        figure.legend(loc="outside lower center", ncols=4, fontsize=9)
        return figure  # type: ignore[no-any-return]


def gate_bands(found: dict[str, Tensor], title: str = "") -> Figure:
    """Draw each gate over time in its own panel: the median, and the bands of half and nine tenths of its units.

    Step sizes have a logarithmic axis. So do decays, which are drawn as time constants in steps, ``-1 / log(decay)``.
    """
    plt = pyplot()
    with plt.rc_context(SETTINGS):
        figure, panels = plt.subplots(
            1, len(found), figsize=(3.5 * len(found), 3.2), layout="constrained", squeeze=False
        )
        for index, (panel, (name, values)) in enumerate(zip(panels[0], found.items(), strict=True)):
            if decays := name == "decay":
                values = -1 / values.double().log()
            bands, colour = quantiles(values).numpy(), COLOURS[index % len(COLOURS)]
            steps = np.arange(bands.shape[1])
            for low, high, alpha in ((0, 4, 0.15), (1, 3, 0.3)):
                panel.fill_between(steps, bands[low], bands[high], color=colour, alpha=alpha, linewidth=0)
            panel.plot(steps, bands[2], color=colour, linewidth=1.6)
            panel.set(xlabel="step", ylabel="steps it holds for" if decays else name.replace("_", " "))
            if decays or name == "step_size":
                panel.set_yscale("log")
            else:
                panel.set_ylim(-0.03, 1.03)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        return figure  # type: ignore[no-any-return]


def attention_maps(weights: Tensor, title: str = "") -> Figure:
    """Draw the attention weights ``[heads, queries, keys]`` of an episode, a panel per head, on a logarithmic scale."""
    if weights.dim() != 3:
        raise UsageError(f"attention_maps draws [heads, queries, keys], not a tensor of {weights.dim()} dimensions")
    plt = pyplot()
    from matplotlib.colors import LogNorm

    with plt.rc_context(SETTINGS):
        heads = len(weights)
        figure, panels = plt.subplots(
            1, heads, figsize=(2.5 * heads + 0.9, 2.9), layout="constrained", squeeze=False, sharey=True
        )
        scale = LogNorm(vmin=1e-3, vmax=1)
        for head, (panel, one) in enumerate(zip(panels[0], weights, strict=True)):
            image = panel.imshow(one.clamp(min=1e-3).numpy(), cmap="cividis", norm=scale, interpolation="nearest")
            panel.set_title(f"head {head}", color=INK)
            panel.set_xlabel("step looked at")
        panels[0][0].set_ylabel("step that looks")
        figure.colorbar(image, ax=list(panels[0]), label="weight", fraction=0.03, pad=0.02)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        return figure  # type: ignore[no-any-return]
