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
        ``headings`` and ``rows``, one for each cell whose twin was run too: task and tier, model, the mean success with
        the answer and without, and the difference. No rows if there are no twins.
    """
    headings = ["task", "controller", "answer shown", "from memory", "gap"]
    settings = table["variant"].fillna("").map(BETWEEN_SETTINGS.split)
    shown = settings.map(lambda parts: SHOWN in parts)
    if not shown.any():
        return {"headings": headings, "rows": []}
    plain = settings.map(lambda parts: ", ".join(part for part in parts if part != SHOWN))
    table = table.assign(variant=plain)
    with_answer = table[shown].groupby(CELL, dropna=False)["success"].mean()
    without = table[~shown].groupby(CELL, dropna=False)["success"].mean()
    pairs = without.to_frame("memory").join(with_answer.rename("answer"), how="inner").reset_index()
    if pairs.empty:
        return {"headings": headings, "rows": []}
    names = labels(pairs)
    rows = [
        [names.loc[at, "cell"], names.loc[at, "model"], f"{row['answer']:.3f}", f"{row['memory']:.3f}", gap]
        for at, row in pairs.iterrows()
        for gap in [f"{row['answer'] - row['memory']:+.3f}"]
    ]
    return {"headings": headings, "rows": rows}
