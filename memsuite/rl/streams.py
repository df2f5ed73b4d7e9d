"""Random streams, one per purpose, and the division of a run into iterations and environments."""

from __future__ import annotations

import hashlib

import torch

from memsuite.errors import UsageError
from memsuite.runs.ppo import ResolvedPPO

MOST = 10_000_000_000  # largest number of steps in one iteration: hundreds of gigabytes of observations


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a separate generator for each purpose, so that none shifts another's random numbers."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))


def count_iterations(steps: int | None, num_envs: int, rollout_length: int, default: int) -> int:
    """Return the number of whole iterations in ``steps`` environment steps; if None, in ``default``, but at least one.

    Raises:
        UsageError: less than one iteration, or an iteration too large for any memory.
    """
    per_iteration = num_envs * rollout_length
    per = f"one iteration of {num_envs} environments x {rollout_length} steps"
    if per_iteration > MOST:
        raise UsageError(f"{per} is more than {MOST:,}; fewer environments or a shorter rollout are needed")
    if steps is None:
        return max(1, default // per_iteration)
    if steps < per_iteration:
        raise UsageError(
            f"steps is {steps}, less than {per}; the least is {per_iteration}; or "
            "lower num_envs, or ppo.rollout_length (one episode if not given)"
        )
    return steps // per_iteration


def envs_per_process(num_envs: int, processes: int, ppo: ResolvedPPO) -> int:
    """Return each process's share of the environments.

    Raises:
        UsageError: the shares would differ, would separate environments that share a script, or would be too few for
            the minibatches.
    """
    if num_envs % (processes * ppo.draws):
        parts = f"{processes} processes" + (f" of {ppo.draws} draws" if ppo.draws > 1 else "")
        raise UsageError(f"num_envs is {num_envs}, shared by {parts}: it must be a multiple of {processes * ppo.draws}")
    share = num_envs // processes
    if ppo.minibatches > share // ppo.draws:
        most = f"at most num_envs = {num_envs}" + (f" / {ppo.draws} draws" if ppo.draws > 1 else "")
        most += f" / {processes} processes" if processes > 1 else ""
        raise UsageError(f"ppo.minibatches is {ppo.minibatches}; {most}")
    return share
