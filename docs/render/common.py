"""What the tables share: where results lie, and how a row becomes a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from memsuite.runs.collection import read_collection

ROOT = Path(__file__).parents[2]
SEEDS = range(5)
Run = dict[str, Any]


def runs_of(name: str) -> list[Run]:
    """Return the runs of ``results/NAME.jsonl``."""
    return read_collection(ROOT / "results" / f"{name}.jsonl")


def content_of(name: str) -> dict[str, Any]:
    """Return what ``results/NAME.json`` holds: measurements that are no runs."""
    content: dict[str, Any] = json.loads((ROOT / "results" / f"{name}.json").read_text())
    return content


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table of Markdown."""
    first = "|" + "|".join(f" {heading} " if heading else " " for heading in headings) + "|"
    return "\n".join([first, "|---" * len(headings) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    """Return runs by what they have in common, in the order they come in."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def each(values: Iterable[Any], form: str = ".3f") -> str:
    """Write the values of all seeds after one another."""
    return " ".join(f"{value:{form}}" for value in values)


def heading_of(run: Run) -> str:
    """Return the heading of the tables of a task: its tier, its budget, its target, and chance."""
    about = f"{run['config']['steps']:,} steps, target {run['target_success']:.2f}, chance {run['chance']:.3f}"
    return f"### {run['task']}, {run['difficulty']}: {about}"


def in_bold(texts: Sequence[str], bold: bool) -> list[str]:
    """Return texts, in bold if asked."""
    return [f"**{text}**" if bold else text for text in texts]
