"""The work of the peers on CartPole without its velocities: settings, environment, report.

The settings are those of configs/tasks/cartpole_without_velocities.yaml with an LSTM of width 64 for everybody: 16
environments, rollouts of 128 steps, 4 epochs of 4 minibatches, Adam at 0.001 that falls to 0, discount 0.99, lambda
0.95, clip 0.2, entropy 0.01, rewards times 0.05, gradients of norm 0.5 at most. One thread.

Every peer is a script that takes ``--seed`` and ``--steps``, and prints a JSON object as its last line: training steps
per second of CPU and of wall time, without imports and evaluation, and the mean return of 64 greedy episodes.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch

torch.set_num_threads(1)

ENVS, ROLLOUT, EPOCHS, MINIBATCHES, WIDTH = 16, 128, 4, 4, 64
RATE, DISCOUNT, LAMBDA, CLIP, ENTROPY, VALUE, NORM = 1e-3, 0.99, 0.95, 0.2, 0.01, 0.5, 0.5
REWARD_SCALE = 0.05
EPISODES = 64
POSITION_AND_ANGLE = np.array([0, 2])


def make_env(scale: float = REWARD_SCALE) -> gymnasium.Env:
    """Make CartPole without its velocities."""
    env = gymnasium.make("CartPole-v1")
    box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    env = gymnasium.wrappers.TransformObservation(env, lambda x: x[POSITION_AND_ANGLE], box)
    return gymnasium.wrappers.TransformReward(env, lambda reward: scale * reward)


def options() -> argparse.Namespace:
    """Read the command line, and seed PyTorch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    return given


class Clock:
    """CPU and wall seconds since it was made."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def rates(self, steps: int) -> dict[str, float]:
        """Return steps per second of both."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return {"steps_per_cpu_second": steps / cpu, "steps_per_second": steps / wall, "cpu_seconds": cpu}


def greedy_return(act, seed: int) -> float:
    """Return the mean return of 64 episodes; ``act(observations [E, 2], begins [E])`` returns actions ``[E]``."""
    env = gymnasium.vector.SyncVectorEnv([lambda: make_env(1.0)] * EPISODES)
    now, _ = env.reset(seed=100_000 + seed)
    begins, alive, total = np.ones(EPISODES, bool), np.ones(EPISODES, bool), np.zeros(EPISODES)
    while alive.any():
        now, reward, terminated, truncated, _ = env.step(act(now, begins))
        total += reward * alive
        alive &= ~(terminated | truncated)
        begins = np.zeros(EPISODES, bool)
    return float(total.mean())


def report(peer: str, version: str, parameters: int, rates: dict[str, float], returned: float) -> None:
    """Print the last line."""
    found = {"peer": peer, "version": version, "parameters": parameters, **rates, "return_mean": returned}
    print(json.dumps(found))
