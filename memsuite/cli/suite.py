"""``memsuite suite``: every run of a grid, in processes of their own, from wherever it was stopped before."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from memsuite.errors import Stopped, UsageError
from memsuite.launch.plain import PlainParser, Unbroken, for_tables
from memsuite.launch.plain import console as plain_console
from memsuite.reading import positive
from memsuite.shipped import find
from memsuite.suite import store
from memsuite.suite.changes import key_values, read_changes
from memsuite.suite.drive import Drive
from memsuite.suite.grid import Run, Suite, choose, read_suite
from memsuite.suite.launch import Launcher, LocalLauncher, call_in_a_fork, slots
from memsuite.suite.listing import listing
from memsuite.suite.plan import show_plan
from memsuite.suite.view import View

if TYPE_CHECKING:
    from memsuite.cli.suite_check import Checked

LAUNCHERS = ("local", "ray", "submitit")


def main(verb: str, arguments: list[str]) -> int:
    """Run the suite, or show what it would run; 1 if a run failed or was made with other settings."""
    options = parse(arguments)
    if options.list:
        return show_suites()
    if options.file is None:
        raise UsageError("name a suite, such as basic_v1, or its YAML file; --list shows the suites that there are")
    suite = read_suite(find("suite", options.file), options.out and Path(options.out), read_changes(options.set))
    if file := next((one for one in (suite.folder, *suite.folder.parents) if one.is_file()), None):
        raise UsageError(f"cannot make the folder {suite.folder}: {file} is a file")
    runs = choose(suite.runs, options.only)
    if parameters := options.parameters or suite.parameters:
        runs = apart(suite, f"choosing widths of {parameters:,} parameters", options.dry_run, _equal, runs, parameters)
    if not options.dry_run and all(store.look(run).kind == "finished" for run in runs):
        print(f"{len(runs)} of {len(runs)} runs finished in {suite.folder}, all before")
        return 0
    elsewhere = options.launcher != "local"
    checked: Checked = apart(suite, f"looking at {len(runs)} runs", options.dry_run, _check, runs, elsewhere)
    if options.dry_run:
        show_plan(runs, checked.sizes, len(slots(options.jobs, checked.gpus)))
        return 0
    launcher = make_launcher(options, suite, checked)
    with contextlib.redirect_stdout(cast(TextIO, Unbroken(sys.stdout))):
        console = plain_console()
        try:
            make_folder(suite.folder)
            with View(console) as view:
                drive = Drive(runs, checked.sizes, launcher, view, options.overwrite)
                drive.run()
        finally:
            launcher.close()
        return conclude(drive, console, shlex.join(["memsuite", verb, *arguments]), suite)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite suite", description="Run every run of a suite that is not finished.")
    parser.add_argument("file", nargs="?", help="a name from --list, or a YAML file of your own (docs/suites.md)")
    parser.add_argument("--list", action="store_true", help="list the suites that come with memsuite; run nothing")
    text = "other values for an axis or a setting of the suite, such as controller=my_module.MyModel; repeatable"
    parser.add_argument("--set", metavar="KEY=VALUE[,VALUE]", action="append", default=[], help=text)
    parser.add_argument("--dry_run", action="store_true", help="print the command lines and their cost; run nothing")
    parser.add_argument("--jobs", type=int, help="number of runs at a time; default: that of GPUs, or else of cores")
    parser.add_argument("--launcher", default="local", choices=LAUNCHERS, help="local (default), ray or submitit")
    text = "give every model the hidden_dim at which its network has about this number of parameters"
    parser.add_argument("--parameters", type=positive, metavar="N", help=text)
    text = "a run, or all whose id begins with ID/; repeatable"
    parser.add_argument("--only", metavar="ID", action="append", default=[], help=text)
    parser.add_argument("--overwrite", action="store_true", help="redo runs that were made with other settings")
    parser.add_argument("--out", help="where the run folders go; default: runs/NAME_OF_THE_SUITE")
    for name, example in (("ray", "num_cpus=1"), ("slurm", "slurm_partition=gpu")):
        text = f"a setting of the launcher, such as {example}; wins over {name}: in the file; repeatable"
        parser.add_argument(f"--{name}", metavar="KEY=VALUE", action="append", default=[], help=text)
    options = parser.parse_args(arguments)
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs is {options.jobs}; the least is 1")
    for section, launcher in (("ray", "ray"), ("slurm", "submitit")):
        if getattr(options, section) and options.launcher != launcher:
            raise UsageError(f"--{section} is a setting of --launcher {launcher}, which was not given")
    return options


def show_suites() -> int:
    """Print a table of the suites that come with memsuite."""
    table = Table("suite", "runs", "content", box=SIMPLE_HEAD)
    for name, runs, text in listing():
        table.add_row(name, f"{runs:,}", text)
    for_tables().print(table)
    return 0


def apart(suite: Suite, doing: str, here: bool, function: Callable[..., Any], *given: Any) -> Any:
    """Call a function in a process of the fork server, or in this one if no run will start.

    The fork server then has its imports ready for the runs, and this process has not touched a GPU.
    """
    with plain_console(stderr=True).status(doing):
        try:
            if here:
                return function(*given)
            return call_in_a_fork(function, *given)
        except UsageError as error:
            raise UsageError(f"{suite.source}: {error}") from None
        except EOFError:
            raise Stopped("the process that looks at the runs was killed; nothing was started") from None


def _check(runs: list[Run], elsewhere: bool) -> Checked:
    from memsuite.cli.suite_check import check

    return check(runs, elsewhere)


def _equal(runs: list[Run], parameters: int) -> list[Run]:
    from memsuite.cli.suite_check import of_equal_size

    return of_equal_size(runs, parameters)


def make_launcher(options: argparse.Namespace, suite: Suite, checked: Checked) -> Launcher:
    """Build what starts the runs."""
    if options.launcher == "local":
        return LocalLauncher(slots(options.jobs, checked.gpus), options.overwrite)
    section = "ray" if options.launcher == "ray" else "slurm"
    settings = {**suite.launchers[section], **key_values(section, getattr(options, section))}
    if section == "ray":
        from memsuite.suite.ray import RayLauncher

        return RayLauncher(settings, options.jobs, options.overwrite)
    from memsuite.suite.slurm import SlurmLauncher

    return SlurmLauncher(settings, suite.folder, options.jobs, options.overwrite)


def make_folder(folder: Path) -> None:
    """Make the suite's folder, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error


def conclude(drive: Drive, console: Console, command: str, suite: Suite) -> int:
    """Say what became of the runs; return the exit status.

    Raises:
        Stopped: by a signal, with the line that says how to go on.
    """
    total, finished = len(drive.sizes), len(drive.finished)
    if drive.received and finished < total:
        text = f"stopped, {finished} of {total} runs finished, what was running is saved; go on with: {command}"
        raise Stopped(text, 128 + drive.received)
    kinds = (("failed", drive.failed), ("not run", drive.other))
    for kind, lines in kinds:
        for run_id, line in lines.items():
            console.print(f"{kind}: {run_id}: {line}", markup=False, highlight=False, soft_wrap=True)
    print(f"{finished} of {total} runs finished in {suite.folder}", end="")
    print("".join(f", {len(lines)} {kind}" for kind, lines in kinds if lines))
    return 0 if finished == total else 1
