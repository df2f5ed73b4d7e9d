"""``memsuite submit``: make a file of finished runs for the leaderboard, check one, or train its cheapest run again."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from memsuite.errors import Stopped, UsageError
from memsuite.files import write_json
from memsuite.launch.plain import PlainParser
from memsuite.reading import counted
from memsuite.submissions import make_submission, read_submission, rerun, verify


def main(verb: str, arguments: list[str]) -> int:
    """Write a submission, or check one; 1 if its cheapest run does not reach again what it says."""
    options = parse(arguments)
    if options.check:
        return check(Path(options.check), options.rerun)
    name = options.name or Path(options.runs[0]).resolve().name
    out = Path(options.out or f"{name}.json")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} is there already; add --overwrite to replace it, or another --out")
    content = make_submission(options.runs, name, options.by)
    verify(content, str(out))
    try:
        write_json(out, content)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    except ValueError as error:  # JSON has no such number
        raise UsageError(f"a setting of these runs is not a finite number: {error}") from error
    print(f"{out}: {counted(len(content['runs']), 'run')}, digest {content['digest'][:12]}; how to send it is in the")
    print("CONTRIBUTING.md of memsuite's repository: by a pull request that adds the file to results/submissions/")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite submit", description=__doc__.partition(":")[2])
    parser.add_argument("runs", nargs="*", help="run folders, folders of runs such as a suite's, or files of results")
    parser.add_argument("--name", help="name on the leaderboard; default: that of the first folder")
    parser.add_argument("--by", default="anonymous", help="your name; default: anonymous")
    parser.add_argument("--out", help="the file to write; default: NAME.json")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--check", metavar="FILE", help="check this submission; make none")
    parser.add_argument(
        "--rerun", action="store_true", help="with --check: train its cheapest run again; runs its code"
    )
    options = parser.parse_args(arguments)
    if options.rerun and not options.check:
        raise UsageError("--rerun trains a run of a submission again: name it by --check FILE")
    if bool(options.runs) == bool(options.check):
        raise UsageError("name runs to submit, or a submission to check: memsuite submit runs/x, or --check FILE")
    return options


def check(path: Path, again: bool) -> int:
    """Check a submission; with ``again``, train its cheapest run and compare."""
    content = read_submission(path)
    results = verify(content, str(path))
    models = len({run.controller for run in results})
    print(f"{path} is whole: {counted(len(results), 'run')} of {counted(models, 'model')}")
    if not again:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = rerun(content, results, Path(folder))
    (low, high), (now_low, now_high) = found.claimed, found.found
    text = f"{found.name}: {now_low:.3f} to {now_high:.3f} now, {low:.3f} to {high:.3f} in the submission"
    if not found.agrees:
        raise Stopped(f"{text}: they do not agree", 1)
    print(f"{text}: they agree")
    return 0
