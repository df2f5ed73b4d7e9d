"""Synthetic results of runs, on which the tables and pages are tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memsuite.metrics import wilson_interval


def result(controller: str = "gru", seed: int = 0, success: float = 1.0, **more: Any) -> dict[str, Any]:
    """Return the content of one result.json."""
    low, high = wilson_interval(success, 1024)
    found = {"task": "delayed_cue", "difficulty": "easy", "horizon": 50, "controller": controller, "seed": seed}
    found |= {"success": success, "success_low": low, "success_high": high, "chance": 0.25, "target_success": 0.95}
    found |= {"score": (success - 0.25) / 0.75, "reached_target": success >= 0.95, "steps_to_target": 3200}
    found |= {"env_steps": 20000, "steps_per_second": 1e4, "cpu_seconds": 2.0, "parameters": 100, "state_floats": 128}
    found |= {"config": {"steps": 20000, "ppo": {}}, "hardware": {"cpu": "x", "gpu": None}, "commit": "abc"}
    return found | {"versions": {"torch": "2"}, "command": f"memsuite fit --seed {seed}"} | more


def write_runs(folder: Path, results: list[dict[str, Any]], curve: bool = True) -> Path:
    """Write run folders as ``fit`` does."""
    for index, one in enumerate(results):
        own = folder / f"{one['task']}-{one['difficulty']}" / one["controller"] / f"run{index}"
        own.mkdir(parents=True)
        (own / "result.json").write_text(json.dumps(one))
        if curve:
            rows = [f"{steps},,{one['success'] * steps / 20000}" for steps in (5000, 10000, 20000)]
            header = "env_steps,success,evaluation_success"
            (own / "metrics.csv").write_text("\n".join([header, "1600,0.2,", *rows]) + "\n")
    return folder
