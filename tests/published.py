"""The commands of a suite as recorded in published results, from before the first recipe was a file with a name."""

from __future__ import annotations

import re
from pathlib import Path

from memsuite.suite.grid import read_suite

ROOT = Path(__file__).parents[1]


def commands_before_v2(suite: str) -> list[str]:
    """Return the commands of a suite of the first recipe, in order, without the file that now holds its settings."""
    runs = read_suite(ROOT / "configs" / "suites" / f"{suite}.yaml").runs
    named = "--config configs/recipes/v1.yaml "
    commands = [run.command.replace(str(ROOT) + "/", "") for run in runs]
    assert all(named in command for command in commands)
    return sorted(re.sub(re.escape(named), "", command) for command in commands)
