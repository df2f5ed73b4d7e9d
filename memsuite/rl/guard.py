"""Updates that would do harm are not made: a loss or gradient that is not finite leaves the parameters as they were."""

from __future__ import annotations

from typing import Any

import torch
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
        self._now = self._longest = self._skipped = torch.zeros(())

    def begin(self, device: torch.device) -> None:
        """Start the counts of one iteration."""
        self._now = torch.full((), float(self.in_a_row), device=device)
        self._longest, self._skipped = self._now, torch.zeros((), device=device)

    def step(self, optimizer: Any, loss: Tensor, norm: Tensor) -> None:
        """Step, or skip the step.

        Args:
            optimizer: a Lightning optimiser around a fused one.
            loss: the loss, a scalar.
            norm: the gradient's norm, a scalar.
        """
        bad = (~torch.isfinite(loss + norm)).to(torch.float32)  # of a sum: one question in place of two
        optimizer.optimizer.found_inf = bad
        optimizer.step()
        self._now = (self._now + bad) * bad
        self._longest, self._skipped = torch.maximum(self._longest, self._now), self._skipped + bad

    def counts(self) -> Tensor:
        """Return this iteration's ``[skipped, in a row at its end, most in a row]``, on the device."""
        return torch.stack([self._skipped, self._now, self._longest])

    def take(self, skipped: float, in_a_row: float, longest: float) -> None:
        """Take over :meth:`counts`, now on the host.

        Raises:
            Stopped: too many in a row.
        """
        self.total += int(skipped)
        self.in_a_row = int(in_a_row)
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
