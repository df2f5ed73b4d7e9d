"""``memsuite controllers``: the sequence models, their size, what they hold before training, where they run.

Parameters and state are counted at the arguments given. Retention is how much of the feature at a query depends on a
cue shown H steps before, at initialisation against that H (0: nothing; a policy learns from 0.1 and not from 0.01).
Devices are those at hand on which the model has just run forward and backward.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from rich import box
from rich.table import Table

from memsuite.analysis.retention import CUES, retention
from memsuite.controllers import CONTROLLERS, Controller, controller_class, make_controller
from memsuite.controllers.base import accepted_arguments
from memsuite.errors import UsageError
from memsuite.launch.allocator import keep_freed_memory
from memsuite.launch.plain import PlainParser, for_tables, whole_numbers
from memsuite.launch.plain import console as plain_console

HORIZONS = (50, 200, 1000, 5000, 20_000)


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
    parser.add_argument("names", nargs="*", help="names, or paths of your own classes: my_module.MyModel; default: all")
    parser.add_argument("--controllers", help="the same, comma-separated")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--hidden_dim", type=int, default=128, help="width; default: 128")
    parser.add_argument("--depth", type=int, default=1, help="layers; default: 1")
    parser.add_argument("--memory_horizon", type=int, help="steps to be initialised for; default: the model's default")
    parser.add_argument("--input_dim", type=int, default=17, help="width of the observation; default: 17")
    parser.add_argument(
        "--horizons", default=",".join(map(str, HORIZONS)), help="of the retention, comma-separated; none: leave it out"
    )
    options = parser.parse_args(arguments)
    given = [*options.names, *(options.controllers.split(",") if options.controllers else [])]
    options.controllers = given or list(CONTROLLERS)
    for name in given:
        controller_class(name)  # an unknown one is named before anything is measured
    options.horizons = [] if options.horizons == "none" else whole_numbers("--horizons", options.horizons)
    if options.horizons and min(options.horizons) < 2:
        raise UsageError(f"--horizons has {min(options.horizons)}; the least is 2")
    if options.input_dim <= CUES:
        raise UsageError(f"--input_dim is {options.input_dim}; retention needs {CUES} cues and a query, {CUES + 1}")
    return options


def describe(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Count one controller's parameters and state, and measure it."""

    def build(memory_horizon: int | None) -> Controller:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sizes = {"hidden_dim": options.hidden_dim, "depth": options.depth}
            if "hidden_dim" not in accepted_arguments(controller_class(name)):  # a class of one's own has its own size
                del sizes["hidden_dim"]
            return make_controller(name, input_dim=options.input_dim, memory_horizon=memory_horizon, **sizes)

    controller = build(options.memory_horizon)
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in controller.parameters()),
        "state_floats": controller.state_floats(),
        "retention": {horizon: retention(build(horizon), horizon) for horizon in options.horizons},
        "devices": [device for device in devices() if runs_on(controller, device)],
        "summary": (type(controller).__doc__ or "").strip().partition("\n")[0].replace(":math:", "").replace("`", ""),
    }


def devices() -> list[str]:
    """List the kinds of device at hand."""
    return ["cpu"] + [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]


def runs_on(controller: Controller, device: str) -> bool:
    """Run a few steps forward and backward on a device; tell whether that works."""
    home = next(controller.parameters()).device
    try:
        controller.to(device)
        x, is_first = torch.zeros(3, 2, controller.input_dim, device=device), torch.zeros(3, 2, device=device)
        features, _ = controller.forward_sequence(x, controller.init_state(2, device), is_first.bool())
        features.sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError, TypeError):
        return False
    finally:
        controller.to(home)
    return True


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> Table:
    """Lay out the rows."""
    title = f"hidden_dim {options.hidden_dim}, depth {options.depth}" + "; retention after H steps" * bool(
        options.horizons
    )
    headings = [f"{horizon:,}" for horizon in options.horizons]
    headings[:1] = [f"H {heading}" for heading in headings[:1]]
    found = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    found.add_column("controller", no_wrap=True, min_width=16)
    for heading in ("params", "state", *headings, "runs on"):
        found.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        held = [f"{value:.3f}" for value in row["retention"].values()]
        sizes = [f"{row[key]:,}" for key in ("parameters", "state_floats")]
        found.add_row(row["name"], *sizes, *held, ", ".join(row["devices"]))
    return found
