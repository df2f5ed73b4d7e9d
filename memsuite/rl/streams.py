"""Streams of random numbers, one for each purpose, and the stream of iterations a run consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of its own for each purpose, so that none shifts another's numbers."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))


class Iterations:
    """The numbers of the iterations still to run, as a sized and stateful iterable; one epoch is the whole run."""

    def __init__(self, total: int) -> None:
        self.total, self.next = total, 0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        while self.next < self.total:
            self.next += 1
            yield self.next - 1
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the position."""
        self.next = state["next"]
