"""``memsuite controllers``: the sequence models, their size, what they hold before training, where they run.

Parameters and state are counted at the arguments given. Retention is how much of the feature at a query depends on a
cue shown H steps before, at initialisation against that H (0: nothing; a policy learns from 0.1 and not from 0.01).
Devices are those at hand on which the model has just run forward and backward. What a model expresses is the kind of
its state, and what a step can do to it: keep it by the input, change its signs, map it by recurrent weights.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich import box
from rich.table import Table

from memsuite.analysis.retention import CUES, retention
from memsuite.controllers.about.abilities import Abilities
from memsuite.controllers.about.match import KINDS, near, nearest_of, read_match
from memsuite.errors import UsageError
from memsuite.launch.allocator import keep_freed_memory
from memsuite.launch.plain import PlainParser, for_tables
from memsuite.launch.plain import console as plain_console
from memsuite.launch.sizes import add_sizes, build, devices, horizons_of, named, runs_on

HORIZONS = (50, 200, 1000)


def main(verb: str, arguments: list[str]) -> int:
    """Print the table, or JSON."""
    options = parse(arguments)
    keep_freed_memory()
    console, rows = plain_console(stderr=True), []
    for name in options.controllers:
        with console.status(f"measuring {name}"):
            rows.append(describe(name, options))
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for_tables().print(table(rows, options))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite controllers", description=__doc__.partition(":")[2])
    add_sizes(parser, hidden_dim=128, input_dim=17)
    parser.add_argument("--controllers", help="the same names in one option, comma-separated")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--match", help="show each at the hidden_dim nearest to a size: parameters:60000, state:4096")
    parser.add_argument(
        "--horizons", default=",".join(map(str, HORIZONS)), help="steps H of the retention, comma-separated, or none"
    )
    options = parser.parse_args(arguments)
    options.controllers = named([*options.names, *(options.controllers.split(",") if options.controllers else [])])
    options.match = options.match and read_match(options.match)
    options.horizons = horizons_of(options.horizons)
    if options.input_dim <= CUES:
        raise UsageError(f"--input_dim is {options.input_dim}; retention needs {CUES} cues and a query, {CUES + 1}")
    return options


def describe(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Count one controller's parameters and state, and measure it, at the width given or at the one that matches."""
    options, matches = argparse.Namespace(**vars(options)), True
    if options.match:
        try:
            sizes = {"depth": options.depth, "memory_horizon": options.memory_horizon}
            options.hidden_dim, _ = nearest_of(name, options.input_dim, options.match, sizes)
        except UsageError:  # of a size that no width changes
            matches = False
    controller = build(name, options, options.memory_horizon)
    abilities = controller.abilities
    return {
        "name": name,
        "hidden_dim": controller.feature_dim if matches else None,
        "parameters": KINDS["parameters"](controller),
        "state_floats": controller.state_floats(),
        "near": not options.match or near(KINDS[options.match[0]](controller), options.match[1]),
        "expresses": abilities and abilities._asdict(),
        "retention": {horizon: retention(build(name, options, horizon), horizon) for horizon in options.horizons},
        "devices": [device for device in devices() if runs_on(controller, device)],
        "summary": (type(controller).__doc__ or "").strip().partition("\n")[0].replace(":math:", "").replace("`", ""),
    }


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    """Lay out the rows."""
    width = "at {1:,} {0}".format(*options.match) if options.match else f"hidden_dim {options.hidden_dim}"
    title = f"{width}, depth {options.depth}" + "; retention after H steps" * bool(options.horizons)
    headings = [f"{horizon:,}" for horizon in options.horizons]
    headings[:1] = [f"H {heading}" for heading in headings[:1]]
    close = all(row["near"] or row["hidden_dim"] is None for row in rows)
    caption = None if close else "* more than a tenth away from the size, which fit and suite refuse"
    found = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    found.add_column("controller", no_wrap=True, min_width=16)
    sizes = ["width"] * bool(options.match) + ["params", "state"]
    for heading in (*sizes, *headings, "runs on"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("expresses", no_wrap=True)
    for row in rows:
        held = [f"{value:.3f}" for value in row["retention"].values()]
        sizes = [f"{row[key] or 0:,}" for key in ("hidden_dim", "parameters", "state_floats")][not options.match :]
        sizes[0] = "any" if row["hidden_dim"] is None else sizes[0] + " *" * (not row["near"])
        expresses = Abilities(**row["expresses"]).in_words() if row["expresses"] else ""
        found.add_row(row["name"], *sizes, *held, ", ".join(row["devices"]), expresses)
    return found
