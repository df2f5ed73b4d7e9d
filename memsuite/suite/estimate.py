"""A rough estimate of how long a run takes, for planning.

The measurements are ``results/beyond.json`` (CPU seconds of whole runs of the golden task, one thread, horizon 200)
and ``results/scaling.json`` (the cost of a step against the horizon). Another machine, a wider network or other
settings of PPO change the figure. A running suite corrects its time left by the runs that have ended.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsuite.shipped import folder

RESULTS = folder("results")
BASIS = (
    "one core of an AMD EPYC per run and the golden task's settings, from results/beyond.json and scaling.json;\n"
    "another machine may take half or twice as long"
)
MEASURED_HORIZON = 200
STEPPED = 1.5  # cost of a stepped task relative to a task drawn at once (GRU 1.5, Mamba 1.4)
START = 1.0  # seconds before a run begins to train
UNKNOWN = 50e-6  # seconds per step for models without a measurement; used only to compare runs with each other


@dataclass(frozen=True)
class Size:
    """The amount of work of a run.

    Attributes:
        env_steps: environment steps, all whole iterations.
        horizon: steps of an episode.
        controller: name of the controller.
        scripted: whether episodes are drawn at once.
        draws: number of environments that share a script, which is read once for all of them.
        passes: number of passes over a rollout.
    """

    env_steps: int
    horizon: int
    controller: str
    scripted: bool
    draws: int = 1
    passes: int = 4

    @property
    def share(self) -> float:
        """The cost of a step relative to the measured runs, which read every step five times: to act and to learn.

        A pass that learns costs about three times a pass that acts. With draws, one pass both acts and learns.
        """
        acting = 0 if self.draws > 1 else 1
        return (3 * self.passes + acting) / 13 / self.draws


def seconds(size: Size, measured: Path = RESULTS) -> float | None:
    """Estimate the seconds of a run on one core; None if its model was not measured."""
    runs = [report["training"] for report in _read(measured / "beyond.json").get("reports", [])]
    scaling = _read(measured / "scaling.json").get("scaling", [])
    alike = [run for run in runs if (run["controller"], run["horizon"]) == (size.controller, MEASURED_HORIZON)]
    costs: list[float] = [run["cpu_seconds"] / run["env_steps"] for run in alike]
    if not costs:
        return None
    by_horizon = {row["horizon"]: row["microseconds"] for row in scaling if row["controller"] == size.controller}
    ratio: float = 1.0
    if MEASURED_HORIZON in by_horizon:
        nearest = min(by_horizon, key=lambda horizon: abs(math.log(horizon / size.horizon)))
        ratio = by_horizon[nearest] / by_horizon[MEASURED_HORIZON]
    return START + size.env_steps * size.share * statistics.median(costs) * ratio * (1.0 if size.scripted else STEPPED)


def weight(size: Size) -> float:
    """Return the estimated seconds of a run; without a measurement, a value from its steps, to compare runs by."""
    known = seconds(size)
    return START + size.env_steps * size.share * UNKNOWN if known is None else known


@functools.cache  # called for every run of a suite
def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def in_words(duration: float) -> str:
    """Write a duration as a person would: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if duration >= 2 * length:
            return f"{duration / length:.1f} {unit}"
    return f"{duration:.0f} s"
