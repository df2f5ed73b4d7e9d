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
    """The numbers of the iterations still to run, as a sized iterable; one epoch is the whole run.

    ``begin`` is where a resumed run goes on. The length stays the whole run's: Lightning counts what was run before.
    """

    def __init__(self, total: int) -> None:
        self.total, self.begin = total, 0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        yield from range(self.begin, self.total)
