"""Reads a cue, a long delay and a query, at a cost that need not grow with the delay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.controllers import Controller
from memsuite.controllers.base import map_state
from memsuite.errors import UsageError
from memsuite.types import State

BLOCK = 512  # blank steps read at once; longer delays need no more memory than this


@torch.no_grad()
def states_after(controller: Controller, shown_BD: Tensor, waits: Sequence[int]) -> Iterator[State]:
    """Show one observation in a new episode, then blanks; yield the state after each given number of blank steps.

    The episodes are read once, to the longest delay, because later steps do not change earlier states.

    Args:
        controller: the model.
        shown_BD: the first observation of each episode, ``[B, D]``.
        waits: numbers of blank steps after it, 0 or more, in rising order.

    Raises:
        UsageError: the numbers are not in rising order.
    """
    if any(after < before for before, after in zip([0, *waits], waits, strict=False)):
        raise UsageError(f"the waits {list(waits)} are not in rising order")
    rows = len(shown_BD)
    begins = torch.ones(1, rows, dtype=torch.bool)
    _, state = controller.forward_sequence(shown_BD.unsqueeze(0), controller.init_state(rows), begins)
    waited = 0
    for steps in waits:
        state = wait(controller, state, torch.zeros_like(shown_BD), steps - waited)
        waited = steps
        yield state


@torch.no_grad()
def wait(controller: Controller, state: State, blank_BD: Tensor, steps: int) -> State:
    """Return the state after ``steps`` blank steps, in blocks of :data:`BLOCK`.

    All blank blocks are equal, and a state has a finite number of bits. Once a block ends in exactly the state in
    which an earlier block began, everything after it repeats, and whole cycles are skipped. The cycle is found with
    the algorithm of Brent (1980), which keeps one earlier state. Once all rows are equal to the bit, one row is read
    for all, since nothing tells them apart. The result equals reading every step, except that a product over one row
    may round its last bit differently, as it may from row to row. For a memory that settles or forgets it is faster.

    Args:
        controller: the model.
        state: the state before the delay.
        blank_BD: a blank observation for each row, ``[B, D]``.
        steps: number of blank steps, 0 or more.
    """
    still = torch.zeros(BLOCK, len(blank_BD), dtype=torch.bool)
    blanks = blank_BD.expand(BLOCK, -1, -1).contiguous()
    left, rest = divmod(steps, BLOCK)
    kept, since, until = state, 0, 1
    while left:
        if len(blank_BD) > 1 and rows_alike(state):
            state = map_state(lambda leaf: leaf[:1], state)
            state = wait(controller, state, blank_BD[:1], left * BLOCK + rest)
            return map_state(lambda leaf: leaf.repeat(len(blank_BD), *[1] * (leaf.dim() - 1)), state)
        _, state = controller.forward_sequence(blanks, state, still)
        left, since = left - 1, since + 1
        if same_bits(state, kept):
            left %= since
        elif since == until:
            kept, since, until = state, 0, 2 * until
    if rest:
        _, state = controller.forward_sequence(blanks[:rest], state, still[:rest])
    return state


def rows_alike(state: State) -> bool:
    """Return whether all rows of a state are equal to the bit."""
    first = map_state(lambda leaf: leaf[:1].expand_as(leaf), state)
    return same_bits(state, first)


def same_bits(one: State, other: State) -> bool:
    """Return whether two states are equal to the bit, including signs of zeros and NaNs."""
    leaves = zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True)
    return all(torch.equal(*(leaf.contiguous().view(torch.uint8) for leaf in pair)) for pair in leaves)
