"""sb3-contrib's RecurrentPPO on MiniGrid's MemoryS7 (results/peers_gymnasium.json).

    .venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py

Ours on the same seeds, with as many steps, are results/minigrid_memory.jsonl. The settings are those of
configs/tasks/minigrid_memory.yaml as far as the library has them (Adam for Muon, an LSTM for a GRU), and the
observations are the same. A learning rate of 0.0003 (``--seeds 1000 --rate 0.0003``) had the same return on seed 1000.
One thread. Each run has the mean return of as many greedy episodes as ours, and the CPU seconds of training.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import sb3_contrib
import torch
import work as w
from sb3 import acting
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[3]
STEPS, ENVS, EPISODES = 400_000, 16, 128
SETTINGS: dict[str, Any] = {
    "n_steps": 128,
    "batch_size": 512,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "n_epochs": 4,
    "ent_coef": 0.01,
    "policy_kwargs": {"lstm_hidden_size": 128, "shared_lstm": True, "enable_critic_lstm": False},
}


def make_env() -> gymnasium.Env:
    """Make one environment with the observations that our runs have, as vectors."""
    env = gymnasium.make("minigrid_one_hot:MiniGrid-MemoryS7-OneHot-v0")
    return gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FilterObservation(env, ["image", "direction"]))


def train(seed: int, rate: float) -> dict[str, Any]:
    """Train and evaluate one agent."""
    env = DummyVecEnv([make_env] * ENVS)
    model = RecurrentPPO(
        "MlpLstmPolicy", env, learning_rate=lambda left: rate * left, seed=seed, device="cpu", **SETTINGS
    )
    begin = time.process_time()
    model.learn(STEPS)
    spent = time.process_time() - begin
    found = w.greedy_returns(make_env, EPISODES, acting(model), seed)
    run = {"task": "minigrid", "seed": seed, "env_steps": model.num_timesteps, "episodes": len(found)}
    run |= {"cpu_seconds": spent, "learning_rate": rate}
    run |= {"parameters": sum(p.numel() for p in model.policy.parameters())}
    return run | {"return_mean": float(found.mean()), "return_std": float(found.std())}


def main() -> None:
    """Train on every seed, and write after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=1e-3, help="the learning rate, which falls to 0")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "peers_gymnasium.json")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "configs" / "tasks"))
    about = {"hardware": hardware(torch.device("cpu")), "commit": commit(), "version": sb3_contrib.__version__}
    about["command"] = "python " + " ".join(["tests/peers/recurrent_ppo/on_gymnasium.py", *sys.argv[1:]])
    runs = []
    for seed in given.seeds:
        runs.append(train(seed, given.rate))
        write_json(given.out, about | {"runs": runs})
        print(json.dumps(runs[-1]), flush=True)


if __name__ == "__main__":
    main()
