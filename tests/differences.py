"""How far two tensors lie apart."""

from torch import Tensor


def worst(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, in parts of the largest number."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
