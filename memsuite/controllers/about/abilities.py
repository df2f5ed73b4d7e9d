"""What each model can express: the kind of its state, and what one step can do to it."""

from __future__ import annotations

from typing import NamedTuple


class Abilities(NamedTuple):
    """What a model can express.

    Attributes:
        state: ``vector``, ``matrix``, or ``window`` for what was read at the last steps.
        by_input: whether the input decides what is kept of the state.
        sign_changing: whether a step can change the sign of what is held, or turn it: eigenvalues of the step that are
            negative or complex. Models without them cannot count modulo a number (Grazzi et al. 2024, arXiv
            2411.12537).
        recurrent_weights: whether a matrix that is not diagonal maps the state to itself, so that one unit can act on
            another from step to step.
    """

    state: str
    by_input: bool = False
    sign_changing: bool = False
    recurrent_weights: bool = False

    def in_words(self) -> str:
        """Return what a table shows: ``vector, by input, signs, recurrent``."""
        told = {"by input": self.by_input, "signs": self.sign_changing, "recurrent": self.recurrent_weights}
        return ", ".join([self.state, *(word for word, holds in told.items() if holds)])


RECURRENT = Abilities("vector", by_input=True, sign_changing=True, recurrent_weights=True)
TURNING = Abilities("vector", sign_changing=True)
