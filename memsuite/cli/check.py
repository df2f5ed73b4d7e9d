"""``memsuite check``: the laws of controllers, held to your own or to those built in; status 1 if one is broken."""

from __future__ import annotations

import json

from memsuite.launch.plain import PlainParser, for_tables
from memsuite.launch.plain import console as plain_console
from memsuite.launch.sizes import add_sizes, build, horizons_of, named
from memsuite.laws.check import Report, check
from memsuite.laws.table import overview, table_of


def main(verb: str, arguments: list[str]) -> int:
    """Check every controller; print a table for one, a line each for several, or JSON."""
    parser = PlainParser(prog="memsuite check", description=__doc__.partition(":")[2])
    add_sizes(parser, hidden_dim=16, input_dim=9, memory_horizon=20)
    parser.add_argument("--horizons", default="20,200", help="steps of the retention, or none; default: 20,200")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(arguments)
    horizons = horizons_of(options.horizons)
    names = named(options.names)
    reports: dict[str, Report] = {}
    with plain_console(stderr=True).status("") as status:
        for name in names:
            status.update(f"checking {name}")
            reports[name] = check(build(name, options, options.memory_horizon), horizons, cost=True)
    if options.json:
        print(json.dumps([{"name": name, **report.plain()} for name, report in reports.items()], indent=2))
    else:
        for_tables().print(table_of(*next(iter(reports.items()))) if len(reports) == 1 else overview(reports))
    return int(not all(report.holds for report in reports.values()))
