"""Helpers of the scans' PyTorch references: how resets are applied, and the length of a block of time."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1 << 17  # numbers per block of a backward pass, so that its working set stays in cache at any length
LARGE_BLOCK = 1 << 26  # elsewhere than on a CPU, where every block costs dozens of launches: a quarter of a gigabyte


def rows_with_resets(reset_TB: Tensor) -> list[bool]:
    """Return for each step whether any row is reset there, so that the other steps skip the masking.

    On an accelerator the answer is True for every step, because the check would stop the host once per call.
    """
    if reset_TB.device.type != "cpu":
        return [True] * reset_TB.shape[0]
    return reset_TB.any(dim=1).tolist()


def states_before(first_BD: Tensor, states_TBD: Tensor, at: slice, erase_TB1: Tensor) -> Tensor:
    """Return the state at the beginning of each step of the block ``at``, with resets applied, as a new tensor.

    Args:
        first_BD: the state before the whole sequence.
        states_TBD: the states after each step of the sequence.
        at: the block, with both ends given.
        erase_TB1: bool, the rows that a step resets.
    """
    before = first_BD.unsqueeze(0) if at.start == 0 else states_TBD[at.start - 1 : at.start]
    return torch.cat([before, states_TBD[at.start : at.stop - 1]]).masked_fill_(erase_TB1[at], 0)


def steps_of_a_block(numbers: int, device: torch.device) -> int:
    """Return how many steps of so many numbers each a backward pass takes at once on a device."""
    block = BLOCK if device.type == "cpu" else LARGE_BLOCK
    return max(1, block // max(1, numbers))
