"""What the second recipe reaches, as far as its suite has been run: PPO beside the ceiling of each model."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median

from memsuite.controllers import CONTROLLERS
from memsuite.runs.collection import read_collection
from memsuite.suite.grid import read_suite
from memsuite.tasks import SECOND
from render.common import ROOT, SEEDS, Run, grouped, heading_of, in_bold, table

SUITE = "configs/suites/reference_v2.yaml"
FILE = ROOT / "results" / "reference_v2.jsonl"
NEAR = 0.95  # of a ceiling, which counts as reached
Key = tuple[str, str, str, str, int]  # tier, task, controller, objective, seed


def section(file: Path = FILE) -> str:
    """Lay out what there is of the suite: how much is missing, then a table for each task and tier.

    Args:
        file: the collected runs; it may hold a part of the suite, or not be there.
    """
    asked = asked_for()
    made = {key: run for run in (read_collection(file) if file.is_file() else []) if (key := key_of(run)) in asked}
    parts = [how_much(asked, made)]
    for of_task in grouped((made[key] for key in asked if key in made), lambda run: key_of(run)[:2]).values():
        parts += [heading_of(of_task[0]), table_of(of_task)]
    return "\n\n".join(parts)


def asked_for() -> list[Key]:
    """Return the keys of the suite's runs, the easy tier first, then in the suite's order."""
    asked = [run.asked for run in read_suite(ROOT / SUITE).runs]
    keys = [
        (one["difficulty"], one["task"], one["controller"], one.get("objective", "ppo"), one["seed"]) for one in asked
    ]
    tasks, models = (list(dict.fromkeys(key[at] for key in keys)) for at in (1, 2))
    return sorted(keys, key=lambda key: (key[0] != "easy", tasks.index(key[1]), models.index(key[2]), key[3:]))


def key_of(run: Run) -> Key:
    """Return what tells a run of the suite from the others."""
    return run["difficulty"], run["task"], run["controller"], run["objective"], run["seed"]


def how_much(asked: list[Key], made: dict[Key, Run]) -> str:
    """Say how many of the suite's runs are there, and of which kind those are that are missing."""
    if len(made) == len(asked):
        return f"All {len(asked):,} runs of `{SUITE}` are there."
    missing = [key[3] for key in asked if key not in made]
    kinds = f"{missing.count('ppo'):,} by PPO and {missing.count('supervised'):,} supervised"
    return f"{len(made):,} of the {len(asked):,} runs of `{SUITE}` are there; {kinds} are missing."


def table_of(runs: list[Run]) -> str:
    """Lay out the runs of a task and tier, a row a model."""
    headings = ["model", *(f"seed {seed}" for seed in SEEDS), "ceiling", "steps to target", "CPU s", "memory moved"]
    models = grouped(runs, lambda run: run["controller"])
    return table(headings, [row_of(name, own) for name, own in models.items()])


def row_of(name: str, runs: list[Run]) -> list[str]:
    """Return the row of a model: each seed's success by PPO, bold where all five reach the target, and its ceiling."""
    by_ppo = {run["seed"]: run for run in runs if run["objective"] == "ppo"}
    solved = [run["steps_to_target"] for run in by_ppo.values() if run["reached_target"]]
    whole = len(solved) == len(SEEDS)
    scores = [f"{by_ppo[seed]['success']:.3f}" if seed in by_ppo else "" for seed in SEEDS]
    moved = [run["memory_moved"] for run in by_ppo.values()]
    moved = [one["recurrent"] for one in moved if one and "recurrent" in one]
    steps = f"{median(solved):,.0f}" if whole else f"{len(solved)} of {len(by_ppo)}" if by_ppo else ""
    seconds = f"{median(run['cpu_seconds'] for run in by_ppo.values()):,.0f}" if by_ppo else ""
    last = [ceiling(runs), steps, seconds, f"{median(moved):.2g}" if moved else ""]
    return [f"`{name}`", *in_bold(scores, whole), *last]


def ceiling(runs: list[Run]) -> str:
    """Return the mean success of the supervised runs, and their number where it is not that of the seeds."""
    found = [run["success"] for run in runs if run["objective"] == "supervised"]
    if not found:
        return ""
    return f"{mean(found):.3f}" + ("" if len(found) == len(SEEDS) else f" ({len(found)})")


def in_brief(file: Path = FILE) -> str:
    """Lay out the easy tier in one table: a row a model, a column a task, the mean over the seeds that are there.

    Bold where every seed that is there reaches the target; in brackets the ceiling, where it was trained.

    Args:
        file: as for :func:`section`.
    """
    found = [run for run in (read_collection(file) if file.is_file() else []) if run["difficulty"] == "easy"]
    keys = [key for key in asked_for() if key[0] == "easy"]
    tasks, models = (list(dict.fromkeys(key[at] for key in keys)) for at in (1, 2))
    cells = grouped(found, lambda run: (run["task"], run["controller"]))
    rows = [[f"`{model}`", *(brief(cells.get((task, model), [])) for task in tasks)] for model in models]
    return table(["", *(task.replace("_", " ") for task in tasks)], [row for row in rows if any(row[1:])])


def brief(runs: list[Run]) -> str:
    """Return one cell of the table in brief."""
    by_ppo = [run for run in runs if run["objective"] == "ppo"]
    if not by_ppo:
        return ""
    reached = all(run["reached_target"] for run in by_ppo)
    (text,) = in_bold([f"{mean(run['success'] for run in by_ppo):.2f}"], reached)
    above = [run["success"] for run in runs if run["objective"] == "supervised"]
    return text + (f" ({mean(above):.2f})" if above else "")


def in_words(file: Path = FILE) -> str:
    """Say how many cells of the easy tier there are, on how many seeds, and how many reach their target."""
    found = [run for run in (read_collection(file) if file.is_file() else []) if run["difficulty"] == "easy"]
    cells = grouped((run for run in found if run["objective"] == "ppo"), lambda run: (run["task"], run["controller"]))
    solved = sum(all(run["reached_target"] for run in runs) for runs in cells.values())
    counts = [len({run["seed"] for run in runs}) for runs in cells.values()]
    with_number = [(counts.count(number), number) for number in sorted(set(counts))]
    named = ", ".join(f"{many} with {number} seed{'s' * (number > 1)}" for many, number in with_number) or "none"
    text = f"Of {len(cells)} cells of the easy tier that were run ({named}), {solved} reach their target on every seed."
    return f"{text} {beside_ceilings(found)}"


def beside_ceilings(found: list[Run]) -> str:
    """Say in how many cells PPO comes near the ceiling, of those whose ceiling reaches the target."""
    able, near = 0, 0
    for runs in grouped(found, lambda run: (run["task"], run["controller"])).values():
        sides = [[run["success"] for run in runs if run["objective"] == name] for name in ("ppo", "supervised")]
        if all(sides) and mean(sides[1]) >= runs[0]["target_success"]:
            able += 1
            near += mean(sides[0]) >= NEAR * mean(sides[1])
    return f"Of the {able} cells whose ceiling was trained and reaches the target, PPO comes to {NEAR} of it in {near}."


def reached_of(runs: list[Run]) -> str:
    """Return how many runs reach the target: ``1 of 2``."""
    return f"{sum(run['reached_target'] for run in runs)} of {len(runs)}"


def to_target(file: Path = ROOT / "results" / "to_target_v2.jsonl") -> str:
    """Lay out the CPU-seconds to the target by the first recipe and by today's, a row a cell that both solve.

    Args:
        file: the collected runs of ``configs/suites/to_target_v2.yaml``; it may hold a part of them, or not be there.
    """
    found = read_collection(file) if file.is_file() else []
    rows, missed = [], []
    for (task, model), runs in grouped(found, lambda run: (run["task"], run["controller"])).items():
        sides = grouped(runs, lambda run: run["config"]["ppo"]["draws"] > 1)
        if len(sides) < 2:
            continue
        if not all(run["reached_target"] for run in runs):
            first, today = (reached_of(sides[side]) for side in (False, True))
            missed.append(f"{task}, `{model}` ({first} seeds by the first recipe, {today} by today's)")
            continue
        first, today = (median(run["cpu_seconds_to_target"] for run in sides[side]) for side in (False, True))
        seeds = min(len(sides[False]), len(sides[True]))
        rows.append(
            (today / first, [task, f"`{model}`", f"{first:.1f}", f"{today:.1f}", f"{first / today:.1f}", seeds])
        )
    if not rows:
        return "No cell has been run by both recipes yet."
    ratio = 1 / median(one for one, _ in rows)
    text = table(
        ["task", "model", "first recipe", "today's", "ratio", "seeds"], [list(map(str, row)) for _, row in rows]
    )
    left_out = f" Left out, because not every run reaches the target: {'; '.join(missed)}." if missed else ""
    return f"{text}\n\nThe median ratio over these {len(rows)} cells is {ratio:.1f}.{left_out}"


def longest(file: Path = ROOT / "results" / "longest_v2.jsonl") -> str:
    """Lay out the runs of ``configs/suites/longest_v2.yaml``, or of another suite: a row a run.

    Args:
        file: the collected runs; it may hold a part of them, or not be there.
    """
    found = read_collection(file) if file.is_file() else []
    rows = []
    for run in sorted(found, key=lambda run: (run["horizon"], run["controller"], run["seed"])):
        name = [f"{run['horizon']:,}", f"`{run['controller']}`", str(run["seed"]), f"{run['success']:.3f}"]
        reached = run["cpu_seconds_to_target"]
        took = f"{reached:.1f}" if reached is not None else "not reached"
        rows.append([*name, took, f"{run['cpu_seconds']:.0f}", f"{run['scripts']:,}"])
    headings = ["steps", "model", "seed", "success", "CPU s to the target", "CPU s", "scripts"]
    return table(headings, rows) if rows else "No run has been made yet."


def second_set(file: Path = ROOT / "results" / "second_easy_v1.jsonl") -> str:
    """Lay out the easy tier of the second set: a row a model, a column a task, the mean over the seeds that are there.

    Bold where every seed that is there reaches the target; in brackets the number of seeds where it is not three.

    Args:
        file: the collected runs of ``configs/suites/second_easy_v1.yaml``; it may hold a part of them.
    """
    found = read_collection(file) if file.is_file() else []
    cells = grouped(found, lambda run: (run["controller"], column_of(run)))
    columns = [*SECOND, "parity", "s5", "without credit"]
    rows = []
    for model in CONTROLLERS:
        texts = []
        for column in columns:
            runs = cells.get((model, column), [])
            number = f" ({len(runs)})" if 0 < len(runs) < 3 else ""
            texts.append(brief(runs) + number)
        rows.append([f"`{model}`", *texts])
    return table(["", *(column.replace("_", " ") for column in columns)], [row for row in rows if any(row[1:])])


def column_of(run: Run) -> str:
    """Return which column a run of the second set belongs to: its task, or the variant of it that the suite has."""
    group = (run["config"].get("task_args") or {}).get("group", "s3")
    if run["task"] == "state_tracking" and group != "s3":
        return str(group)
    if run["task"] == "key_to_door" and run["config"]["ppo"]["discount"] == 0:
        return "without credit"
    return str(run["task"])
