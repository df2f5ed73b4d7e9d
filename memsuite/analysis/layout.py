"""Tables of text in the formats of a terminal, of Markdown, of LaTeX (booktabs), and of spreadsheets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from rich import box
from rich.table import Column, Table

from memsuite.analysis.results import import_pandas
from memsuite.errors import UsageError
from memsuite.shipped import extra

if TYPE_CHECKING:
    import pandas as pd

MARKUP = re.compile(r"[\\`*<&|\[\]~]|_(?!\w)|(?<!\w)_")  # what Markdown would take for its own; not the _ of n_back
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that a spreadsheet takes for a formula


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: what it shows.
        headings: of the columns.
        rows: of as many texts each.
        left: the number of columns that hold names; the others hold numbers.
        note: a sentence below it.
        styles: of the rows, for a terminal; empty where all are alike.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    note: str = ""
    styles: Sequence[str] = field(default_factory=list)


def for_terminal(grid: Grid) -> Table:
    """Lay a grid out for a terminal."""
    sides = ["left"] * grid.left + ["right"] * (len(grid.headings) - grid.left)
    widest = [max(map(len, texts)) for texts in zip(grid.headings, *grid.rows, strict=True)]
    columns = [  # names are folded where the terminal is too narrow; a number is never cut
        Column(name, justify="left", overflow="fold")
        if side == "left"
        else Column(name, justify="right", min_width=most)
        for name, side, most in zip(grid.headings, sides, widest, strict=True)
    ]
    style: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
    table = Table(*columns, title=grid.title, caption=grid.note or None, **style)
    for at, row in enumerate(grid.rows):
        table.add_row(*row, style=grid.styles[at] if grid.styles else None)
    return table


def as_markdown(grid: Grid) -> str:
    """Return a grid in Markdown."""
    lines = [grid.headings, ["---"] * grid.left + ["---:"] * (len(grid.headings) - grid.left), *grid.rows]
    cells = [[MARKUP.sub(r"\\\g<0>", text) for text in line] for line in lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return f"**{grid.title}**\n\n{text}\n" + (f"\n{grid.note}\n" if grid.note else "")


def as_latex(grid: Grid) -> str:
    """Return a grid as a ``tabular`` of the package booktabs, its title and its note in comments above it."""
    try:
        import jinja2  # noqa: F401  # what pandas needs for it
    except ImportError as error:
        raise UsageError(f"LaTeX needs jinja2: {extra('report')}") from error
    frame = import_pandas().DataFrame(list(grid.rows), columns=list(grid.headings))
    columns = "l" * grid.left + "r" * (len(grid.headings) - grid.left)
    text = frame.to_latex(index=False, escape=True, column_format=columns)
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.replace("<", "$<$").replace("±", r"$\pm$"))
    above = "".join(f"% {line}\n" for line in (grid.title, grid.note) if line)
    return above + str(text)


def write_csv(table: pd.DataFrame, file: IO[bytes]) -> None:
    """Write a table for spreadsheets, which would run a text that looks like a formula."""
    safe = table.apply(lambda column: column.map(no_formula))
    file.write(safe.rename(columns=no_formula).to_csv(index=False).encode())


def no_formula(value: Any) -> Any:
    """Put a quote before what a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
