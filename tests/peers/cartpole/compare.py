"""Training on CartPole without its velocities beside other libraries, in turn (results/peers_cartpole.json).

    .venv/bin/python tests/peers/cartpole/compare.py .venv-peers/bin/python --steps 100000

The second Python has sb3-contrib and TorchRL (``make bench-cartpole`` sets it up). Ours is ``memsuite fit`` with
configs/tasks/cartpole_without_velocities.yaml and the peers' LSTM; its CPU seconds are those of the whole run.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import torch

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[3]
PEERS = {"cleanrl-style": "cleanrl_style.py", "sb3-contrib": "sb3.py", "torchrl": "torchrl_ppo.py"}
OURS = (
    "--config configs/tasks/cartpole_without_velocities.yaml --controller lstm --device cpu"
    " --seed {seed} --steps {steps} --out {out} --overwrite"
)


def last_line(command: list[str]) -> dict:
    """Run a peer's command from the root and return the JSON object of its last line."""
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def ours(python: str, seed: int, steps: int) -> dict:
    """Train ours, and return what the peers print."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "memsuite", "fit", *OURS.format(seed=seed, steps=steps, out=folder).split()]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        result = json.loads((Path(folder) / "result.json").read_text())
    rate = result["env_steps"] / result["cpu_seconds"]
    found = {"peer": "memsuite", "parameters": result["parameters"], "steps_per_cpu_second": rate}
    found |= {"steps_per_second": result["env_steps"] / result["wall_seconds"], "cpu_seconds": result["cpu_seconds"]}
    return found | {"version": result["versions"]["memsuite"], "return_mean": result["return_mean"]}


def main() -> None:
    """Train every side on every seed, and write after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", help="a Python with sb3-contrib and TorchRL")
    parser.add_argument("--ours", default=".venv/bin/python", help="a Python with memsuite")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "results" / "peers_cartpole.json"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    about = {"hardware": hardware(torch.device("cpu")), "commit": commit(), "steps": options.steps}
    about["command"] = f"python tests/peers/cartpole/compare.py .venv-peers/bin/python --steps {options.steps}"
    runs = []
    for seed in range(options.seeds):
        runs.append({"seed": seed} | ours(options.ours, seed, options.steps))
        for script in PEERS.values():
            given = ["--seed", str(seed), "--steps", str(options.steps)]
            runs.append({"seed": seed} | last_line([options.python, f"tests/peers/cartpole/{script}", *given]))
            write_json(Path(options.out), about | {"runs": runs})
        print(json.dumps(runs[-1 - len(PEERS) :]), flush=True)


if __name__ == "__main__":
    main()
