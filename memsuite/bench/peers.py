"""``memsuite bench peers --peer NAME=COMMAND``: our training in alternation with other programs, on one machine.

A rate depends on the other load of the machine, so a ratio is fair only between runs that follow one another. Each
round therefore runs every peer once and every controller once; the report has the medians over the rounds, and their
ratios. A peer's command prints, as its last line, a JSON object with ``steps_per_cpu_second``; see tests/peers. Its
``{horizon}`` is replaced by each of the horizons, and the peer is then compared with our runs of the same horizon.
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
LONGEST = 80  # letters of a line that are shown
# What else a row may have: wall-clock time, the rate if rollouts took no time, the size of the network.
OTHERS = ("steps_per_second", "update_steps_per_cpu_second", "parameters")
HORIZON = "{horizon}"


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
        controllers: names of our sequence models, with arguments as in :mod:`memsuite.bench.variants`.
        horizons: episode lengths in steps.
        repeats: number of rounds.
    """
    commands = at_horizons(parse_peers(peer), horizons)
    ours = {
        named(name, horizon): partial(measure_one, name, horizon, 2) for name in controllers for horizon in horizons
    }
    sides: dict[str, Callable[[], dict[str, Any]]] = {name: partial(_run, name, commands[name]) for name in commands}
    sides |= ours
    rows = in_turn(console, sides, repeats)
    rates = {name: [row[KEY] for row in found] for name, found in rows.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "commands": {name: shlex.join(command) for name, command in commands.items()},
        "rounds": rates,
        "median": medians,
        "ratio": {
            name: {peer: medians[name] / medians[peer] for peer in commands if same_work(name, peer)} for name in ours
        },
        "others": {name: other_medians(found) for name, found in rows.items()},
    }


def in_turn(
    console: Console, sides: dict[str, Callable[[], dict[str, Any]]], repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """Run every side once a round; Ctrl-C ends the measurement with the rounds that are complete."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    try:
        for turn in range(repeats):
            for name, work in sides.items():
                with console.status(f"round {turn + 1} of {repeats}: {name}"):
                    rows[name].append(work())
    except KeyboardInterrupt:
        complete = min(len(found) for found in rows.values())
        if not complete:
            raise
        rows = {name: found[:complete] for name, found in rows.items()}
    return rows


def named(name: str, horizon: int) -> str:
    """Return the name of a side at a horizon."""
    return f"{name}, H = {horizon}"


def same_work(ours: str, peer: str) -> bool:
    """Return whether a peer did the work of our side: that of its horizon, or of one that only its command knows."""
    return ", H = " not in peer or peer.rpartition(", H = ")[2] == ours.rpartition(", H = ")[2]


def at_horizons(peers: dict[str, list[str]], horizons: list[int]) -> dict[str, list[str]]:
    """Write the horizons into the commands that ask for one; the others stay as they are."""
    found: dict[str, list[str]] = {}
    for name, words in peers.items():
        if any(HORIZON in word for word in words):
            found |= {named(name, one): [word.replace(HORIZON, str(one)) for word in words] for one in horizons}
        else:
            found[name] = words
    return found


def other_medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians of what the rows have besides their rate."""
    return {key: statistics.median(row[key] for row in rows) for key in OTHERS if all(key in row for row in rows)}


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
        printed = f"its last line is {lines[-1][:LONGEST]!r}" if lines else "it printed nothing"
        said = " ".join((finished.stderr.strip().splitlines() or [printed])[-1].split())
        raise UsageError(
            f"peer {name}: no JSON with {KEY!r} in its last line (status {finished.returncode}): {said}"
        ) from error
    assert isinstance(row, dict)
    return row


def table(report: dict[str, Any]) -> Table:
    """Lay out the report: steps per second of CPU time and of wall time, and our rate divided by each peer's."""
    rounds = len(next(iter(report["rounds"].values())))
    title = f"Training beside peers, medians of {rounds} interleaved rounds"
    columns: list[Column | str] = [
        Column("", no_wrap=True),
        "steps / CPU-s",
        "lowest",
        "highest",
        "steps / s",
        "beside",
    ]
    found = Table(*columns, title=title)
    for name, values in report["rounds"].items():
        numbers = [f"{value:,.0f}" for value in (report["median"][name], min(values), max(values))]
        wall = report["others"][name].get("steps_per_second")
        ratios = [f"{ratio:.2f} x {peer}" for peer, ratio in report["ratio"].get(name, {}).items()]
        found.add_row(name, *numbers, "" if wall is None else f"{wall:,.0f}", "\n".join(ratios))
    return found
