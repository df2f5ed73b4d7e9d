"""Steps of several draws that went on from one window: they attend to one copy of what was read before they parted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from memsuite.controllers.windows.window import Entries
    from memsuite.types import State

MOST = 4  # entries of all draws beside one context: a query scores those of the other draws in vain


def worth_sharing(draws: int, steps: int, context_length: int) -> bool:
    """Return whether attending to a shared past costs less than a copy of it for every draw and step."""
    return draws > 1 and draws * steps <= MOST * context_length


def forked(caches: Entries, position_M: Tensor, draws: int) -> State:
    """Return the state of ``draws`` rows for each row of the caches.

    Returns:
        A dict with ``past``, the caches ``[M, context_length, width]`` as they are; ``recent``, what each draw has read
        since, ``[M draws, steps, width]``, none at first; and ``position``, ``[M draws]``.
    """
    rows = len(position_M) * draws
    recent = {name: cache.new_zeros(rows, 0, cache.shape[-1]) for name, cache in caches.items()}
    return cast("State", {"past": caches, "recent": recent, "position": position_M.repeat_interleave(draws)})


def append_recent(state: State, new: Entries) -> dict[str, Any]:
    """Return a forked state after one more step; entries are ``[M draws, 1, width]``."""
    its = cast(dict[str, Any], state)
    recent = {name: torch.cat([part, new[name]], 1) for name, part in its["recent"].items()}
    return {"past": its["past"], "recent": recent, "position": its["position"] + 1}


def whole(state: dict[str, Any], reach: int, context_length: int) -> tuple[Entries, Tensor, Tensor, Tensor]:
    """Lay out what the draws of a window may see as one row of keys: the past, then the recent steps of each draw.

    Args:
        state: a forked state, the present step included.
        reach: number of steps to attend to, the present one included.
        context_length: number of visible steps.

    Returns:
        The entries ``[M, K, width]``, the ages ``[draws, K]``, whether a draw sees a key ``[M, draws, K]``, and the
        positions of the draws ``[M, draws]``.
    """
    past, recent = cast("Entries", state["past"]), cast("Entries", state["recent"])
    windows, (rows, steps, _) = len(next(iter(past.values()))), next(iter(recent.values())).shape
    draws, old = rows // windows, max(0, reach - steps)
    position = (state["position"] - 1).view(windows, draws)
    device = position.device
    age = torch.cat(
        [
            torch.arange(steps + old - 1, steps - 1, -1, device=device),
            torch.arange(steps - 1, -1, -1, device=device).repeat(draws),
        ]
    ).expand(draws, -1)
    mine = torch.eye(draws, dtype=torch.bool, device=device).repeat_interleave(steps, 1)
    mine = torch.cat([mine.new_ones(draws, old), mine], 1)
    seen = mine & (age < context_length) & (age <= position.unsqueeze(2))
    entries = {
        name: torch.cat([part[:, part.shape[1] - old :], recent[name].reshape(windows, draws * steps, -1)], 1)
        for name, part in past.items()
    }
    return entries, age, seen, position
