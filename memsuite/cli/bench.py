"""``memsuite bench``: how fast the tasks draw, how fast the controllers train, and what the ops buy.

Each subcommand is a file of :mod:`memsuite.bench`, which is imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import torch

from memsuite.bench import STAGES
from memsuite.bench.variants import variants
from memsuite.controllers import CONTROLLERS
from memsuite.errors import UsageError
from memsuite.launch.plain import PlainParser, for_tables, names_among, whole_numbers, write_asked
from memsuite.launch.plain import console as plain_console
from memsuite.runs.ppo import Products
from memsuite.runs.provenance import commit, hardware, versions
from memsuite.tasks import TASKS

# Options that list names: what one of them is called in a message, and those that there are.
NAMES: dict[str, tuple[str, Iterable[str]]] = {
    "tasks": ("task", TASKS),
    "stages": ("stage", STAGES),
    "products": ("--products", get_args(Products)),
}
ALL = ",".join(CONTROLLERS)
LEAST = {"repeats": 1, "threads": 2, "recompute": 1}
# Each subcommand: what it measures, and its options with their defaults.
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "environments": ("how fast the tasks draw episodes", {"tasks": ",".join(TASKS), "repeats": 5}),
    "training": (
        "how fast the controllers train, and which part of an iteration the time goes to",
        {"controllers": ALL, "horizons": "50,200,1000", "draws": "", "products": "float32", "repeats": 5},
    ),
    "scaling": (
        "what a step of training costs as the horizon grows, in time and in memory",
        {"controllers": ALL, "horizons": "200,1000,5000,20000", "recompute": None, "repeats": 5},
    ),
    "ops": ("each op against its PyTorch reference and what a library offers", {"repeats": 5}),
    "threads": (
        "training with one thread and with several, in turn",
        {"threads": 2, "controllers": ALL, "horizons": "200", "repeats": 5},
    ),
    "records": ("what the longest waits took, and the memory of one update", {"runs": "longest_v2"}),
    "map": ("which cells are solved, by which model and at what cost", {"runs": "map_v2", "plot": None}),
    "gpu": (
        "whether everything runs on a GPU, and how fast it trains there",
        {"controllers": ALL, "stages": ",".join(STAGES), "horizons": "200,1000"},
    ),
    "peers": (
        "training in turn with other programs that do the same work",
        {"peer": None, "controllers": ALL, "horizons": "200", "repeats": 5},
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "tasks": {"help": "comma-separated names of tasks; default: all"},
    "controllers": {"help": "comma-separated names of controllers, as gru,s5:mlp_ratio=0; default: all"},
    "horizons": {"help": "comma-separated lengths of an episode in steps; default: %(default)s"},
    "stages": {"help": "comma-separated names of stages; default: %(default)s"},
    "draws": {
        "help": "comma-separated numbers of environments that share a script; default: the peers' work, where none do"
    },
    "products": {"help": "comma-separated precisions of products, float32 or bfloat16; default: %(default)s"},
    "runs": {"help": "a file of results, or the name of one that comes with memsuite; default: %(default)s"},
    "plot": {"metavar": "FILE", "help": "draw it into this file too"},
    "recompute": {"type": int, "metavar": "N", "help": "keep what the backward pass needs for N steps at a time"},
    "repeats": {"type": int, "help": "how often each measurement is repeated; default: %(default)s"},
    "threads": {"type": int, "metavar": "N", "help": "how many are set against one; default: %(default)s"},
    "peer": {
        "action": "append",
        "required": True,
        "metavar": "NAME=COMMAND",
        "help": "another program; its last line is JSON with steps_per_cpu_second; may be repeated",
    },
}


def main(verb: str, arguments: list[str]) -> int:
    """Run one subcommand: measure, print its table (or JSON), and write the JSON file if one is asked for."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not arguments or arguments[0] not in PARTS:
        asked = f"no subcommand {arguments[0]!r}" if arguments else "a subcommand is missing"
        raise UsageError(f"{asked}; the subcommands are: {', '.join(PARTS)}")
    part, *rest = arguments
    options, given = parse(part, rest)
    room = importlib.import_module(f"memsuite.bench.{part}")
    importlib.import_module("memsuite.bench.measure").prepare()
    report: dict[str, Any] = {"hardware": hardware(torch.device("cpu")), "versions": versions(), "commit": commit()}
    report["command"] = " ".join(["memsuite", verb, *arguments])

    def keep(found: Any) -> None:
        report[part] = found
        if options.out:
            write_asked(Path(options.out), report, "--out")

    # The check on a GPU is so long that what was found so far is written.
    keep(room.measure(plain_console(stderr=True), **given, **({"keep": keep} if part == "gpu" else {})))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for_tables().print(room.table(report[part]))
    return 0


def usage() -> str:
    """Return the text of ``memsuite bench --help``."""
    lines = [f"  {part:<12}  {summary}" for part, (summary, _) in PARTS.items()]
    tail = ["", "memsuite bench SUBCOMMAND --help lists a subcommand's options."]
    return "\n".join(["usage: memsuite bench SUBCOMMAND [OPTIONS]", "", "subcommands:", *lines, *tail])


def parse(part: str, arguments: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Read the options of a subcommand; return all of them, and those that its ``measure`` takes."""
    summary, defaults = PARTS[part]
    parser = PlainParser(prog=f"memsuite bench {part}", description=f"Measure {summary}.")
    for option, default in defaults.items():
        parser.add_argument(f"--{option}", default=default, **OPTIONS[option])
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--out", help="write the JSON to this file too")
    options = parser.parse_args(arguments)
    if options.out and Path(options.out).is_dir():
        raise UsageError(f"--out {options.out} is a folder; name a file")
    return options, {option: checked(option, getattr(options, option)) for option in defaults}


def checked(option: str, value: Any) -> Any:
    """Return an option's value, lists read from their text; raise a UsageError if it is out of range."""
    if option in NAMES:
        return names_among(NAMES[option][0], value, NAMES[option][1])
    if option == "controllers":
        return variants(value)
    if option in ("horizons", "draws"):
        return [] if option == "draws" and not value else whole_numbers(f"--{option}", value)
    if option in LEAST and value is not None and value < LEAST[option]:
        raise UsageError(f"--{option} is {value}; the least is {LEAST[option]}")
    return value
