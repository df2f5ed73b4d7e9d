"""Updates that would do harm are not made: a loss or gradient that is not finite leaves the parameters as they were."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from memsuite.errors import Stopped


class UpdateGuard:
    """Steps a fused optimiser unless the loss or the gradient is not finite, and counts what was skipped.

    The decision stays on the device: a fused optimiser reads it from ``found_inf`` and then leaves parameters, moments
    and step counts alone, so the host never waits for a minibatch.

    Args:
        most: skipped updates in a row that end the run.

    Attributes:
        total: updates skipped so far.
        in_a_row: updates skipped since the last that was made.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.total, self.in_a_row = 0, 0

    def step(self, optimizer: Any, loss: Tensor, norm: Tensor) -> Tensor:
        """Step, or skip the step; return 1 where it is skipped and 0 where not, on the device.

        Args:
            optimizer: a Lightning optimiser around a fused one.
            loss: the loss, a scalar.
            norm: the gradient's norm, a scalar.
        """
        either = loss + norm
        bad = (either - either).ne_(0).float()  # a finite number less itself is 0, any other is not a number
        optimizer.optimizer.found_inf = bad
        optimizer.step()
        return bad

    def count(self, skipped: list[float]) -> None:
        """Take one iteration's answers of :meth:`step`, now on the host.

        Raises:
            Stopped: too many in a row.
        """
        longest = 0
        for bad in skipped:
            self.in_a_row = self.in_a_row + 1 if bad else 0
            longest = max(longest, self.in_a_row)
        self.total += int(sum(skipped))
        if longest >= self.most:
            raise Stopped(
                f"the loss or its gradient was not finite at {self.most} updates in a row (ppo.max_skipped_updates); "
                "a smaller learning rate or reward scale may help",
                together=True,
            )

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the counts."""
        self.total, self.in_a_row = state["total"], state["in_a_row"]
