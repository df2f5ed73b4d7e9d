"""What published results say, cell by cell: ``python tests/migration/cells.py FILE...`` prints it, a cell a line.

``cells.json`` is what it printed for the files of the first schema, before they were migrated.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from memsuite.analysis.results import read_results

# What names a published cell. Results of the first schema knew no objective but PPO's.
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
        By the cell's names, written as JSON: ``success`` of its seeds in their order, and ``numbers``, the beginning of
        a hash of all that was recorded of its runs.
    """
    found: dict[str, dict[str, Any]] = {}
    for _, row in read_results(path).iterrows():
        cell = json.dumps([_plain(row[name]) for name in NAMES])
        own = found.setdefault(cell, {"success": [], "numbers": []})
        own["success"].append(_plain(row["success"]))
        own["numbers"].append([_plain(row.get(name)) for name in RECORDED])
    return {cell: {**own, "numbers": _hash(own["numbers"])} for cell, own in found.items()}


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it: a missing one is null, a whole number has no decimals."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and (value != value or value.is_integer()):
        return None if value != value else int(value)
    return value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def main(paths: list[str]) -> None:
    """Print the cells of some files, each on a line of its own."""
    parts = []
    for path in map(Path, paths):
        lines = [f"  {json.dumps(cell)}: {json.dumps(own)}" for cell, own in cells_of(path).items()]
        parts.append(f" {json.dumps(path.stem)}: {{\n" + ",\n".join(lines) + "\n }")
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1:])
