"""A step that is not finite reaches the queries that see it, and no others.

Attention computes the scores of many queries and keys at once. A key that a query does not see has a weight of zero,
and zero times NaN is NaN. Steps that are not finite are therefore read as zeros, and the features of the queries that
see one are NaN afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def finite(features: Tensor) -> bool:
    """Tell whether all features are finite, so that every step is: each query sees its own."""
    return math.isfinite(float(features.detach().sum()))


def not_finite(entries: Mapping[str, Tensor]) -> Tensor:
    """Return which steps have an entry that is not finite, bool, of the entries' shape without the last dimension."""
    return torch.stack([~part.detach().isfinite().all(-1) for part in entries.values()]).any(0)


def without(entries: Mapping[str, Tensor], steps: Tensor) -> dict[str, Tensor]:
    """Return the entries with zeros for some steps."""
    return {name: zeroed(part, steps) for name, part in entries.items()}


def zeroed(part: Tensor, steps: Tensor) -> Tensor:
    """Return ``[.., width]`` with zeros for some steps ``[..]``."""
    return part.masked_fill(steps.unsqueeze(-1), 0)


def spoilt(features: Tensor, queries: Tensor) -> Tensor:
    """Return ``[.., D]`` with NaN for some queries ``[..]``."""
    return features.masked_fill(queries.unsqueeze(-1), math.nan)
