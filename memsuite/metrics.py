"""Success and return of a policy, each with an interval, as torchmetrics that accumulate over batches and processes."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

Z95 = NormalDist().inv_cdf(0.975)


class Success(Metric):
    """The fraction of an episode's scored decisions that are right, as the mean over episodes, with a 95% interval.

    The interval is Wilson's, for an effective number of independent decisions. Decisions within an episode depend on
    the same memory, so their number is divided by the design effect, which is estimated from the spread between
    episodes (Kish 1965), and made smaller by what that estimate may be wrong (Korn and Graubard 1998). With one scored
    decision per episode it is exactly Wilson's interval.
    """

    full_state_update = False
    episodes: Tensor
    decisions: Tensor
    sum_of_fractions: Tensor
    sum_of_squares: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("episodes", "decisions", "sum_of_fractions", "sum_of_squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, correct: Tensor, scored: Tensor) -> None:
        """Add a batch of whole episodes, one per column.

        Args:
            correct: bool ``[T, B]``, the decision was scored and right.
            scored: bool ``[T, B]``; columns without a scored decision are ignored.
        """
        asked = scored.sum(0).double()
        fraction = (correct.sum(0).double() / asked)[asked > 0]
        self.episodes += fraction.numel()
        self.decisions += asked.sum()
        self.sum_of_fractions += fraction.sum()
        self.sum_of_squares += fraction.square().sum()

    def compute(self) -> dict[str, float]:
        """Return ``success``, ``success_low``, ``success_high`` and ``episodes``; NaN without any episode."""
        episodes, decisions, total, squares = (
            float(x) for x in (self.episodes, self.decisions, self.sum_of_fractions, self.sum_of_squares)
        )
        if not episodes:
            return {"success": float("nan"), "success_low": float("nan"), "success_high": float("nan"), "episodes": 0}
        success = total / episodes
        between = squares / episodes - success**2
        effective = episodes
        if between > 1e-12:
            effective = min(decisions, max(1.0, episodes * success * (1 - success) / between))
        if decisions > episodes > 1:
            effective = max(1.0, effective * (Z95 / student_95(episodes - 1)) ** 2)
        low, high = wilson_interval(success, effective)
        return {"success": success, "success_low": low, "success_high": high, "episodes": int(episodes)}


class EpisodeReturn(Metric):
    """The mean return of whole episodes, with Student's 95% interval; of one episode alone the interval is NaN.

    Squares are summed around the mean of their batch (Chan et al. 1983): around 0 the spread of returns near 1e8 would
    be lost in their size.
    """

    full_state_update = False
    episodes: Tensor
    total: Tensor
    batches: list[Tensor] | Tensor  # of each its number, its mean and the sum of squares around it

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("episodes", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("batches", [], dist_reduce_fx="cat")

    def update(self, returns: Tensor) -> None:
        """Add the returns of some episodes, ``[N]``."""
        returns = returns.double()
        self.episodes += returns.numel()
        self.total += returns.sum()
        mean = returns.mean()
        batch = torch.stack([mean.new_tensor(returns.numel()), mean, (returns - mean).square().sum()])
        cast(list[Tensor], self.batches).append(batch.unsqueeze(0))

    def compute(self) -> dict[str, float]:
        """Return ``return_mean``, ``return_low``, ``return_high`` and ``episodes``."""
        episodes, mean = float(self.episodes), float(self.total / self.episodes)
        batches = self.batches if isinstance(self.batches, Tensor) else torch.cat(self.batches)
        number, means, around = batches.unbind(1)
        spread = float((around + number * (means - mean).square()).sum()) / (episodes - 1) if episodes > 1 else math.nan
        half = student_95(episodes - 1) * math.sqrt(spread / episodes) if episodes > 1 else math.nan
        return {"return_mean": mean, "return_low": mean - half, "return_high": mean + half, "episodes": int(episodes)}


def student_95(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t: exact for one and two degrees of freedom, else to 0.2%.

    For three and more it is the expansion of Abramowitz and Stegun (1964, 26.7.5): SciPy comes with reports alone.
    """
    if freedom <= 1:
        return math.tan(0.475 * math.pi)
    if freedom <= 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = Z95, 4 * freedom
    first, second = (z**3 + z) / n, (5 * z**5 + 16 * z**3 + 3 * z) / (6 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (6 * n**3)
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (360 * n**4)
    return z + first + second + third + fourth


def wilson_interval(fraction: float, number: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a fraction seen in ``number`` independent trials."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (fraction + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * (fraction * (1 - fraction) / number + z * z / (4 * number * number)) ** 0.5
    # Rounding must not exclude a certain outcome (fraction 0 or 1) from its own interval.
    return min(fraction, max(0.0, centre - half)), max(fraction, min(1.0, centre + half))


def decimals(value: float | None, low: float | None = None, high: float | None = None) -> int:
    """Return how many decimals tell a return from others: two digits of its interval, or three of itself."""
    width, digits = 0.0, 2
    if low is not None and high is not None and math.isfinite(high - low):
        width = high - low
    if not width > 0:
        width, digits = abs(value or 0.0), 3
    return max(0, digits - 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 1
