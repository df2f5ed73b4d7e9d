"""Intervals and aggregates over few seeds (Agarwal et al. 2021, arXiv 2108.13264), and intervals of differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; NaN where it is unknown."""

    mean: float
    low: float
    high: float


def sampling_variance(low: Any, high: Any) -> Numbers:
    """Return the sampling variance of each run's success over its evaluation episodes, from its 95% interval."""
    return np.asarray(((np.asarray(high, float) - np.asarray(low, float)) / (2 * Z95)) ** 2)


def _spread(values: Numbers, sampling: Numbers) -> float:
    """Return the variance of a run of a cell: the variance between seeds, but at least the sampling variance.

    The lower bound is needed because seeds that all end at 1.000 do not show that the next one must.
    """
    between = float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
    return max(between, float(np.mean(sampling)))


def mean_interval(values: Sequence[float], sampling: Any, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's interval; for a single seed, the interval over its episodes.

    Args:
        values: one number per seed.
        sampling: the sampling variance of each seed's evaluation (:func:`sampling_variance`).
        confidence: coverage of the interval.
    """
    from scipy import stats

    x, noise = np.asarray(values, float), np.asarray(sampling, float)
    error = math.sqrt(_spread(x, noise) / len(x))
    quantile = stats.t.ppf((1 + confidence) / 2, len(x) - 1) if len(x) > 1 else stats.norm.ppf((1 + confidence) / 2)
    mean, reach = float(x.mean()), float(quantile) * error
    return Interval(mean, mean - reach, mean + reach)


def difference(
    new: Sequence[float], new_sampling: Any, old: Sequence[float], old_sampling: Any, confidence: float = 0.95
) -> Interval:
    """Return ``mean(new) - mean(old)`` with the interval of Welch (1947).

    A side with a single seed takes the spread of the other side. Between two single seeds the spread is unknown, and
    the interval is NaN.
    """
    from scipy import stats

    sides = [
        (np.asarray(x, float), np.asarray(noise, float)) for x, noise in ((new, new_sampling), (old, old_sampling))
    ]
    gap = float(sides[0][0].mean() - sides[1][0].mean())
    counts = [len(x) for x, _ in sides]
    if max(counts) == 1:
        return Interval(gap, math.nan, math.nan)
    spreads = [_spread(x, noise) for x, noise in sides]
    if min(counts) == 1:
        alone, other = (0, 1) if counts[0] == 1 else (1, 0)
        spreads[alone] = max(spreads)
        freedom = float(counts[other] - 1)
    else:
        parts = [spread / count for spread, count in zip(spreads, counts, strict=True)]
        below = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
        freedom = sum(parts) ** 2 / below if below else float(sum(counts) - 2)
    error = math.sqrt(sum(spread / count for spread, count in zip(spreads, counts, strict=True)))
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Interval(gap, gap - reach, gap + reach)


def iqm(values: Numbers) -> float:
    """Return the interquartile mean: the mean of the middle half, with a quarter trimmed from each end."""
    from scipy import stats

    return float(stats.trim_mean(np.asarray(values, float).ravel(), 0.25))


def stratified_bootstrap(
    strata: Sequence[Numbers],
    statistic: Callable[[Numbers], float] = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of all runs with its percentile interval; runs are resampled within every stratum.

    Args:
        strata: the runs' scores, one row per task and tier; rows may differ in length.
        statistic: function of all scores in one vector.
        confidence: coverage of the interval.
        resamples: number of resamples.
        seed: seed of the resampling.
    """
    rows = [np.asarray(row, float) for row in strata]
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([row[generator.integers(len(row), size=(resamples, len(row)))] for row in rows], axis=1)
    found = [statistic(sample) for sample in drawn]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(np.concatenate(rows)), float(low), float(high))


def performance_profile(
    strata: Sequence[Numbers], thresholds: Numbers, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the share of runs whose score is above each threshold, with pointwise percentile intervals."""
    rows = [np.asarray(row, float) for row in strata]
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([row[generator.integers(len(row), size=(resamples, len(row)))] for row in rows], axis=1)
    shares = np.stack([(drawn > threshold).mean(1) for threshold in thresholds], axis=1)
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    everything = np.concatenate(rows)
    return np.array([(everything > threshold).mean() for threshold in thresholds]), low, high
