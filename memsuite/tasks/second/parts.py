"""Building blocks of the second set: random steps, and where the i-th of them lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from memsuite.tasks.parts import uniform_numbers


def some_of(count: int, among: int, num_envs: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` different integers of ``[0, among)`` in random order for every environment, ``[count, B]``.

    The same distribution as :func:`memsuite.tasks.parts.distinct`, faster where few are drawn among many. That one
    sorts all of them, and stays as it is because the episodes of published results depend on its draws.
    """
    drawn = uniform_numbers((num_envs, among), generator)
    return drawn.topk(count, dim=1).indices.T.contiguous()


def some_in_order(count: int, among: int, num_envs: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` different integers of ``[0, among)`` in rising order for every environment, ``[count, B]``."""
    return some_of(count, among, num_envs, generator).sort(0).values


def chance_below(index: int, count: int, among: int, bound: int) -> float:
    """Return the probability that the ``index``-th smallest of ``count`` random ones of ``among`` is below ``bound``.

    At least ``index + 1`` of them must then be below ``bound``: the tail of a hypergeometric distribution.
    """
    bound = min(max(0, bound), among)
    ways = sum(math.comb(bound, low) * math.comb(among - bound, count - low) for low in range(index + 1, count + 1))
    return ways / math.comb(among, count)
