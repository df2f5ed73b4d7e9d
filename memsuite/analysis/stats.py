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
    """Return the sampling variance of each run's success or mean return over its episodes, from its 95% interval."""
    return np.asarray(((np.asarray(high, float) - np.asarray(low, float)) / (2 * Z95)) ** 2)


def _spread(values: Numbers, sampling: Numbers) -> float:
    """Return the variance of a run of a cell: the variance between seeds, but at least the sampling variance.

    The lower bound is needed because seeds that all end at 1.000 do not show that the next one must. Of runs of one
    episode it is not known; the variance of a single such run is NaN.
    """
    least = float(np.mean(sampling))
    if len(values) == 1:
        return least
    between = float(np.var(values, ddof=1))
    return between if math.isnan(least) else max(between, least)


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
    error = math.sqrt(_spread(gaps, both) / len(gaps))
    return Difference(*_student(float(gaps.mean()), error, len(gaps) - 1, confidence), "paired t")


def _student(gap: float, error: float, freedom: float, confidence: float) -> tuple[Interval, float]:
    """Return the interval of a difference and the p value of its t test, from its standard error."""
    from scipy import stats

    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(gap) / error, freedom)) if error else float(gap == 0)
    return Interval(gap, gap - reach, gap + reach), p


def difference(
    new: Sequence[float], new_sampling: Any, old: Sequence[float], old_sampling: Any, confidence: float = 0.95
) -> Interval:
    """Return ``mean(new) - mean(old)`` with the interval of Welch (1947), as :func:`welch` does."""
    return welch(new, new_sampling, old, old_sampling, confidence)[0]


def welch(
    new: Sequence[float], new_sampling: Any, old: Sequence[float], old_sampling: Any, confidence: float = 0.95
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


def probability_of_improvement(
    pairs: Sequence[tuple[Numbers, Numbers]], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the probability that a run of one model is better than one of another on the same task, on average.

    In each task it is the share of pairs of runs that the first model wins, a tie being half a win (the statistic of
    Mann and Whitney), and the tasks count alike (Agarwal et al. 2021). The percentile interval resamples the runs of
    each model within each task.

    Args:
        pairs: for each task, the results of both models' runs.
        confidence: coverage of the interval.
        resamples: number of resamples.
        seed: seed of the resampling.
    """
    generator = np.random.default_rng(seed)
    means, drawn = [], np.zeros(resamples)
    for x, y in pairs:
        gaps = np.asarray(x, float)[:, None] - np.asarray(y, float)[None, :]
        wins = (np.sign(gaps) + 1) / 2
        rows, columns = (generator.integers(size, size=(resamples, size)) for size in wins.shape)
        drawn += wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)) / len(pairs)
        means.append(float(wins.mean()))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.mean(means)), float(low), float(high))


def iqm(values: Numbers) -> float:
    """Return the interquartile mean: the mean of the middle half, with a quarter trimmed from each end."""
    from scipy import stats

    return float(stats.trim_mean(np.asarray(values, float).ravel(), 0.25))


def _iqm_of_rows(values: Numbers) -> Numbers:
    from scipy import stats

    return np.asarray(stats.trim_mean(values, 0.25, axis=1))


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
    found = _iqm_of_rows(drawn) if statistic is iqm else [statistic(sample) for sample in drawn]
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
