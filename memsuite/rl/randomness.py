"""The global random generators: memsuite never draws from them, but a user's model, task or environment may."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators for the block, and restore their states afterwards.

    Args:
        seed: seed of the block; draws in the block depend only on it.
    """
    before = global_random_states()
    seed_global_generators(seed)
    try:
        yield
    finally:
        restore_global_random_states(before)


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of PyTorch, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def global_random_states() -> dict[str, Any]:
    """Return the states of the generators that a user's own model or environment may draw from."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
    }


def restore_global_random_states(saved: dict[str, Any]) -> None:
    """Restore the output of :func:`global_random_states`."""
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
    random.setstate(saved["python"])
    kind, keys, *rest = saved["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
