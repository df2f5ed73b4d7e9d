"""The work of the recurrent PPO of other libraries: environments, settings, report.

The tasks are CartPole without its velocities and the easy ``distractor_nav``, which every peer steps as a Gymnasium
environment. The settings are the same for everybody: an LSTM of width 64, 4 epochs of 4 minibatches, Adam at 0.001 that
falls to 0, discount 0.99, lambda 0.95, clip 0.2, entropy 0.01, gradients of norm 0.5 at most, one action a step. On
CartPole they are those of configs/tasks/cartpole_without_velocities.yaml: 16 environments, rollouts of 128 steps,
rewards times 0.05; in ``distractor_nav`` 64 environments and rollouts of one episode of 50 steps. One thread.

Every peer is a script that takes ``--task``, ``--seed`` and ``--steps``, and prints a JSON object as its last line:
training steps per second of CPU and of wall time, without imports and evaluation, and the mean return of 64 greedy
episodes. In ``distractor_nav`` the return is the share of episodes that end at the goal.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch

torch.set_num_threads(1)

EPOCHS, MINIBATCHES, WIDTH = 4, 4, 64
RATE, DISCOUNT, LAMBDA, CLIP, ENTROPY, VALUE, NORM = 1e-3, 0.99, 0.95, 0.2, 0.01, 0.5, 0.5
EPISODES = 64


@dataclass(frozen=True)
class Work:
    """A task: its Gymnasium id, what an agent sees of an observation, and the sizes of a rollout."""

    id: str
    inputs: int
    actions: int
    envs: int
    rollout: int
    reward_scale: float = 1.0
    seen: tuple[int, ...] | None = None  # the numbers of an observation that the agent sees; None is all of them

    @property
    def frames(self) -> int:
        """Environment steps of a rollout."""
        return self.envs * self.rollout

    def make_env(self, scale: float | None = None) -> gymnasium.Env:
        """Make one environment; its rewards are multiplied by ``scale``, or by the task's own factor."""
        env = gymnasium.make(self.id)
        if self.seen is not None:
            seen, box = np.array(self.seen), gymnasium.spaces.Box(-np.inf, np.inf, (self.inputs,), np.float32)
            env = gymnasium.wrappers.TransformObservation(env, lambda x: x[seen], box)
        scale = self.reward_scale if scale is None else scale
        return gymnasium.wrappers.TransformReward(env, lambda reward: scale * reward)


WORKS = {
    "cartpole": Work("CartPole-v1", inputs=2, actions=2, envs=16, rollout=128, reward_scale=0.05, seen=(0, 2)),
    "distractor_nav": Work(
        "memsuite.tasks.gym:memsuite/distractor_nav-easy-v0", inputs=37, actions=5, envs=64, rollout=50
    ),
}


def options() -> argparse.Namespace:
    """Read the command line, and seed PyTorch; ``work`` is the task's :class:`Work`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=WORKS, default="cartpole")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    given.work = WORKS[given.task]
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


def greedy_returns(make_env, episodes: int, act, seed: int) -> np.ndarray:
    """Return the return of each of some episodes; ``act(observations [E, N], begins [E])`` returns actions ``[E]``."""
    env = gymnasium.vector.SyncVectorEnv([make_env] * episodes)
    now, _ = env.reset(seed=100_000 + seed)
    begins, alive, total = np.ones(episodes, bool), np.ones(episodes, bool), np.zeros(episodes)
    while alive.any():
        now, reward, terminated, truncated, _ = env.step(act(now, begins))
        total += reward * alive
        alive &= ~(terminated | truncated)
        begins = np.zeros(episodes, bool)
    return total


def greedy_return(work: Work, act, seed: int) -> float:
    """Return the mean return of 64 episodes; ``act`` as for :func:`greedy_returns`."""
    return float(greedy_returns(lambda: work.make_env(1.0), EPISODES, act, seed).mean())


def report(peer: str, version: str, parameters: int, rates: dict[str, float], returned: float) -> None:
    """Print the last line."""
    found = {"peer": peer, "version": version, "parameters": parameters, **rates, "return_mean": returned}
    print(json.dumps(found))
