"""sb3-contrib's RecurrentPPO on Pendulum without its velocity, with the settings of our configuration.

    .venv-peers/bin/python tests/peers/returns/sb3.py --seed 0

As configs/tasks/pendulum_without_velocities.yaml has them: the same steps, environments, rollouts, passes, learning
rate that falls to 0, discount and scale of the rewards, and one LSTM of the same width for actor and critic. Prints a
JSON object as its last line, with the mean return of 64 greedy episodes.
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

ENVS, ROLLOUT, EPOCHS, MINIBATCHES, WIDTH, EPISODES = 16, 200, 10, 4, 64, 64
STEPS, RATE, DISCOUNT, LAMBDA, REWARD_SCALE = 800_000, 1e-3, 0.97, 0.95, 0.05


def make_env(scale: float = 1.0) -> gymnasium.Env:
    """Make Pendulum without its angular velocity."""
    env = gymnasium.make("Pendulum-v1")
    box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    env = gymnasium.wrappers.TransformObservation(env, lambda x: x[:2], box)
    return gymnasium.wrappers.TransformReward(env, lambda reward: scale * reward)


def greedy_return(model: RecurrentPPO, seed: int) -> float:
    """Return the mean return of 64 greedy episodes that no training has seen."""
    env = gymnasium.vector.SyncVectorEnv([make_env] * EPISODES)
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
    """Train with one seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    policy = {
        "lstm_hidden_size": WIDTH,
        "n_lstm_layers": 1,
        "net_arch": [],
        "shared_lstm": True,
        "enable_critic_lstm": False,
    }
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([lambda: make_env(REWARD_SCALE)] * ENVS),
        n_steps=ROLLOUT,
        batch_size=ENVS * ROLLOUT // MINIBATCHES,
        n_epochs=EPOCHS,
        gamma=DISCOUNT,
        gae_lambda=LAMBDA,
        ent_coef=0.0,
        learning_rate=lambda left: RATE * left,
        seed=given.seed,
        policy_kwargs=policy,
        device="cpu",
    )
    cpu, wall = time.process_time(), time.perf_counter()
    model.learn(given.steps // (ENVS * ROLLOUT) * ENVS * ROLLOUT)
    found = {"peer": "sb3-contrib", "version": sb3_contrib.__version__, "seed": given.seed}
    found |= {"steps": model.num_timesteps, "parameters": sum(p.numel() for p in model.policy.parameters())}
    found |= {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    print(json.dumps(found | {"return_mean": greedy_return(model, given.seed)}))


if __name__ == "__main__":
    main()
