"""The distance between two tensors."""

from torch import Tensor


def worst(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest number."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
