"""CPU-seconds until delayed cue is learnt, ours beside JAX (results/peers_learning.json): 8 cues, 200 and 1,000 steps.

    .venv/bin/python tests/peers/learning.py .venv-jax/bin/python    # make bench-learning sets .venv-jax up

Ours is ``memsuite fit`` with its default recipe, which was tuned on seeds 1000 and up over all tasks. Theirs is
purejaxrl's loop (jax_ppo.py), and each model's settings are chosen here on seed 1000, at each horizon: discount and
lambda, the rate, the passes over a rollout, and for the GRU chrono gates. The best setting of each is then run on the
reported seeds. A run that the file already has is not made again.
"""

import argparse
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "peers_learning.json"
HORIZONS = (200, 1000)
SIDES = {  # in JAX: ours
    "gru": ("gru",),
    "s5": ("lru", "s5"),
    "mamba": ("mamba",),
    "gated_deltanet": ("gated_deltanet",),
    "linear_attention": ("linear_attention",),
    "transformer": ("transformer",),
}
DISCOUNTS = ("--discount 0.99 --gae_lambda 0.95", "--discount 1 --gae_lambda 1", "--discount 0 --gae_lambda 0")
RATES = ("--rate 0.001", "--rate 0.0003", "--rate 0.003")
PASSES = ("--epochs 4", "--epochs 1")
BEST = 3  # settings that are tried at the longer horizon, the best of those at the shorter one
TUNING_SEED = 1000
TASK = "--task delayed_cue --difficulty medium --task_args.num_cues 8"
# Training ends at the target; the learning rate falls as over the whole budget.
STOP = "--trainer.callbacks+=memsuite.callbacks.StopAtTarget --trainer.callbacks.patience=1"


class Runs:
    """The runs of the file, which is written after each that is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []

    def get(self, key: dict[str, Any], make: Any) -> dict[str, Any]:
        """Return the run with this key, made now if the file has none."""
        for row in self.rows:
            if all(row[name] == value for name, value in key.items()):
                return row
        row = key | {"commit": commit()} | make()
        self.rows.append(row)
        about = {"hardware": hardware(torch.device("cpu")), "command": "make bench-learning"}
        write_json(self.path, about | {"runs": self.rows})
        print(json.dumps({name: row[name] for name in (*key, "success", "cpu_seconds_to_90")}), flush=True)
        return row


def theirs(python: str, command: str) -> dict[str, Any]:
    """Train a peer."""
    said = subprocess.run([python, *command.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    row = json.loads(said.stdout.splitlines()[-1])
    kept = ("success", "env_steps", "cpu_seconds_to_90", "cpu_seconds", "compile_cpu_seconds", "jax")
    return {"command": f"python {command}"} | {name: row[name] for name in kept}


def ours(python: str, controller: str, horizon: int, seed: int) -> dict[str, Any]:
    """Train ours until the target, or for its default budget."""
    given = f"{TASK} --horizon {horizon} --controller {controller}"
    with tempfile.TemporaryDirectory() as folder:
        command = f"-m memsuite fit {given} {STOP} --device cpu --seed {seed} --out {folder} --overwrite"
        subprocess.run([python, *command.split()], cwd=ROOT, capture_output=True, check=True)
        result = json.loads((Path(folder) / "result.json").read_text())
    row = {name: result[name] for name in ("success", "env_steps", "scripts", "cpu_seconds")}
    row["cpu_seconds_to_90"] = result["cpu_seconds_to_target"]  # the target is 0.95, of the greedy policy
    return {"command": f"memsuite fit {given} {STOP} --seed {seed}"} | row


def rank(row: dict[str, Any]) -> tuple[float, float]:
    """Order runs: the earliest at 0.9 first, then the highest success."""
    reached = row["cpu_seconds_to_90"]
    return (float("inf") if reached is None else reached, -row["success"])


def tune(runs: Runs, python: str, cell: str, limit: float) -> dict[int, str]:
    """Return the best settings of a model in JAX at each horizon.

    At the shorter one every discount is tried with every rate (and for the GRU with and without chrono gates), then the
    best with fewer passes over a rollout. The longer one is tried with the best of these.
    """

    def ranked(horizon: int, settings: Iterable[str], limit: float) -> list[str]:
        rows = {one: jax_run(runs, python, cell, horizon, one, TUNING_SEED, limit) for one in settings}
        return sorted(rows, key=lambda one: rank(rows[one]))

    gates = ("", " --chrono") if cell == "gru" else ("",)
    grid = [" ".join(words) for words in itertools.product(DISCOUNTS, RATES, PASSES[:1])]
    tried = ranked(HORIZONS[0], [one + gate for one in grid for gate in gates], limit)
    tried = ranked(HORIZONS[0], [*tried, tried[0].replace(*PASSES)], limit)
    found = {HORIZONS[0]: tried[0]}
    return found | {horizon: ranked(horizon, tried[:BEST], 2 * limit)[0] for horizon in HORIZONS[1:]}


def jax_run(runs: Runs, python: str, cell: str, horizon: int, settings: str, seed: int, limit: float) -> dict[str, Any]:
    """Train a model in JAX, or take the run from the file."""
    key = {"side": f"jax {cell}", "horizon": horizon, "settings": settings, "seed": seed, "limit": limit}
    command = f"tests/peers/jax_ppo.py --cell {cell} --horizon {horizon} --span {horizon} --learn 1000000000"
    return runs.get(key, lambda: theirs(python, f"{command} --limit {limit:g} --seed {seed} {settings}"))


def main() -> None:
    """Tune the peers, then run every side on the reported seeds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", help="a Python with JAX")
    parser.add_argument("--ours", default=".venv/bin/python", help="a Python with memsuite")
    parser.add_argument("--tuning_limit", type=float, default=30, help="CPU-seconds of a tuning run; at 1,000 twice")
    parser.add_argument("--limit", type=float, default=60, help="CPU-seconds of a reported run in JAX")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", default=",".join(SIDES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    runs = Runs(options.out)
    for cell in options.cells.split(","):
        best = tune(runs, options.python, cell, options.tuning_limit)
        for horizon in HORIZONS:
            for seed in range(options.seeds):
                for controller in SIDES[cell]:
                    key = {"side": f"memsuite {controller}", "horizon": horizon, "settings": "default", "seed": seed}
                    runs.get(key | {"limit": None}, lambda: ours(options.ours, controller, horizon, seed))  # noqa: B023
                jax_run(runs, options.python, cell, horizon, best[horizon], seed, options.limit)


if __name__ == "__main__":
    main()
