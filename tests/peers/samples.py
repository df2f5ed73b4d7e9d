"""Samples until the peer has learnt delayed cue (results/samples.json), for comparison with horizons_v1.yaml.

    .venv/bin/python tests/peers/samples.py .venv-jax/bin/python    # make bench-peers sets .venv-jax up

A GRU in JAX with chrono gates, the best of the peers that were tried, on seeds 0 to 4, for at most 2,000,000 steps: at
50 steps with the usual discount and lambda, and at 200 with both 0, without which it learnt nothing there.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[2]
SEEDS = range(5)
CASES = [
    "--horizon 50 --learn 2000000",
    "--horizon 200 --learn 2000000 --discount 0 --gae_lambda 0",
]


def main(python: str) -> None:
    """Run every case on every seed, and write after each."""
    runs = []
    for case in CASES:
        for seed in SEEDS:
            command = f"tests/peers/jax_ppo.py --cell gru --chrono {case} --seed {seed}"
            said = subprocess.run([python, *command.split()], cwd=ROOT, capture_output=True, text=True, check=True)
            runs.append(json.loads(said.stdout.splitlines()[-1]) | {"command": f"python {command}"})
            print(runs[-1], flush=True)
            about = {"commit": commit(), "hardware": hardware(torch.device("cpu"))}
            write_json(ROOT / "results" / "samples.json", about | {"runs": runs})


if __name__ == "__main__":
    main(sys.argv[1])
