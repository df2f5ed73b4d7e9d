"""Builds and loads what a benchmark asks of the machine and no op needs: ``csrc/bench``, on first use."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from memsuite.ops.build import cache, cpu


def handover(rounds: int) -> float:
    """Return how long a cache line takes from one of two threads to the other, the mean of so many rounds, in seconds.

    Cores that share a cache take tens of nanoseconds and others hundreds. A virtual machine does not say which of them
    the threads run on, and may change it.

    Raises:
        BuildError: the probe cannot be built here.
    """
    _load()
    return float(torch.ops.memsuite.handover(rounds))


@functools.cache
def _load() -> None:
    cpu.register(str(cache.find_or_build(_path(), _build, "building a probe of the machine (once, a few seconds)")))


def _source() -> Path:
    return cache.sources() / "bench" / "handover.cpp"


def _path() -> Path:
    cache.check_platform()
    key = cache.source_key(cpu.FLAGS, [_source()])
    return cache.folder() / f"probe-{key}-{cache.compiler_key(cache.compiler())}.so"


def _build() -> Path:
    path = _path()
    with cache.making(path) as made:
        made_object = str(made.with_name("handover.o"))
        flags = [*cpu.FLAGS, *cpu.against_torch()]
        cache.compile_all([[*cache.compiler(), *flags, "-c", str(_source()), "-o", made_object]], path)
        cache.run_all([cpu.link_command([made_object], made)], path)
    return path
