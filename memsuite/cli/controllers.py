"""``memsuite controllers``: the sequence models, their parameters and the size of their state."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from memsuite.cli.plain import PlainParser
from memsuite.controllers import CONTROLLERS, make_controller


def main(verb: str, arguments: list[str]) -> int:
    """Print the table, or JSON."""
    options = parse(arguments)
    rows = [describe(name, options.input_dim, options.hidden_dim) for name in CONTROLLERS]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("controller", "parameters", "state (floats)", "what it is", title=f"hidden_dim {options.hidden_dim}")
    for row in rows:
        table.add_row(row["name"], f"{row['parameters']:,}", f"{row['state_floats']:,}", row["summary"])
    Console().print(table)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = PlainParser(prog="memsuite controllers", description="List the sequence models.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--hidden_dim", type=int, default=128, help="width at which they are counted; default: 128")
    parser.add_argument("--input_dim", type=int, default=17, help="width of the observation; default: 17")
    return parser.parse_args(arguments)


def describe(name: str, input_dim: int, hidden_dim: int) -> dict[str, Any]:
    """Count one controller's parameters and state."""
    controller = make_controller(name, input_dim=input_dim, hidden_dim=hidden_dim)
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in controller.parameters()),
        "state_floats": controller.state_floats(),
        "summary": (type(controller).__doc__ or "").strip().splitlines()[0].replace(":math:", "").replace("`", ""),
    }
