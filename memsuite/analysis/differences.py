"""Differences of two models in one cell: t tests, a permutation test, and what is said of the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memsuite.analysis.stats import Interval, Numbers, spread


@dataclass(frozen=True)
class Difference:
    """The difference of two means, with the test that was made of it.

    Attributes:
        interval: the difference with its interval.
        p: two-sided probability of a difference at least as large between equal models; NaN if it is unknown.
        test: ``paired t``, ``Welch t``, or empty if there are too few seeds for either.
    """

    interval: Interval
    p: float
    test: str


def t_test(
    new: dict[int, float],
    new_sampling: dict[int, float],
    old: dict[int, float],
    old_sampling: dict[int, float],
    confidence: float = 0.95,
) -> Difference:
    """Return ``mean(new) - mean(old)`` of runs that are known by their seeds, with Student's t test.

    The test is paired by seed if both sides have the same seeds, two or more of them; else it is Welch's, of all seeds.
    In both, a variance is never taken smaller than the sampling variance of the evaluation episodes.

    Args:
        new: result of each seed.
        new_sampling: the sampling variance of each seed's evaluation.
        old: likewise of the other side.
        old_sampling: likewise.
        confidence: coverage of the interval.
    """
    if len(new) < 2 or new.keys() != old.keys():
        values, noise = list(new.values()), list(new_sampling.values())
        interval, p = welch(values, noise, list(old.values()), list(old_sampling.values()), confidence)
        return Difference(interval, p, "" if math.isnan(p) else "Welch t")
    gaps = np.array([new[seed] - old[seed] for seed in new])
    both = np.array([new_sampling[seed] + old_sampling[seed] for seed in new])
    error = math.sqrt(spread(gaps, both) / len(gaps))
    return Difference(*_student(float(gaps.mean()), error, len(gaps) - 1, confidence), "paired t")


def _student(gap: float, error: float, freedom: float, confidence: float) -> tuple[Interval, float]:
    """Return the interval of a difference and the p value of its t test, from its standard error."""
    from scipy import stats

    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(gap) / error, freedom)) if error else float(gap == 0)
    return Interval(gap, gap - reach, gap + reach), p


def difference(
    new: Sequence[float] | Numbers,
    new_sampling: Any,
    old: Sequence[float] | Numbers,
    old_sampling: Any,
    confidence: float = 0.95,
) -> Interval:
    """Return ``mean(new) - mean(old)`` with the interval of Welch (1947), as :func:`welch` does."""
    return welch(new, new_sampling, old, old_sampling, confidence)[0]


def welch(
    new: Sequence[float] | Numbers,
    new_sampling: Any,
    old: Sequence[float] | Numbers,
    old_sampling: Any,
    confidence: float = 0.95,
) -> tuple[Interval, float]:
    """Return ``mean(new) - mean(old)`` with the interval of Welch (1947), and the p value of his test.

    A side with a single seed takes the spread of the other side. Between two single seeds the spread is unknown, and
    the interval and the p value are NaN.
    """
    sides = [
        (np.asarray(x, float), np.asarray(noise, float)) for x, noise in ((new, new_sampling), (old, old_sampling))
    ]
    gap = float(sides[0][0].mean() - sides[1][0].mean())
    counts = [len(x) for x, _ in sides]
    if max(counts) == 1:
        return Interval(gap, math.nan, math.nan), math.nan
    spreads = [spread(x, noise) for x, noise in sides]
    if min(counts) == 1:
        alone, other = (0, 1) if counts[0] == 1 else (1, 0)
        spreads[alone] = float(np.nanmax(spreads))
        freedom = float(counts[other] - 1)
    else:
        parts = [spread / count for spread, count in zip(spreads, counts, strict=True)]
        below = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
        freedom = sum(parts) ** 2 / below if below else float(sum(counts) - 2)
    error = math.sqrt(sum(spread / count for spread, count in zip(spreads, counts, strict=True)))
    return _student(gap, error, freedom, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979); NaN stays NaN, and counts as no test.

    Rejecting what is below a level then rejects a true hypothesis anywhere with at most that probability.
    """
    p = np.asarray(p_values, float)
    order = [int(at) for at in np.argsort(p) if not math.isnan(p[at])]  # NaN is sorted last
    corrected, most = np.full(len(p), math.nan), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, float(p[at]) * (len(order) - rank)))
        corrected[at] = most
    return [float(value) for value in corrected]


def permutation_p(new: Sequence[float] | Numbers, old: Sequence[float] | Numbers) -> float:
    """Return how often runs that are dealt to two models at random have means at least as far apart (two-sided).

    It is exact up to ten runs a side, takes no distribution for granted, and is at least 2 in the number of ways to
    deal the runs (:func:`least_p`).
    """
    from scipy import stats

    def gap(x: Numbers, y: Numbers, axis: int) -> Numbers:
        return np.asarray(x.mean(axis) - y.mean(axis))

    sides, draws = (np.asarray(new, float), np.asarray(old, float)), np.random.default_rng(0)
    found = stats.permutation_test(sides, gap, vectorized=True, n_resamples=200_000, random_state=draws)
    return float(found.pvalue)


def least_p(new: int, old: int) -> float:
    """Return the least p value that numbers of runs can have in :func:`permutation_p`: 0.1 for three beside three."""
    return 2 / math.comb(new + old, new)


def enough(confidence: float) -> str:
    """Say how many runs a verdict needs, if both sides have as many: ``4 beside 4`` at 95%."""
    runs = next(number for number in range(1, 100) if least_p(number, number) <= 1 - confidence)
    return f"{runs} beside {runs}"


def verdict(
    gap: float, found: bool, new: Sequence[float] | Numbers, old: Sequence[float] | Numbers, confidence: float
) -> str:
    """Return ``better`` or ``worse`` if a t test has found a difference and a permutation test finds it too.

    The t test takes the runs of a model for normal, and few runs that are solved or stuck are not: of three models
    that solve every second time, all runs of one and none of another are nothing rare. So the permutation test must
    agree at its own level; where there are too few runs for it to say anything, the verdict is ``unknown``.
    """
    if math.isnan(gap) or least_p(len(new), len(old)) > 1 - confidence:
        return "unknown"
    if not found or permutation_p(new, old) > 1 - confidence:
        return "similar"
    return "better" if gap > 0 else "worse"
