"""``memsuite compare``: results against a baseline (status 1 if something is worse), or models against each other."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from memsuite.analysis.compare import PUBLISHED, published_beside
from memsuite.analysis.compare_tables import Answer, of_models, of_one, of_two
from memsuite.analysis.layout import for_terminal
from memsuite.analysis.models import compare_models, models_in, split_names
from memsuite.analysis.plots.canvas import check_plot, save
from memsuite.analysis.plots.models import comparison_figure
from memsuite.analysis.results import read_results
from memsuite.errors import UsageError
from memsuite.files import write_json
from memsuite.launch.plain import PlainParser, for_tables
from memsuite.runs.folder import RESULT

FORMATS = ("table", "csv", "latex", "markdown", "json")


def main(verb: str, arguments: list[str]) -> int:
    """Compare, print, and tell by the exit status whether something is worse than its baseline."""
    options = parse(arguments)
    answer = by_model(options) if options.models else by_cell(options)
    if options.out:
        try:
            write_json(Path(options.out), answer.plain)
        except OSError as error:
            raise UsageError(f"cannot write --out {options.out}: {error.strerror}") from error
    try:
        show(answer, options.format)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, and the status still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(answer.worse)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite compare", description=__doc__.partition(":")[2])
    parser.add_argument(
        "--results",
        action="append",
        help="a folder of runs, a file of results, or the name of published ones; several are taken together",
    )
    parser.add_argument(
        "--baseline",
        help="results to compare with, named in the same ways; default: the published results of the same cells; if "
        "there are none, --results is only summarised",
    )
    parser.add_argument(
        "--models",
        help="compare the first model with each of the others: my_module.MyModel,gru,lru; without --results, they "
        f"are taken from runs/, and from {PUBLISHED} if they are not there",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="confidence of the intervals; default: 0.95")
    parser.add_argument("--format", default="table", choices=FORMATS, help="form of the output; default: table")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("--plot", help="with --models: draw the comparison into this file too (png, pdf, svg)")
    parser.add_argument("--out", help="write the JSON to this file too")
    options = parser.parse_args(arguments)
    if not 0.5 <= options.confidence < 1:
        raise UsageError(f"--confidence is {options.confidence}; it must be at least 0.5 and below 1")
    if options.out and Path(options.out).is_dir():
        raise UsageError(f"--out {options.out} is a folder; name a file")
    if options.models and options.baseline:
        raise UsageError("--models compares models within the results; leave --baseline out, or --models")
    if options.plot and not options.models:
        raise UsageError("--plot draws a comparison of models: add --models my_module.MyModel,gru")
    if options.plot:
        check_plot(Path(options.plot))
    if not options.results and not options.models:
        raise UsageError("name results: --results FOLDER or FILE is required")
    return options


def by_cell(options: argparse.Namespace) -> Answer:
    """Compare results with a baseline, or summarise them where there is none."""
    results = read_results(*options.results)
    baseline = published_beside(results) if options.baseline is None else read_results(options.baseline)
    return of_one(results, options.confidence) if baseline.empty else of_two(results, baseline, options.confidence)


def by_model(options: argparse.Namespace) -> Answer:
    """Compare models within the results."""
    names = split_names(options.models)
    if options.results:
        results = read_results(*options.results)
    else:
        own = read_results("runs") if any(Path("runs").rglob(RESULT)) else None
        results = models_in(names, own, read_results(PUBLISHED))
    found = compare_models(results, names, options.confidence)
    if options.plot:
        save(comparison_figure(found), Path(options.plot))
    return of_models(found)


def show(answer: Answer, kind: str) -> None:
    """Print an answer."""
    if kind != "table":
        print(answer.text(kind))
        return
    console = for_tables()
    for grid in answer.grids:
        console.print(for_terminal(grid))
    if answer.line:
        console.print(answer.line, soft_wrap=True)
