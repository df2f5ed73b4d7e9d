"""``memsuite tasks``: what each task asks at each difficulty, its anchors measured, and pictures of its episodes."""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from memsuite.analysis.plots.episodes import draw_episode
from memsuite.errors import UsageError
from memsuite.launch.plain import PlainParser, names_among
from memsuite.launch.plain import console as plain_console
from memsuite.metrics import Success
from memsuite.runs.config import DIFFICULTIES
from memsuite.tasks import SETS, TASKS, TaskConfig, get_task_config
from memsuite.tasks.policies import Policy, memoryless, oracle, play, random_policy, window

WIDTH = 146  # columns that the tables need; a narrower terminal wraps them, which loses nothing
STEPS = 2_000_000  # environment steps that one anchor is measured on, at most
BATCH_STEPS = 200_000  # of which so many at once


def main(verb: str, arguments: list[str]) -> int:
    """Print the table, the measured anchors or JSON, or draw."""
    options = parse(arguments)
    configs = [get_task_config(task, difficulty) for task in options.task for difficulty in options.difficulty]
    if options.draw:
        return draw(options.task, Path(options.draw), options.seed)
    if options.anchors:
        with plain_console(stderr=True).status("playing") as status:
            rows = []
            for config in configs:
                status.update(f"playing {config.task} {config.difficulty}")
                rows += measure_anchors(config, options.episodes, options.seed)
        table = anchors_table
    else:
        rows, table = [config.as_dict() for config in configs], overview
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        plain_console(width=max(WIDTH, plain_console().width)).print(table(rows))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite tasks", description="List the tasks and what each difficulty means.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--anchors", action="store_true", help="play the policies of the anchors; print their success")
    parser.add_argument("--draw", metavar="FOLDER", help="draw one easy episode of each task into FOLDER")
    parser.add_argument("--set", choices=list(SETS), help="the eight tasks of the suite, eight more, or all (default)")
    parser.add_argument("--task", help="names of tasks, comma-separated; default: all tasks of the set")
    parser.add_argument("--difficulty", help="difficulties, comma-separated; default: all four")
    parser.add_argument("--episodes", type=int, help="episodes for each anchor; default: 4096, fewer if long")
    parser.add_argument("--seed", type=int, help="seed of the episodes of --anchors or --draw; default: 0")
    options = parser.parse_args(arguments)
    if options.set and options.task is not None:
        raise UsageError("--task names the tasks; leave --set out")
    if options.draw and (options.anchors or options.json or options.difficulty):
        raise UsageError("--draw draws easy episodes and prints no table; leave --anchors, --json and --difficulty out")
    if options.episodes is not None and not options.anchors:
        raise UsageError("--episodes is of the anchors; add --anchors")
    if options.seed is not None and not (options.anchors or options.draw):
        raise UsageError("--seed is of drawn episodes; add --anchors or --draw FOLDER")
    options.seed = options.seed or 0
    named = ",".join(SETS[options.set or "all"]) if options.task is None else options.task
    options.task = names_among("task", named, list(TASKS))
    graded = ",".join(DIFFICULTIES) if options.difficulty is None else options.difficulty
    options.difficulty = names_among("difficulty", graded, list(DIFFICULTIES))
    options.episodes = 4096 if options.episodes is None else options.episodes
    if options.episodes < 1:
        raise UsageError(f"--episodes is {options.episodes}; the least is 1")
    return options


def overview(rows: list[dict[str, Any]]) -> Table:
    """Return the table of the presets."""
    caption = (
        "Million steps is the budget of training. Bits are to be remembered for steps. Target, and the success of\n"
        "policies that act at random, without memory or knowing all but what goes with what (unbound), are fractions\n"
        "of scored decisions; an oracle's is 1. Memory: the kinds that MIKASA distinguishes."
    )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    for name in ("task", "difficulty", "size"):
        table.add_column(name, no_wrap=True)
    for name in (
        "horizon",
        "target",
        "million\nsteps",
        "dis-\ncount",
        "bits",
        "steps",
        "random",
        "memory-\nless",
        "unbound",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("memory", no_wrap=True)
    previous = rows[0]["task"]
    for row in rows:
        kinds = ", ".join(row["memory_types"]) if row["difficulty"] == rows[0]["difficulty"] else ""
        if row["task"] != previous:
            table.add_section()
        previous = row["task"]
        size = next(iter(get_task_config(row["task"], row["difficulty"]).args))
        numbers = [
            str(row["horizon"]),
            f"{row['target_success']:.2f}",
            f"{row['steps'] / 1e6:g}",
            f"{row['discount']:g}",
        ]
        numbers += [f"{row['bits_to_remember']:.0f}", str(row["steps_to_remember"])]
        anchors = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("random", "memoryless", "unbound")]
        table.add_row(row["task"], row["difficulty"], f"{size} {row[size]}", *numbers, *anchors, kinds)
    return table


def measure_anchors(config: TaskConfig, episodes: int, seed: int) -> list[dict[str, Any]]:
    """Play each anchor's policy; return what was declared and what was measured, with a 95% interval."""
    task, rows = config.make(), []
    anchors, quarter = task.anchors(), task.horizon // 4
    declared: list[tuple[str, float, Policy]] = [
        ("random", anchors.random, random_policy(task)),
        ("memoryless", anchors.memoryless, memoryless(task)),
        (f"window({quarter})", task.window_anchor(quarter), window(task, quarter)),
        ("oracle", anchors.oracle, oracle(task)),
    ]
    count = max(64, min(episodes, STEPS // task.horizon))
    batch = max(1, min(count, BATCH_STEPS // task.horizon))
    for name, expected, policy in declared:
        purpose = f"{seed}/{config.task}/{config.difficulty}/{name}"
        generator = torch.Generator().manual_seed(zlib.crc32(purpose.encode()))  # no two share their guesses
        metric = Success()
        for start in range(0, count, batch):
            metric.update(*play(task, policy, min(batch, count - start), generator))
        measured = metric.compute()
        low, high = measured["success_low"], measured["success_high"]
        row = {"task": config.task, "difficulty": config.difficulty, "policy": name, "declared": expected}
        row |= {"measured": measured["success"], "low": low, "high": high, "episodes": measured["episodes"]}
        rows.append(row | {"inside": low - 1e-9 <= expected <= high + 1e-9, "target_success": config.target_success})
    return rows


def anchors_table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of the measured anchors."""
    outside = sum(not row["inside"] for row in rows)
    chance = 0.05 * sum(row["declared"] < 1 for row in rows)
    title = f"{len(rows)} anchors, {outside} outside their 95% interval ({chance:.1f} expected by chance)"
    table = Table("task", "difficulty", "policy", title=title)
    for name in ("declared", "measured", "95% interval", "episodes", "inside"):
        table.add_column(name, justify="right")
    for row in rows:
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        numbers = [f"{row['declared']:.4f}", f"{row['measured']:.4f}", interval, str(row["episodes"])]
        table.add_row(row["task"], row["difficulty"], row["policy"], *numbers, "yes" if row["inside"] else "no")
    return table


def draw(tasks: list[str], folder: Path, seed: int) -> int:
    """Draw one easy episode of each task; print the files."""
    for name in tasks:
        task = get_task_config(name, "easy").make()
        path = folder / f"{name}.png"
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{seed}".encode()))  # an episode of its own each
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draw_episode(task, f"{name}, easy: horizon {task.horizon}", path, generator)
        except OSError as error:
            raise UsageError(f"cannot write --draw {path}: {error.strerror}") from error
        print(path)
    return 0
