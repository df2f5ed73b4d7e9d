"""The golden run on the seeds that are reported, 0 to 4, and the same at the generic discount and lambda.

``make learn`` runs this file: it prints the table and writes ``results/golden.json``, every seed's ``result.json``.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memsuite.storage import write_json

ROOT = Path(__file__).parents[1]
SEEDS = range(5)
VARIANTS = {
    "published": [],
    "generic": ["--model.ppo.discount", "0.99", "--model.ppo.gae_lambda", "0.95"],
}


def train(folder: Path, variant: str, seed: int) -> dict:
    """Run one seed as a user would, in a process and a thread of its own."""
    options = ["--seed", str(seed), "--out", str(folder / f"{variant}-seed{seed}"), *VARIANTS[variant]]
    command = [sys.executable, "-m", "memsuite", "fit", "--config", "configs/golden.yaml", *options]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return json.loads((folder / f"{variant}-seed{seed}" / "result.json").read_text())


def table(results: dict[str, list[dict]]) -> str:
    """Lay out the results, a row a variant, a column a seed."""
    lines = ["| discount, lambda | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | steps to target |"]
    lines.append("|---" * (len(SEEDS) + 2) + "|")
    for variant, runs in results.items():
        label = {"published": "published (0, 0)", "generic": "generic (0.99, 0.95)"}[variant]
        reached = [run["steps_to_target"] for run in runs]
        steps = ", ".join("-" if one is None else f"{one:,}" for one in reached)
        lines.append(f"| {label} | " + " | ".join(f"{run['success']:.3f}" for run in runs) + f" | {steps} |")
    return "\n".join(lines)


@pytest.mark.learns
def test_the_golden_run_learns_on_the_reported_seeds(tmp_path, capsys):
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {variant: [pool.submit(train, tmp_path, variant, seed) for seed in SEEDS] for variant in VARIANTS}
        results = {variant: [future.result() for future in runs] for variant, runs in futures.items()}
    write_json(ROOT / "results" / "golden.json", results)
    with capsys.disabled():
        print(f"\ngreedy success after at most 200,000 environment steps\n{table(results)}")
    successes = [run["success"] for run in results["published"]]
    assert all(run["env_steps"] <= 200_000 for runs in results.values() for run in runs)
    assert sum(success >= 0.95 for success in successes) >= 4
    assert min(successes) >= 0.85
