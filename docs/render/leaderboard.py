"""The leaderboard: published and submitted runs, a row a model, ranked where all published tasks of a tier were run."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from memsuite.analysis.results import variant
from memsuite.bench.map import as_in_its_tier
from memsuite.runs import RunResult
from memsuite.runs.collection import read_collection
from memsuite.runs.config import DIFFICULTIES
from memsuite.submissions import read_submission, verify
from memsuite.tasks import PRESETS
from render.common import ROOT, grouped, table

CURRENT = "v2"  # the recipe of the published rows, which needs no name

FILE = ROOT / "results" / "reference_v2.jsonl"
SUBMISSIONS = ROOT / "results" / "submissions"
HEADINGS = ("rank", "model", "mean score", "at target", "tasks", "seeds", "parameters", "state floats", "from")


class Entry(NamedTuple):
    """A model on a tier."""

    tier: str
    model: str
    by: str
    runs: list[RunResult]
    asked: frozenset[str]  # the tasks of the tier that count

    @property
    def tasks(self) -> dict[str, list[RunResult]]:
        """Its runs by their tasks."""
        return grouped(self.runs, lambda run: run.task)

    @property
    def score(self) -> float:
        """The mean over tasks of the mean over seeds."""
        return mean(mean(run.score or 0.0 for run in runs) for runs in self.tasks.values())

    @property
    def whole(self) -> bool:
        """Whether it has run every task of the tier that counts."""
        return self.tasks.keys() >= self.asked


def section(file: Path = FILE, submissions: Path = SUBMISSIONS) -> str:
    """Lay out the leaderboard of every tier of which something was run.

    Args:
        file: the published runs.
        submissions: the folder of what was submitted.

    Raises:
        UsageError: a submission is not whole.
    """
    found = [RunResult.read(run, str(file)) for run in read_collection(file)]
    published = {(run.task, run.difficulty) for run in found}
    entries = entries_of(found, "published", published)
    for path in sorted(submissions.glob("*.json")):
        content = read_submission(path)
        by = f"{one_line(content['name'])}, by {one_line(content['by'])}"
        entries += entries_of(verify(content, str(path)), by, published)
    parts = []
    for tier in DIFFICULTIES:
        if own := sorted((one for one in entries if one.tier == tier), key=lambda one: (not one.whole, -one.score)):
            parts += [
                f"## {tier.capitalize()}",
                table(HEADINGS, [row_of(number, one) for number, one in enumerate(own, 1)]),
            ]
    return "\n\n".join(parts)


def entries_of(results: list[RunResult], by: str, published: set[tuple[str, str]]) -> list[Entry]:
    """Return the models of some runs, tier by tier.

    Args:
        results: the runs; those by PPO of the tasks of memsuite count, within their budgets.
        by: who has sent them.
        published: tasks and tiers of which there are published runs.
    """
    counted = [run for run in results if run.objective == "ppo" and (run.task, run.difficulty) in PRESETS]
    counted = [run for run in counted if within_budget(run)]
    # By all that is different: the names are cut, and two experiments may begin alike.
    models = grouped(counted, lambda run: (run.difficulty, run.controller, *variant(run), *run.besides()))
    return [Entry(tier, name_of(runs[0]), by, runs, _asked(tier, published)) for (tier, *_), runs in models.items()]


def _asked(tier: str, published: set[tuple[str, str]]) -> frozenset[str]:
    """Return the tasks that a model must have run for a rank; all of a tier of which nothing was published."""
    of_tier = frozenset(task for task, difficulty in published if difficulty == tier)
    return of_tier or frozenset(task for task, difficulty in PRESETS if difficulty == tier)


def within_budget(run: RunResult) -> bool:
    """Tell whether a run is of the tier as it is: its horizon and arguments, and no more steps than its budget."""
    return as_in_its_tier(run) and (run.env_steps or 0) <= PRESETS[run.task, run.difficulty].steps


def name_of(run: RunResult) -> str:
    """Return a model's name, with what makes its experiment another: recipe, settings, a curriculum, an extension."""
    recipe, settings = variant(run)
    different = [f"recipe {recipe}"] if recipe != CURRENT else []
    different += [*run.besides(), *([settings] if settings else [])]
    return f"`{run.controller}`" + (f" ({one_line(', '.join(different))})" if different else "")


def one_line(text: str) -> str:
    """Return a text of somebody else's so that it stays within its place of a table."""
    return "".join(letter if letter.isalnum() or letter in " .,-_=+@()[]" else " " for letter in text)[:80]


def row_of(number: int, entry: Entry) -> list[str]:
    """Return the row of a model; only those that have run every published task of the tier have a rank."""
    solved = sum(all(run.reached_target for run in runs) for runs in entry.tasks.values())
    sizes = [f"{median(getattr(run, name) or 0 for run in entry.runs):,.0f}" for name in ("parameters", "state_floats")]
    seeds = sorted({len(runs) for runs in entry.tasks.values()})
    return [
        str(number) if entry.whole else "",
        entry.model,
        f"{entry.score:.3f}",
        str(solved),
        str(len(entry.tasks)),
        " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))),
        *sizes,
        entry.by,
    ]
