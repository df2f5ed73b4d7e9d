"""Skips updates that would do harm: with a loss or gradient that is not finite, the parameters stay unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memsuite.errors import Stopped


class UpdateGuard:
    """Steps a fused optimiser unless the loss or the gradient is not finite, and counts the skipped updates.

    The decision stays on the device: a fused optimiser reads it from ``found_inf`` and then leaves parameters, moments
    and step counts unchanged, so the host never waits for a minibatch.

    Args:
        most: number of skipped updates in a row that ends the run.

    Attributes:
        total: number of skipped updates so far.
        in_a_row: number of skipped updates since the last update that was made.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.total, self.in_a_row = 0, 0

    def step(self, optimizer: Any, loss: Tensor, norm: Tensor, idle: Tensor | None = None) -> Tensor:
        """Step, or skip the step; return 1 on the device if it is skipped as not finite, otherwise 0.

        Args:
            optimizer: a Lightning optimiser around a fused one.
            loss: the loss, a scalar.
            norm: the gradient's norm, a scalar.
            idle: bool, a scalar: there was nothing to learn from. The step is then left out and not counted, because
                momentum alone would move the parameters, those under Muon as far as any gradient does.
        """
        either = loss + norm
        bad = (either - either).ne_(0).float()  # x - x is 0 for a finite x and NaN for any other
        optimizer.optimizer.found_inf = bad if idle is None else torch.maximum(bad, idle.float())
        optimizer.step()
        return bad

    def count(self, skipped: list[float]) -> None:
        """Count the results of :meth:`step` over one iteration, now on the host.

        Raises:
            Stopped: too many updates in a row were skipped.
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
