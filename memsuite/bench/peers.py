"""``memsuite bench peers --peer NAME=COMMAND``: our training in alternation with other programs, on one machine.

A rate depends on the other load of the machine, so a ratio is fair only between runs that follow one another. Each
round therefore runs every peer once and every controller once; the report has the medians over the rounds, and their
ratios. A peer's command prints, as its last line, a JSON object with ``steps_per_cpu_second``; see tests/peers.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from memsuite.bench.training import measure_one
from memsuite.errors import UsageError

KEY = "steps_per_cpu_second"


def parse_peers(given: list[str]) -> dict[str, list[str]]:
    """Read ``NAME=COMMAND`` options into commands by name."""
    peers = {}
    for text in given:
        name, sign, command = text.partition("=")
        try:
            words = shlex.split(command)
        except ValueError:  # an unclosed quotation
            words = []
        if not (name and sign and words):
            raise UsageError(f"--peer {text!r} is not NAME=COMMAND, such as 'jax=python tests/peers/jax_ppo.py'")
        peers[name] = words
    return peers


def measure(
    console: Console, peer: list[str], controllers: list[str], horizons: list[int], repeats: int
) -> dict[str, Any]:
    """Measure the peers and the controllers at the horizons, in alternation.

    Args:
        console: shows the current measurement.
        peer: other programs, as ``NAME=COMMAND``.
        controllers: names of our sequence models.
        horizons: episode lengths in steps.
        repeats: number of rounds.
    """
    peers = parse_peers(peer)
    ours = {
        f"{name}, H = {horizon}": partial(measure_one, name, horizon, 2) for name in controllers for horizon in horizons
    }
    sides: dict[str, Callable[[], dict[str, Any]]] = {name: partial(_run, name, peers[name]) for name in peers}
    sides |= ours
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name, work in sides.items():
            with console.status(f"round {turn + 1} of {repeats}: {name}"):
                rates[name].append(work()[KEY])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "commands": {name: shlex.join(command) for name, command in peers.items()},
        "rounds": rates,
        "median": medians,
        "ratio": {name: {peer: medians[name] / medians[peer] for peer in peers} for name in ours},
    }


def _run(name: str, command: list[str]) -> dict[str, Any]:
    """Run a peer's command and return the JSON object in its last line."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"peer {name}: cannot run {command[0]}: {error.strerror}") from error
    lines = finished.stdout.strip().splitlines()
    try:
        row = json.loads(lines[-1])
        row[KEY] = float(row[KEY])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        said = " ".join((finished.stderr.strip().splitlines() or ["it printed nothing"])[-1].split())
        raise UsageError(
            f"peer {name}: no JSON with {KEY!r} in its last line (status {finished.returncode}): {said}"
        ) from error
    assert isinstance(row, dict)
    return row


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: steps per CPU-second, and our rate divided by each peer's."""
    peers = list(report["commands"])
    columns: list[Column | str] = [
        Column("", no_wrap=True),
        "steps / CPU-s",
        "lowest",
        "highest",
        *(f"x {peer}" for peer in peers),
    ]
    rounds = len(next(iter(report["rounds"].values())))
    found = Table(*columns, title=f"Training beside peers, medians of {rounds} interleaved rounds")
    for name, values in report["rounds"].items():
        numbers = [f"{value:,.0f}" for value in (report["median"][name], min(values), max(values))]
        ratios = [f"{report['ratio'][name][peer]:.2f}" if name in report["ratio"] else "" for peer in peers]
        found.add_row(name, *numbers, *ratios)
    return found
