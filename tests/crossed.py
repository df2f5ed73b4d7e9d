"""Pairs of a task and a controller: enough of them for every change, and all of them for ``make test-slow``."""

from collections.abc import Iterable, Sequence

import pytest

# With these every task is tried: one with a state of one size, and one with a window.
WITH_EVERY_TASK = ("gru", "transformer")


def crossed(kinds: Sequence[Sequence[str]], controllers: Iterable[str]) -> list:
    """Return all pairs for ``parametrize(("task", "controller"), ...)``, of which most are marked as slow.

    Every task is paired with the controllers of :data:`WITH_EVERY_TASK`, and every controller with one task of each
    kind, the next controller with the next task. A rollout does not know which controller it drives, nor a controller
    which task it reads, so a fault that only one pair of them has is rare.
    """
    pairs = []
    for place, controller in enumerate(controllers):
        chosen = {kind[place % len(kind)] for kind in kinds}
        for task in (task for kind in kinds for task in kind):
            quick = controller in WITH_EVERY_TASK or task in chosen
            pairs.append(pytest.param(task, controller, marks=[] if quick else [pytest.mark.slow]))
    return pairs
