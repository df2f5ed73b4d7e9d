"""The position of each step in its episode, for models whose state counts steps."""

from __future__ import annotations

import torch
from torch import Tensor


def positions_in_episode(is_first_TB: Tensor, position_B: Tensor) -> Tensor:
    """Return each step's position in its episode, int64 ``[T, B]``, 0 for the step that begins it.

    Args:
        is_first_TB: bool ``[T, B]``.
        position_B: the position of the first step, where it does not begin an episode.
    """
    time = torch.arange(len(is_first_TB), device=is_first_TB.device).unsqueeze(1)
    began = last_true(is_first_TB)
    return torch.where(began >= 0, time - began, position_B + time)


def last_true(flag_T: Tensor) -> Tensor:
    """Return the number of the last step, up to each one, at which a flag ``[T, ..]`` is set; -1 for none; int64."""
    time = torch.arange(len(flag_T), device=flag_T.device).view(-1, *[1] * (flag_T.dim() - 1))
    return torch.where(flag_T, time, -1).cummax(dim=0).values
