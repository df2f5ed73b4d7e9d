"""The kinds of matrix recurrence that tests draw: which decays there are, and what a step takes away."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

# Whether the channels of the keys decay on their own, and the rule.
RULES = {
    "sum": (False, "sum"),
    "delta": (False, "delta"),
    "channels": (True, "sum"),
    "channels_delta": (True, "delta"),
    "edit": (True, "edit"),
}
rules = pytest.mark.parametrize("rule", RULES)


def decay_and_rule(rule: str, heads: tuple[int, ...], keys: int, dtype=torch.float64) -> list[Tensor | None]:
    """Draw log_decay, beta, erase and address, exact in float32 too; ``heads`` is the shape of one number for each.

    The erasure is mild, so that the state stays of about unit size.
    """
    channels, kind = RULES[rule]

    def exact(x: Tensor) -> Tensor:
        return x.float().to(dtype)

    log_decay = exact(-torch.randn(*heads, *([keys] if channels else [])).abs())
    beta = exact(torch.randn(*heads).sigmoid()) if kind == "delta" else None
    erase, address = (exact(normalize(torch.randn(*heads, keys), dim=-1)) for _ in range(2))
    return [log_decay, beta, *((erase, address) if kind == "edit" else (None, None))]


APART, *SHARED = (None, None), (1, 1), (1, None), (None, 1)  # heads of queries and keys; None for the number of heads
sharing = pytest.mark.parametrize("shared", [APART, *SHARED], ids=str)


def sizes(shapes: list[tuple[int, ...]], odd: tuple[int, ...], large: tuple[int, ...]) -> list:
    """Return every size with heads apart, and an odd and a large one with shared heads."""
    return [*((shape, APART) for shape in shapes), *((shape, shared) for shape in (odd, large) for shared in SHARED)]


def cast(given, kind: torch.dtype) -> list[Tensor | None]:
    """Return arguments in another kind of number; resets stay what they are."""
    return [x if x is None or x.dtype == torch.bool else x.to(kind) for x in given]
