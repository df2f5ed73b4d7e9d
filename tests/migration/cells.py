"""Published results, cell by cell: ``python tests/migration/cells.py FILE...`` prints one cell per line.

``cells.json`` is its output for the files of the first schema, before their migration.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from memsuite.analysis.results import read_results

# The names of a published cell. Results of the first schema had no objective other than PPO's.
NAMES = ["task", "difficulty", "horizon", "controller", "variant", "recipe", "budget"]
# Every number and name that the files of the first schema held for a run, besides its settings.
RECORDED = (
    "task", "difficulty", "controller", "seed", "horizon", "env_steps", "iterations", "episodes_evaluated", "success",
    "success_low", "success_high", "return_mean", "return_low", "return_high", "score", "chance", "target_success",
    "reached_target", "steps_per_second", "world_size", "parameters", "skipped_updates", "state_floats",
    "steps_to_target", "wall_seconds_to_target", "cpu_seconds_to_target", "steps_to_90_sampled", "wall_seconds",
    "cpu_seconds", "hardware", "versions", "commit", "command",
)  # fmt: skip


def cells_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return the cells of a file of results.

    Returns:
        A mapping from the cell's names, as JSON, to ``success``, the success of its seeds in order, and ``numbers``,
        the
        beginning of a hash of all recorded values of its runs.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, row in read_results(path).iterrows():
        cell = json.dumps([_plain(row[name]) for name in NAMES])
        own = found.setdefault(cell, {"success": [], "numbers": []})
        own["success"].append(_plain(row["success"]))
        own["numbers"].append([_plain(row.get(name)) for name in RECORDED])
    return {cell: {**own, "numbers": _hash(own["numbers"])} for cell, own in found.items()}


def _plain(value: Any) -> Any:
    """Return a value of a table in its JSON form: a missing one is null, and a whole number has no decimals."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and (value != value or value.is_integer()):
        return None if value != value else int(value)
    return value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def main(paths: list[str]) -> None:
    """Print the cells of some files, one per line."""
    parts = []
    for path in map(Path, paths):
        lines = [f"  {json.dumps(cell)}: {json.dumps(own)}" for cell, own in cells_of(path).items()]
        parts.append(f" {json.dumps(path.stem)}: {{\n" + ",\n".join(lines) + "\n }")
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1:])
