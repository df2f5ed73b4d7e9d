"""sb3-contrib's RecurrentPPO on MiniGrid's MemoryS7 and on Pendulum without its velocity.

    .venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py
    .venv-peers/bin/python tests/peers/recurrent_ppo/on_gymnasium.py --task pendulum

They write results/peers_gymnasium.json and results/peers_pendulum.json. Ours on the same seeds, with as many steps, are
results/minigrid_memory.jsonl and results/pendulum_v1.jsonl, and the observations are the same. On MiniGrid the settings
are those of configs/tasks/minigrid_memory.yaml as far as the library has them (Adam for Muon, an LSTM for a GRU); a
learning rate of 0.0003 (``--seeds 1000 --rate 0.0003``) had the same return on seed 1000. On Pendulum they are those of
rl-baselines3-zoo (``PendulumNoVel-v1`` in hyperparams/ppo_lstm.yml) but for minibatches of 512 steps, where it has 128,
and an LSTM as wide as our GRU, where it has 256: with minibatches of 128, agents of either width (seeds 0 and 1, and
1000) had no more return than one that acts at random. One thread. Each run has the mean return of as many greedy
episodes as ours, and the CPU seconds of training.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import torch
import work as w
from sb3 import acting
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

from memsuite.files import write_json
from memsuite.runs.provenance import commit, hardware

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Work:
    """What is trained, and how; ``falling`` is whether the learning rate falls to 0."""

    file: str
    steps: int
    envs: int
    episodes: int
    rate: float
    falling: bool
    settings: dict[str, Any]


WORKS = {
    "minigrid": Work(
        "peers_gymnasium.json",
        steps=400_000,
        envs=16,
        episodes=128,
        rate=1e-3,
        falling=True,
        settings={
            "n_steps": 128,
            "batch_size": 512,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "n_epochs": 4,
            "ent_coef": 0.01,
            "policy_kwargs": {"lstm_hidden_size": 128, "shared_lstm": True, "enable_critic_lstm": False},
        },
    ),
    "pendulum": Work(
        "peers_pendulum.json",
        steps=100_000,
        envs=4,
        episodes=256,
        rate=1e-3,
        falling=False,
        settings={
            "n_steps": 1024,
            "batch_size": 512,
            "gamma": 0.9,
            "gae_lambda": 0.95,
            "n_epochs": 10,
            "ent_coef": 0.0,
            "use_sde": True,
            "sde_sample_freq": 4,
            "policy_kwargs": {"lstm_hidden_size": 64},
        },
    ),
}


def make_env(task: str) -> gymnasium.Env:
    """Make one environment with the observations that our runs have, as vectors."""
    if task == "minigrid":
        env = gymnasium.make("minigrid_one_hot:MiniGrid-MemoryS7-OneHot-v0")
        return gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FilterObservation(env, ["image", "direction"]))
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(gymnasium.make("Pendulum-v1"), lambda x: x[:2], box)


def train(task: str, seed: int, rate: float) -> dict[str, Any]:
    """Train and evaluate one agent."""
    work = WORKS[task]
    env = DummyVecEnv([lambda: make_env(task)] * work.envs)
    given: Any = (lambda left: rate * left) if work.falling else rate
    model = RecurrentPPO("MlpLstmPolicy", env, learning_rate=given, seed=seed, device="cpu", **work.settings)
    begin = time.process_time()
    model.learn(work.steps)
    spent = time.process_time() - begin
    found = w.greedy_returns(lambda: make_env(task), work.episodes, acting(model), seed)
    run = {"task": task, "seed": seed, "env_steps": model.num_timesteps, "episodes": len(found)}
    run |= {"cpu_seconds": spent, "learning_rate": rate}
    run |= {"parameters": sum(p.numel() for p in model.policy.parameters())}
    return run | {"return_mean": float(found.mean()), "return_std": float(found.std())}


def main() -> None:
    """Train on every seed, and write after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=WORKS, default="minigrid")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rate", type=float, help="another learning rate")
    parser.add_argument("--out", type=Path, help="where to write, instead of into results/")
    given = parser.parse_args()
    work = WORKS[given.task]
    out = given.out or ROOT / "results" / work.file
    sys.path.insert(0, str(ROOT / "configs" / "tasks"))
    about = {"hardware": hardware(torch.device("cpu")), "commit": commit(), "version": sb3_contrib.__version__}
    about["command"] = "python " + " ".join(["tests/peers/recurrent_ppo/on_gymnasium.py", *sys.argv[1:]])
    runs = []
    for seed in given.seeds:
        runs.append(train(given.task, seed, given.rate or work.rate))
        write_json(out, about | {"runs": runs})
        print(json.dumps(runs[-1]), flush=True)


if __name__ == "__main__":
    main()
