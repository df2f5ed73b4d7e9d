"""``memsuite retention``: what a trained agent still knows at horizons far beyond the one it was trained at."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from memsuite.analysis.plots.canvas import check_plot
from memsuite.analysis.retention import beyond, curve_of, described, settings_of, tasks_at
from memsuite.analysis.retention_shown import density_of, table_of
from memsuite.errors import UsageError
from memsuite.launch.allocator import keep_freed_memory
from memsuite.launch.plain import PlainParser, apart, for_tables, whole_numbers, write_asked
from memsuite.launch.plain import console as plain_console
from memsuite.loading import load
from memsuite.reading import positive
from memsuite.rl.needs import check_evaluation
from memsuite.runs.checkpoints import fingerprint, run_folders_in
from memsuite.runs.folder import RESULT, RETENTION
from memsuite.runs.provenance import commit, hardware, versions

USUAL = "50,100,200,500,1000,2000,5000,10000,20000"
ALL = "all"


def main(verb: str, arguments: list[str]) -> int:
    """Measure every run, write its ``retention.json``, print the table, draw the figure and collect what was found."""
    options = parse(arguments)
    keep_freed_memory()
    command, console = shlex.join(["memsuite", verb, *arguments]), plain_console(stderr=True)
    reports = [
        measured_before(path, options, setting) or measure_and_keep(path, options, setting, command, console)
        for path in run_folders_in(options.runs)
        for setting in options.settings
    ]
    if options.out:
        write_asked(
            Path(options.out), {"command": command, "reports": [with_training(report) for report in reports]}, "--out"
        )
    if options.json:
        print(json.dumps(reports, indent=2))
    else:
        for table in [one for report in reports for one in (table_of(report), density_of(report)) if one]:
            for_tables().print(table)
    if options.plot:
        from memsuite.analysis.plots.reports import draw

        draw(reports, Path(options.plot))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite retention", description=__doc__.partition(":")[2])
    runs = "run folders (each gets a retention.json), folders of them, or checkpoints"
    parser.add_argument("runs", nargs="+", type=Path, help=runs)
    parser.add_argument("--horizons", help=f"comma-separated steps of an episode; default: {USUAL}, as far as possible")
    episodes = f"episodes drawn at each horizon, or {ALL}: every one there is, once (delayed cue has one a cue)"
    both = f"{ALL},64: {ALL} where they can be counted, otherwise 64"
    parser.add_argument("--episodes", default="256", help=f"{episodes}, or {both}; default: 256")
    replaced = "arguments of the task that differ from training, such as --task_args.noise 0,0.01: each value in turn"
    parser.add_argument("--task_args.NAME", dest="task_args", help=replaced)
    parser.add_argument("--plot", help="draw the curves of all runs into this file (png, svg, pdf)")
    parser.add_argument("--out", help="write all curves into this one JSON file too, as in results/beyond.json")
    parser.add_argument("--overwrite", action="store_true", help="measure again what retention.json already holds")
    trust = "import the modules that a checkpoint names, for a task or a controller of your own"
    parser.add_argument("--trust", action="store_true", help=trust)
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    given, rest = apart(arguments, "--task_args.")
    options = parser.parse_args(rest)
    options.settings = settings_of(given)
    if any("horizon" in setting for setting in options.settings):
        raise UsageError("--task_args.horizon would be replaced by the horizons that are measured: use --horizons")
    options.usual = options.horizons is None
    options.horizons = sorted(set(whole_numbers("--horizons", options.horizons or USUAL)))
    first, _, other = options.episodes.partition(",")
    options.counted = first == ALL
    if other and not options.counted:
        raise UsageError(f"--episodes {options.episodes!r}: two values are {ALL},NUMBER")
    options.episodes = None if options.episodes == ALL else number_of_episodes(other if options.counted else first)
    if options.plot:
        check_plot(Path(options.plot))
    return options


def number_of_episodes(text: str) -> int:
    """Read ``--episodes``, where it is a number."""
    try:
        return int(positive(text))
    except ValueError as error:
        raise UsageError(f"--episodes {text!r} is neither a whole number above 0 nor {ALL}") from error


def file_of(path: Path, setting: dict[str, Any]) -> Path:
    """Return where a measurement is kept: ``retention.json``, or with arguments ``retention_noise_0.1.json``."""
    asked = "".join(f"_{name}_{value}" for name, value in setting.items())
    return path / RETENTION.replace(".", re.sub(r"[^\w.+-]", "-", asked) + ".", 1)


def measured_before(path: Path, options: argparse.Namespace, setting: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a run's measurement holds, if it is what is asked for now, of the checkpoint there is now."""
    file = file_of(path, setting)
    if options.overwrite or not file.is_file():
        return None
    try:
        report = json.loads(file.read_text())
        rows = [row["horizon"] for row in report["rows"]]
        asked = [options.horizons, options.episodes, fingerprint(path), setting]
        held = [report.get("asked_horizons", rows), report["episodes"], report["checkpoint"]]
        held.append(report.get("task_args", {}))
    except (ValueError, KeyError, TypeError):  # of another version, or of somebody else's
        return None
    return {**report, "run": str(path)} if held == asked else None


def measure_and_keep(
    path: Path, options: argparse.Namespace, setting: dict[str, Any], command: str, console: Console
) -> dict[str, Any]:
    """Measure one run, and leave the result with how it was made in its folder."""
    began = time.perf_counter(), time.process_time()
    report = {**measure(path, options, setting, console), "episodes": options.episodes, "checkpoint": fingerprint(path)}
    report["wall_seconds"], report["cpu_seconds"] = time.perf_counter() - began[0], time.process_time() - began[1]
    report["hardware"], report["versions"] = hardware(torch.device("cpu")), versions()
    report["commit"], report["command"], report["asked_horizons"] = commit(), command, options.horizons
    if path.is_dir():
        write_asked(file_of(path, setting), report, "the measurement")
    return report


def measure(path: Path, options: argparse.Namespace, setting: dict[str, Any], console: Console) -> dict[str, Any]:
    """Measure one run at every horizon, with arguments of the task replaced; mistakes are told before the first."""
    module = load(path, options.trust)
    config, rows = module.config, []
    if config.task.startswith("gym:"):
        raise UsageError(f"{path}: {config.task} has a horizon of its own, which cannot be made longer")
    tasks = tasks_at(module, options.horizons, setting, options.usual)
    for task in tasks:
        check_evaluation(task, options.episodes or 1)
    with console.status("") as status:
        measured = beyond(module, [task.horizon for task in tasks], options.episodes, setting, options.counted)
        for task in tasks:
            status.update(f"{path}: {options.episodes or ALL} episodes of {task.horizon:,} steps {described(setting)}")
            rows.append(next(measured))
    return {"run": str(path), **curve_of(module, rows, setting)}


def with_training(report: dict[str, Any]) -> dict[str, Any]:
    """Add the ``result.json`` of the run: how it was trained, by what command, and what it reached."""
    file = Path(report["run"]) / RESULT
    return {**report, "training": json.loads(file.read_text()) if file.is_file() else None}
