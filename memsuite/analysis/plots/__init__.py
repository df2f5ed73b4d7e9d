"""The figures of results: each function turns tidy tables into a matplotlib figure."""

from memsuite.analysis.plots.beyond import success_beyond
from memsuite.analysis.plots.canvas import pyplot
from memsuite.analysis.plots.results import (
    aggregate_scores,
    cost,
    learning_curves,
    profiles,
    retention_curves,
    sized_models,
    solved_map,
)

__all__ = [
    "aggregate_scores",
    "cost",
    "learning_curves",
    "profiles",
    "pyplot",
    "retention_curves",
    "sized_models",
    "solved_map",
    "success_beyond",
]
