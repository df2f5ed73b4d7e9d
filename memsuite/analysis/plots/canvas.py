"""What all figures share: their style, the colours of models, panels, and a legend that is whole at any length."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsuite.errors import UsageError
from memsuite.shipped import extra

if TYPE_CHECKING:
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
TITLE, ROW = 36, 28  # letters that fit above a panel, and beside a row
LETTER, LINE = 0.082, 0.19  # inches that a letter and a line of a legend take, at the most
UNNAMED = re.compile(r"_child\d+$|_nolegend_$|$")  # matplotlib's own names of what was given none
THIN = "\u200a"  # a space before a name that begins with an underscore, which matplotlib would leave out of a legend
APART = 0.12  # share of an axis that the label of a mark takes
HANDLE = 0.6  # inches of the line before a name, with the space after it


def pyplot() -> Any:
    """Import matplotlib without a display; raise :class:`UsageError` with the extra to install if it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(f"figures need matplotlib: {extra('report')}") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def check_plot(path: Path) -> None:
    """Raise a usage error, before anything is computed, if ``--plot`` names a kind of file that cannot be drawn."""
    kinds = pyplot().matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:] not in kinds:
        raise UsageError(f"--plot {path}: name a file that ends in one of {', '.join(sorted(kinds))}")


def save(figure: Figure, path: Path) -> None:
    """Write a figure into the file of ``--plot``, in a new folder if need be; raise a usage error if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write --plot {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        pyplot().close(figure)


def styles_of(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give every model a colour, and another dash once all colours are used."""
    order = sorted(set(models))
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}
        for i, name in enumerate(order)
    }


def plain(text: str) -> str:
    """Return a name as matplotlib shows it letter by letter: what is between dollars it takes for TeX."""
    return text.replace("$", r"\$")


def broken(name: str, letters: int) -> str:
    """Break a long name into lines of so many letters, where it has a space or a mark such as ``:`` or ``-``."""
    lines = [""]
    for part in re.split(r"(?<=[ :/_,-])", name):
        if len(lines[-1]) + len(part.rstrip()) > letters and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(textwrap.fill(line.strip(), letters) for line in lines)


def thousands(value: float, _: Any = None) -> str:
    """Write a number of steps briefly: ``200k``, ``1.5M``."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value else "0"


def log_steps(panel: Any, steps: Sequence[int]) -> None:
    """Make the x axis of steps logarithmic; within one power of ten its marks are the steps that were measured.

    A step that lies so near to the mark before it that their labels would overlap has none.
    """
    panel.set_xscale("log")
    if not steps or max(steps) > 10 * min(steps):
        panel.xaxis.set_minor_formatter("")  # matplotlib labels these too where there are few powers of ten
        return
    marks: list[int] = []
    for step in sorted(set(steps)):
        if not marks or step >= marks[-1] * (max(steps) / min(steps)) ** APART:
            marks.append(step)
    panel.set_xticks(marks, [f"{step:,}" for step in marks])
    panel.set_xticks([], minor=True)


def panels_of(plt: Any, count: int) -> tuple[Any, list[Any]]:
    """Make a figure of panels, at most three in a row."""
    across = min(3, count)
    down = -(-count // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.4 * across + 0.4, 2.6 * down + 0.8), squeeze=False, layout="constrained"
    )
    return figure, list(axes.ravel())


def finish(figure: Any, panels: list[Any], used: int, x: str, y: str) -> None:
    """Label the axes once, put one legend below all panels, and remove the unused panels."""
    handles = handles_of(panels[:used])
    for panel in panels[:used]:
        panel.xaxis.set_major_formatter(thousands) if x == "environment steps" else None
    for panel in panels[used:]:
        panel.remove()
    across = min(3, used)
    for index, panel in enumerate(panels[:used]):  # a label of the whole figure would overlap the legend outside
        panel.set_xlabel(x if index + across >= used else "")
        panel.set_ylabel(y if index % across == 0 else "")
    legend_below(figure, handles)


def handles_of(panels: Iterable[Any]) -> dict[str, Any]:
    """Return what the panels draw with a name, each name once."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for artist in (*panel.lines, *panel.collections):
            if not UNNAMED.match(name := str(artist.get_label())):
                handles.setdefault(name, artist)
    return handles


def legend_above(figure: Any, handles: Mapping[str, Any]) -> None:
    """Put a legend above all panels, in as many columns as fit; the figure grows by its height."""
    columns = _columns(handles, figure.get_figwidth())
    figure.set_figheight(figure.get_figheight() + LINE * (-(-len(handles) // columns) - 1))
    look = {"loc": "outside upper center", "ncols": columns, "fontsize": 8.5}
    figure.legend(list(handles.values()), list(handles), **look)


def _columns(names: Collection[str], width: float) -> int:
    """Return how many columns of a legend fit into so many inches."""
    longest = max(len(line) for name in names for line in name.split("\n"))
    return max(1, min(len(names), int(width / (HANDLE + LETTER * longest))))


def legend_below(figure: Any, handles: Mapping[str, Any]) -> None:
    """Put a legend below all panels, in as many columns as fit; the figure grows by its height.

    A name that is longer than the figure is wide is broken into lines.
    """
    if not handles:
        return
    width = figure.get_figwidth() - 0.3
    shown = (THIN + name if name.startswith("_") else name for name in handles)
    names = [textwrap.fill(name, max(20, int((width - HANDLE) / LETTER)), drop_whitespace=False) for name in shown]
    columns = _columns(names, width)
    per_column = -(-len(names) // columns)
    heights = [name.count("\n") + 1 for name in names]
    lines = max(sum(heights[start : start + per_column]) for start in range(0, len(names), per_column))
    figure.set_figheight(figure.get_figheight() + LINE * lines)
    figure.legend(handles.values(), names, loc="outside lower center", ncols=columns, fontsize=9)
