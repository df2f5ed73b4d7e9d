"""The observability gap: what a model loses when the answer is no longer shown (POPGym Arcade, arXiv 2503.01450)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memsuite.analysis.results import BETWEEN_SETTINGS, CELL, labels

if TYPE_CHECKING:
    import pandas as pd

SHOWN = "reveal=True"  # how a twin's setting is written in a run's variant


def observability_gaps(table: pd.DataFrame) -> dict[str, Any]:
    """Set every cell beside its twin that shows the answer (:func:`memsuite.tasks.reveal.revealed`).

    Args:
        table: the runs (:func:`memsuite.analysis.results.read_results`).

    Returns:
        ``headings`` and ``rows``, one for each cell whose twin was run too: task and tier, model, what tells it apart
        from other rows, the mean success with the answer and without, the difference, and the number of seeds, which
        are those that both were run with. No rows if there are no twins.
    """
    headings = ["task", "controller", "answer shown", "from memory", "gap", "seeds"]
    settings = table["variant"].fillna("").map(BETWEEN_SETTINGS.split)
    shown = settings.map(lambda parts: SHOWN in parts)
    plain = settings.map(lambda parts: ", ".join(part for part in parts if part != SHOWN))
    runs = table.assign(variant=plain)[[*CELL, "seed", "success"]]
    pairs = runs[~shown].merge(runs[shown], on=[*CELL, "seed"], suffixes=("_memory", "_answer"))
    if pairs.empty:
        return {"headings": headings, "rows": []}
    means = {"answer": ("success_answer", "mean"), "memory": ("success_memory", "mean"), "seeds": ("seed", "nunique")}
    cells = pairs.groupby(CELL, dropna=False, sort=False).agg(**means).reset_index()
    names = labels(cells)
    apart = ["settings"] if (names["apart"] != "").any() else []
    rows = []
    for at, row in cells.iterrows():
        told = [names.loc[at, name] for name in ("cell", "model", *("apart" for _ in apart))]
        numbers = [f"{row['answer']:.3f}", f"{row['memory']:.3f}", f"{row['answer'] - row['memory']:+.3f}"]
        rows.append([*told, *numbers, f"{row['seeds']:.0f}"])
    return {"headings": [*headings[:2], *apart, *headings[2:]], "rows": rows}
