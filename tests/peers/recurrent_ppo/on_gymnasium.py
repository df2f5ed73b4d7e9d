"""sb3-contrib's RecurrentPPO on Pendulum without its velocity and MiniGrid's MemoryS7 (results/peers_gymnasium.json).

    .venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py

Ours on the same seeds, with as many steps, are results/pendulum_v1.jsonl and results/minigrid_memory.jsonl. On Pendulum
the settings are those that rl-baselines3-zoo publishes for it; there are none for MemoryS7, so it has those of
configs/tasks/minigrid_memory.yaml as far as the library has them (Adam for Muon, an LSTM for a GRU), with the learning
rate that did better on seed 1000 of the two that were tried there (``--seeds 1000 --rate 0.0003``; 0.001 is the other).
The observations are the same as ours. One thread. Each run has the mean return of as many greedy episodes as ours, and
the CPU seconds of training.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import sb3_contrib
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[3]
WORKS: dict[str, dict[str, Any]] = {
    "pendulum": {
        "steps": 100_000,
        "episodes": 256,
        "envs": 4,
        "settings": {
            "n_steps": 1024,
            "gamma": 0.9,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
    },
    "minigrid": {
        "steps": 400_000,
        "episodes": 128,
        "envs": 16,
        "settings": {
            "n_steps": 128,
            "batch_size": 512,
            "gamma": 0.99,
            "n_epochs": 4,
            "ent_coef": 0.01,
            "learning_rate": 1e-3,
            "policy_kwargs": {"lstm_hidden_size": 128, "shared_lstm": True, "enable_critic_lstm": False},
        },
    },
}


def make_env(task: str) -> gymnasium.Env:
    """Make one environment with the observations that our runs have, as vectors."""
    if task == "minigrid":
        sys.path.insert(0, str(ROOT / "configs" / "tasks"))
        env = gymnasium.make("minigrid_one_hot:MiniGrid-MemoryS7-OneHot-v0")
        return gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FilterObservation(env, ["image", "direction"]))
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(gymnasium.make("Pendulum-v1"), lambda x: x[:2], box)


def greedy_returns(model: RecurrentPPO, task: str, seed: int) -> np.ndarray:
    """Return the return of each of the evaluation's episodes."""
    episodes = WORKS[task]["episodes"]
    env = gymnasium.vector.SyncVectorEnv([lambda: make_env(task)] * episodes)
    now, _ = env.reset(seed=100_000 + seed)
    begins, alive, total, state = np.ones(episodes, bool), np.ones(episodes, bool), np.zeros(episodes), None
    while alive.any():
        actions, state = model.predict(now, state, begins, deterministic=True)
        now, reward, terminated, truncated, _ = env.step(actions)
        total += reward * alive
        alive &= ~(terminated | truncated)
        begins = np.zeros(episodes, bool)
    return total


def train(task: str, seed: int, rate: float | None) -> dict[str, Any]:
    """Train and evaluate one agent."""
    work = WORKS[task]
    settings = dict(work["settings"])
    if rate is not None:
        settings["learning_rate"] = rate
    if task == "minigrid":  # ours falls to 0; the zoo's for Pendulum does not
        first = settings["learning_rate"]
        settings["learning_rate"] = lambda left: first * left
    env = DummyVecEnv([lambda: make_env(task)] * work["envs"])
    model = RecurrentPPO("MlpLstmPolicy", env, gae_lambda=0.95, seed=seed, device="cpu", **settings)
    begin = time.process_time()
    model.learn(work["steps"])
    spent = time.process_time() - begin
    found = greedy_returns(model, task, seed)
    run = {"task": task, "seed": seed, "env_steps": model.num_timesteps, "episodes": len(found), "cpu_seconds": spent}
    run |= {"learning_rate": rate or work["settings"]["learning_rate"]}
    run |= {"parameters": sum(p.numel() for p in model.policy.parameters())}
    return run | {"return_mean": float(found.mean()), "return_std": float(found.std())}


def main() -> None:
    """Train on every task and seed, and write after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=None, help="another learning rate")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "peers_gymnasium.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    about = {"hardware": hardware(torch.device("cpu")), "commit": commit(), "version": sb3_contrib.__version__}
    about["command"] = "python " + " ".join(["tests/peers/recurrent_ppo/on_gymnasium.py", *sys.argv[1:]])
    runs = []
    for task in given.tasks:
        for seed in given.seeds:
            runs.append(train(task, seed, given.rate))
            write_json(given.out, about | {"runs": runs})
            print(json.dumps(runs[-1]), flush=True)


if __name__ == "__main__":
    main()
