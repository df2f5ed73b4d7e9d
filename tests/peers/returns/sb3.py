"""sb3-contrib's RecurrentPPO on the environments of two of our configurations, with their settings.

    .venv-peers/bin/python tests/peers/returns/sb3.py --work pendulum --seed 0

The works are configs/tasks/pendulum_without_velocities.yaml and configs/tasks/minigrid_memory.yaml: the same steps,
environments, rollouts, passes, learning rate that falls to 0, discount, and scale of the rewards, and one LSTM of the
same width for actor and critic. Prints a JSON object as its last line, with the mean return of 64 greedy episodes.
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

ENVS, EPISODES = 16, 64
WORKS = {
    "pendulum": {
        "steps": 800_000, "width": 64, "rollout": 200, "epochs": 10, "entropy": 0.0, "discount": 0.97, "scale": 0.05,
    },
    "minigrid": {
        "steps": 1_000_000, "width": 128, "rollout": 256, "epochs": 4, "entropy": 0.01, "discount": 0.99, "scale": 1.0,
    },
}  # fmt: skip


def make_env(work: str, scale: float = 1.0) -> gymnasium.Env:
    """Make the environment with observations of numbers in one row, as ours flattens them."""
    if work == "pendulum":
        env = gymnasium.make("Pendulum-v1")
        box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        env = gymnasium.wrappers.TransformObservation(env, lambda x: x[:2], box)
    else:
        import minigrid  # noqa: F401

        env = gymnasium.make("MiniGrid-MemoryS7-v0", max_episode_steps=245)
        env = gymnasium.wrappers.FilterObservation(env, ["image", "direction"])
        env = gymnasium.wrappers.FlattenObservation(env)
        box = gymnasium.spaces.Box(0, 255, env.observation_space.shape, np.float32)
        env = gymnasium.wrappers.TransformObservation(env, lambda x: x.astype(np.float32), box)
    return gymnasium.wrappers.TransformReward(env, lambda reward: scale * reward)


def greedy_return(model: RecurrentPPO, work: str, seed: int) -> float:
    """Return the mean return of 64 greedy episodes that no training has seen."""
    env = gymnasium.vector.SyncVectorEnv([lambda: make_env(work)] * EPISODES)
    now, _ = env.reset(seed=100_000 + seed)
    begins, alive, total, state = np.ones(EPISODES, bool), np.ones(EPISODES, bool), np.zeros(EPISODES), None
    while alive.any():
        actions, state = model.predict(now, state, begins, deterministic=True)
        now, reward, terminated, truncated, _ = env.step(actions)
        total += reward * alive
        alive &= ~(terminated | truncated)
        begins = np.zeros(EPISODES, bool)
    return float(total.mean())


def main() -> None:
    """Train one work with one seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=WORKS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    given = parser.parse_args()
    work = WORKS[given.work]
    size = ENVS * work["rollout"]
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([lambda: make_env(given.work, work["scale"])] * ENVS),
        n_steps=work["rollout"],
        batch_size=size // 4,
        n_epochs=work["epochs"],
        gamma=work["discount"],
        gae_lambda=0.95,
        ent_coef=work["entropy"],
        learning_rate=lambda left: 1e-3 * left,
        seed=given.seed,
        policy_kwargs={
            "lstm_hidden_size": work["width"], "n_lstm_layers": 1, "net_arch": [], "shared_lstm": True,
            "enable_critic_lstm": False,
        },
        device="cpu",
    )  # fmt: skip
    cpu, wall = time.process_time(), time.perf_counter()
    model.learn((given.steps or work["steps"]) // size * size)
    found = {"peer": "sb3-contrib", "version": sb3_contrib.__version__, "work": given.work, "seed": given.seed}
    found |= {"steps": model.num_timesteps, "parameters": sum(p.numel() for p in model.policy.parameters())}
    found |= {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    print(json.dumps(found | {"return_mean": greedy_return(model, given.work, given.seed)}))


if __name__ == "__main__":
    main()
