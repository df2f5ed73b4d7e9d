"""``memsuite report``: one page of results that works offline, its figures and its table beside it."""

from __future__ import annotations

from pathlib import Path

from memsuite.analysis.curves import with_curve
from memsuite.analysis.report import write_report
from memsuite.analysis.report_folder import refuse_held, replace_report
from memsuite.analysis.results import read_results, runs_at
from memsuite.errors import UsageError
from memsuite.launch.plain import PlainParser
from memsuite.reading import counted
from memsuite.runs.collection import check_target, write_collection


def main(verb: str, arguments: list[str]) -> int:
    """Write the report, and say where it lies."""
    parser = PlainParser(prog="memsuite report", description=__doc__.partition(":")[2])
    text = "a folder of runs, a file of results, or the name of published ones; several are taken together"
    parser.add_argument("--results", required=True, action="append", help=text)
    parser.add_argument("--baseline", help="results to compare with, named in the same ways")
    parser.add_argument("--out", default="report", help="folder to write; default: report/")
    parser.add_argument("--title", default="", help="title of the page")
    parser.add_argument("--collect", help="write all runs into this file of JSON Lines too: FILE.jsonl")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the report and the --collect file if they exist"
    )
    options = parser.parse_args(arguments)
    folder = Path(options.out)
    if not options.overwrite:
        refuse_held(folder)
    if options.collect:
        check_target(options.collect, options.overwrite)
    table = read_results(*options.results)
    baseline = read_results(options.baseline) if options.baseline else None
    try:
        replace_report(folder, lambda beside: write_report(table, beside, baseline, options.title))
    except OSError as error:
        raise UsageError(f"cannot write the report into {folder}: {error.strerror}") from error
    if options.collect:
        collect(Path(options.collect), options.results)
    same = f"and {folder}/figures hold" if any((folder / "figures").iterdir()) else "holds"  # none of ceilings alone
    print(f"{folder}/index.html: {counted(len(table), 'run')}; {folder}/results.csv {same} the same")
    return 0


def collect(path: Path, results: list[str]) -> None:
    """Write all runs into one file, with their learning curves."""
    try:
        write_collection(path, [with_curve(where, run) for where, run in runs_at(*results)])
    except OSError as error:
        raise UsageError(f"cannot write --collect {path}: {error.strerror}") from error
