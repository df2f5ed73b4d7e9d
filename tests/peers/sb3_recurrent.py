"""sb3-contrib's RecurrentPPO on a Gymnasium environment: ``pip install sb3-contrib minigrid``.

Pendulum without its velocity has the settings that rl-baselines3-zoo publishes for it. MiniGrid's MemoryS7 has none
there; it has the settings of configs/tasks/minigrid_memory.yaml, as far as the library has them. One thread. The last
line is JSON: the mean return of 256 greedy episodes, and the CPU seconds of training.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import sb3_contrib
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

torch.set_num_threads(1)

EPISODES = 256
SETTINGS = {
    "pendulum": {
        "envs": 4,
        "n_steps": 1024,
        "gamma": 0.9,
        "n_epochs": 10,
        "ent_coef": 0.0,
        "learning_rate": 1e-3,
        "use_sde": True,
        "sde_sample_freq": 4,
    },
    "minigrid": {
        "envs": 16,
        "n_steps": 128,
        "batch_size": 512,
        "gamma": 0.99,
        "n_epochs": 4,
        "ent_coef": 0.01,
        "learning_rate": lambda left: 1e-3 * left,
    },
}


def make_env(name: str) -> gymnasium.Env:
    """Make an environment with flat observations."""
    if name == "minigrid":
        import minigrid  # noqa: F401  registers its environments

        env = gymnasium.make("MiniGrid-MemoryS7-v0")
        return gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FilterObservation(env, ["image", "direction"]))
    env = gymnasium.make("Pendulum-v1")
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(env, lambda x: x[:2], box)


def greedy_returns(model: RecurrentPPO, name: str, seed: int) -> np.ndarray:
    """Return the return of each of the evaluation's episodes."""
    env = gymnasium.vector.SyncVectorEnv([lambda: make_env(name)] * EPISODES)
    now, _ = env.reset(seed=100_000 + seed)
    begins, alive, total, state = np.ones(EPISODES, bool), np.ones(EPISODES, bool), np.zeros(EPISODES), None
    while alive.any():
        actions, state = model.predict(now, state, begins, deterministic=True)
        now, reward, terminated, truncated, _ = env.step(actions)
        total += reward * alive
        alive &= ~(terminated | truncated)
        begins = np.zeros(EPISODES, bool)
    return total


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--env", choices=list(SETTINGS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    settings = dict(SETTINGS[given.env])
    env = DummyVecEnv([lambda: make_env(given.env)] * settings.pop("envs"))
    model = RecurrentPPO("MlpLstmPolicy", env, gae_lambda=0.95, seed=given.seed, device="cpu", **settings)
    begin = time.process_time()
    model.learn(given.steps)
    spent = time.process_time() - begin
    found = greedy_returns(model, given.env, given.seed)
    size = sum(p.numel() for p in model.policy.parameters())
    row = {"version": sb3_contrib.__version__, "parameters": size, "env_steps": model.num_timesteps}
    print(
        json.dumps(row | {"cpu_seconds": spent, "return_mean": float(found.mean()), "return_std": float(found.std())})
    )


if __name__ == "__main__":
    main()
