"""Reading a cue, a long wait and a question, at a cost that does not have to grow with the wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memsuite.controllers import Controller
from memsuite.controllers.base import map_state
from memsuite.errors import UsageError
from memsuite.types import State

BLOCK = 512  # blank steps read at once: the longest waits need no more memory than this


@torch.no_grad()
def states_after(controller: Controller, shown_BD: Tensor, waits: Sequence[int]) -> Iterator[State]:
    """Show one observation in a new episode, then nothing; yield the state after each number of blank steps.

    The episodes are read once, to the longest wait: what comes later changes nothing before.

    Args:
        controller: the model.
        shown_BD: the first observation of each episode.
        waits: blank steps after it, 0 or more, none below the one before.

    Raises:
        UsageError: waits that fall.
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

    Blank blocks are all alike, and a state is a finite number of bits. Once a block ends in a state, to the bit, in
    which another block began, all that follows is a repetition, and whole rounds of it are left out (the cycle is
    found as Brent 1980 does, with one state kept). And once all rows are equal to the bit, they stay so, and one is
    read for all. The result is the one of reading every step (a product over one row may round its last bit
    otherwise): only sooner, for a memory that settles or forgets.

    Args:
        controller: the model.
        state: before the wait.
        blank_BD: a blank observation for each row.
        steps: 0 or more.
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
    """Tell whether all rows of a state are equal to the bit."""
    first = map_state(lambda leaf: leaf[:1].expand_as(leaf), state)
    return same_bits(state, first)


def same_bits(one: State, other: State) -> bool:
    """Tell whether two states of a controller are equal to the bit, signs of zeros and NaNs included."""
    leaves = zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True)
    return all(torch.equal(*(leaf.contiguous().view(torch.uint8) for leaf in pair)) for pair in leaves)
