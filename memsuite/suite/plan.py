"""What a suite would run: the command lines, and a table of what they cost; of many runs, a line for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from memsuite.reading import counted
from memsuite.suite import store
from memsuite.suite.estimate import BASIS, Size, in_words, seconds
from memsuite.suite.grid import Run

MANY = 40  # runs, from which on a line for each is more than anybody reads
SHOWN = 3  # command lines of many runs
Row = tuple[str, str, str, str]


def show_plan(runs: Sequence[Run], sizes: Sequence[Size], jobs: int) -> None:
    """Print what a suite would run.

    Args:
        runs: the runs.
        sizes: how much work each is.
        jobs: runs at a time.
    """
    kinds = [store.look(run).kind for run in runs]
    known = [seconds(size) for size in sizes]
    few = len(runs) <= MANY
    for run in runs if few else runs[:SHOWN]:
        print(run.command)
    if not few:
        print(f"... and {len(runs) - SHOWN:,} more like these; --only ID shows those of a part")
    print()
    rows = _of_each(runs, sizes, kinds, known) if few else _of_tasks(runs, sizes, kinds, known)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, state, steps, time in rows:
        print(f"{name:<{widths[0]}}  {state:<{widths[1]}}  {steps:>{widths[2]}}  {time:>{widths[3]}}")
    print()
    _sum_up(sizes, kinds, known, jobs)


def _of_each(
    runs: Sequence[Run], sizes: Sequence[Size], kinds: Sequence[str], known: Sequence[float | None]
) -> list[Row]:
    rows = [("run", "state", "environment steps", "estimated time")]
    for run, size, kind, time in zip(runs, sizes, kinds, known, strict=True):
        rows.append((run.id, kind, f"{size.env_steps:,}", "not known" if time is None else in_words(time)))
    return rows


def _of_tasks(
    runs: Sequence[Run], sizes: Sequence[Size], kinds: Sequence[str], known: Sequence[float | None]
) -> list[Row]:
    groups: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(run.id.partition("/")[0], []).append(number)
    rows = [("runs", "state", "environment steps", "estimated time")]
    for task, numbers in groups.items():
        states = Counter(kinds[number] for number in numbers)
        times = [known[number] for number in numbers]
        together = sum(time for time in times if time is not None)
        unknown = times.count(None)
        text = "not known" if unknown == len(times) else in_words(together)
        text += f", {unknown} not known" if 0 < unknown < len(times) else ""
        steps = sum(sizes[number].env_steps for number in numbers)
        state = ", ".join(f"{count} {kind}" for kind, count in states.items())
        rows.append((f"{task}: {counted(len(numbers), 'run')}", state, f"{steps:,}", text))
    return rows


def _sum_up(sizes: Sequence[Size], kinds: Sequence[str], known: Sequence[float | None], jobs: int) -> None:
    left = sum(time or 0.0 for time, kind in zip(known, kinds, strict=True) if kind not in ("finished", "other"))
    some = sum(time is not None for time in known)
    total = sum(size.env_steps for size in sizes)
    still = f"about {in_words(left / jobs)} with --jobs {jobs}" if some else "for a time that is not known"
    print(f"{counted(len(sizes), 'run')}, {total:,} environment steps; still to do: {still}")
    if others := kinds.count("other"):
        print(f"{others} of them were made with other settings; only --overwrite makes them anew.")
    if some:
        print(f"An estimate for {some} of {len(sizes)} runs: {BASIS}.")
