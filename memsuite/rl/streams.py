"""Streams of random numbers, one for each purpose, and how many iterations and environments a run is divided into."""

from __future__ import annotations

import hashlib

import torch

from memsuite.errors import UsageError
from memsuite.runs.ppo import ResolvedPPO

MOST = 10_000_000_000  # steps of one iteration: hundreds of gigabytes of observations


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of its own for each purpose, so that none shifts another's numbers."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))


def count_iterations(steps: int | None, num_envs: int, rollout_length: int, default: int) -> int:
    """Return how many whole iterations ``steps`` environment steps are; those of ``default``, one at least, without.

    Raises:
        UsageError: less than one iteration, or one that no memory could hold.
    """
    per_iteration = num_envs * rollout_length
    per = f"one iteration of {num_envs} environments x {rollout_length} steps"
    if per_iteration > MOST:
        raise UsageError(f"{per} is more than {MOST:,}; fewer environments or a shorter rollout are needed")
    if steps is None:
        return max(1, default // per_iteration)
    if steps < per_iteration:
        raise UsageError(f"steps is {steps}, less than {per}; the least is {per_iteration}")
    return steps // per_iteration


def envs_per_process(num_envs: int, processes: int, ppo: ResolvedPPO) -> int:
    """Return each process's share of the environments.

    Raises:
        UsageError: the shares would differ, cut through environments that share a script, or be too few for the
            minibatches.
    """
    if num_envs % (processes * ppo.draws):
        parts = f"{processes} processes" + (f" of {ppo.draws} draws" if ppo.draws > 1 else "")
        raise UsageError(f"num_envs is {num_envs}, shared by {parts}: it must be a multiple of that")
    share = num_envs // processes
    if ppo.minibatches > share // ppo.draws:
        most = f"at most num_envs = {num_envs}" + (f" / {ppo.draws} draws" if ppo.draws > 1 else "")
        most += f" / {processes} processes" if processes > 1 else ""
        raise UsageError(f"ppo.minibatches is {ppo.minibatches}; {most}")
    return share
