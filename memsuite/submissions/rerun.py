"""A submission's cheapest run, trained once more from what the file holds, and what it reaches now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from memsuite.errors import UsageError
from memsuite.runs import RunResult
from memsuite.runs.collection import read_json
from memsuite.runs.folder import RESULT


@dataclass(frozen=True)
class Rerun:
    """What came of it.

    Attributes:
        name: of the run.
        claimed: the interval that the submission gives: the lowest and the highest end over the seeds of the cell.
        found: the interval of the run that was trained now.
    """

    name: str
    claimed: tuple[float, float]
    found: tuple[float, float]

    @property
    def agrees(self) -> bool:
        """Whether the two intervals have a number in common."""
        return self.claimed[0] <= self.found[1] and self.found[0] <= self.claimed[1]


def rerun(content: Mapping[str, Any], results: Sequence[RunResult], folder: Path) -> Rerun:
    """Train the cheapest run of a submission again, on the CPU, and compare it with its cell.

    This runs the code in ``source``: do it where code of somebody else's may run, as in CI without secrets.

    Args:
        content: the submission, checked.
        results: its runs (:func:`~memsuite.submissions.verify.verify`).
        folder: an empty folder to work in.

    Raises:
        UsageError: no run can be repeated from its settings alone, or the training fails.
    """
    alone = [run for run in results if _stands_alone(run)]
    if not alone:
        raise UsageError(
            "every run has a curriculum or another precision, began with the weights of another or was extended, "
            "so none can be run again"
        )
    cheapest = min(alone, key=lambda run: run.cpu_seconds or 0.0)
    for file, text in content["source"].items():
        path = (folder / file).resolve()
        if folder.resolve() not in path.parents:
            raise UsageError(f"source names {file!r}, which is outside its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = _trained(cheapest.config, folder)
    cell = [run for run in results if _without_seed(run) == _without_seed(cheapest)]
    ends = [_interval(run) for run in cell]
    name = f"{cheapest.task}-{cheapest.difficulty}/{cheapest.controller}/seed{cheapest.seed}"
    return Rerun(name, (min(low for low, _ in ends), max(high for _, high in ends)), _interval(found))


def _stands_alone(run: RunResult) -> bool:
    """Whether the settings say all that the run did."""
    return run.init_from is None and not run.besides()


def _trained(config: Mapping[str, Any], folder: Path) -> RunResult:
    """Train with the settings of a run in a process of its own."""
    settings = {name: value for name, value in config.items() if name != "ppo"}
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "model": {"ppo": config["ppo"]}}))
    words = [sys.executable, "-m", "memsuite", "fit", "--config", "config.yaml", "--device", "cpu", "--out", "run"]
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    env = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
    ended = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        raise UsageError(f"training it again failed: {said[-1] if said else f'status {ended.returncode}'}")
    return RunResult.read(read_json(folder / "run" / RESULT), str(folder / "run"))


def _interval(run: RunResult) -> tuple[float, float]:
    """Return the interval of a run's success, or of its return where no decision is scored."""
    low, high = run.success_low, run.success_high
    if low is None or high is None:
        low, high = run.return_low, run.return_high
    if low is None or high is None:  # a single episode has no interval
        low = high = run.return_mean
    return float(low or 0.0), float(high or 0.0)


def _without_seed(run: RunResult) -> dict[str, Any]:
    return {name: value for name, value in run.config.items() if name != "seed"}
