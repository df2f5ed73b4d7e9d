"""Recurrent PPO of other libraries beside ours, in turn (results/peers_recurrent_ppo.json): rates and returns.

    .venv/bin/python tests/peers/recurrent_ppo/compare.py .venv-peers/bin/python

The second Python has sb3-contrib, TorchRL and memsuite, whose tasks the peers step as Gymnasium environments
(``make bench-recurrent-ppo`` sets it up). Ours is ``memsuite fit`` with the peers' settings; its CPU seconds are those
of the whole run.
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
STEPS = {"cartpole": 100_000, "distractor_nav": 200_000}
# The settings of work.py in the words of `memsuite fit`.
OURS = {
    "cartpole": "--config configs/tasks/cartpole_without_velocities.yaml --controller lstm",
    "distractor_nav": (
        "--task distractor_nav --difficulty easy --controller lstm --controller_args.hidden_dim 64"
        " --controller_args.memory_horizon null --num_envs 64 --evaluation_episodes 64 --model.ppo.draws 1"
        " --model.ppo.rollout_length 50 --model.ppo.epochs 4 --model.ppo.minibatches 4 --model.ppo.learning_rate 0.001"
        " --model.ppo.recurrent_lr_scale 1 --model.ppo.discount 0.99 --model.ppo.gae_lambda 0.95"
        " --model.ppo.normalise_advantages true --model.ppo.entropy_coefficient 0.01"
        " --model.ppo.entropy_weighting uniform"
    ),
}


def last_line(command: list[str]) -> dict:
    """Run a peer's command from the root and return the JSON object of its last line."""
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def ours(python: str, task: str, seed: int) -> dict:
    """Train ours, and return what the peers print."""
    with tempfile.TemporaryDirectory() as folder:
        given = [*OURS[task].split(), "--device", "cpu", "--seed", str(seed), "--steps", str(STEPS[task])]
        command = [python, "-m", "memsuite", "fit", *given, "--out", folder, "--overwrite"]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        result = json.loads((Path(folder) / "result.json").read_text())
    rate = result["env_steps"] / result["cpu_seconds"]
    found = {"peer": "memsuite", "parameters": result["parameters"], "steps_per_cpu_second": rate}
    found |= {"steps_per_second": result["env_steps"] / result["wall_seconds"], "cpu_seconds": result["cpu_seconds"]}
    return found | {"version": result["versions"]["memsuite"], "return_mean": result["return_mean"]}


def main() -> None:
    """Train every side on every task and seed, and write after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", help="a Python with sb3-contrib, TorchRL and memsuite")
    parser.add_argument("--ours", default=".venv/bin/python", help="a Python with memsuite")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "results" / "peers_recurrent_ppo.json"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    about = {"hardware": hardware(torch.device("cpu")), "commit": commit()}
    about["command"] = "python tests/peers/recurrent_ppo/compare.py .venv-peers/bin/python"
    runs = []
    for task, steps in STEPS.items():
        for seed in range(options.seeds):
            which = {"task": task, "steps": steps, "seed": seed}
            runs.append(which | ours(options.ours, task, seed))
            for script in PEERS.values():
                given = ["--task", task, "--seed", str(seed), "--steps", str(steps)]
                runs.append(which | last_line([options.python, f"tests/peers/recurrent_ppo/{script}", *given]))
                write_json(Path(options.out), about | {"runs": runs})
                print(json.dumps(runs[-1]), flush=True)


if __name__ == "__main__":
    main()
