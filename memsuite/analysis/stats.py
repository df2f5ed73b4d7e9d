"""Intervals and aggregates over few seeds (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsuite.metrics import Z95

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; NaN where it is unknown."""

    mean: float
    low: float
    high: float


def sampling_variance(low: Any, high: Any) -> Numbers:
    """Return the sampling variance of each run's success or mean return over its episodes, from its 95% interval."""
    return np.asarray(((np.asarray(high, float) - np.asarray(low, float)) / (2 * Z95)) ** 2)


def spread(values: Numbers, sampling: Numbers) -> float:
    """Return the variance of a run of a cell: the variance between seeds, but at least the sampling variance.

    The lower bound is needed because seeds that all end at 1.000 do not show that the next one must. Of runs of one
    episode it is not known; the variance of a single such run is NaN.
    """
    least = float(np.mean(sampling))
    if len(values) == 1:
        return least
    between = float(np.var(values, ddof=1))
    return between if math.isnan(least) else max(between, least)


def mean_interval(values: Sequence[float] | Numbers, sampling: Any, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's interval; for a single seed, the interval over its episodes.

    Args:
        values: one number per seed.
        sampling: the sampling variance of each seed's evaluation (:func:`sampling_variance`).
        confidence: coverage of the interval.
    """
    from scipy import stats

    x, noise = np.asarray(values, float), np.asarray(sampling, float)
    error = math.sqrt(spread(x, noise) / len(x))
    quantile = stats.t.ppf((1 + confidence) / 2, len(x) - 1) if len(x) > 1 else stats.norm.ppf((1 + confidence) / 2)
    mean, reach = float(x.mean()), float(quantile) * error
    return Interval(mean, mean - reach, mean + reach)


def probability_of_improvement(
    pairs: Sequence[tuple[Numbers, Numbers]], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the probability that a run of one model is better than one of another on the same task, on average.

    In each task it is the share of pairs of runs that the first model wins, a tie being half a win (the statistic of
    Mann and Whitney), and the tasks count alike (Agarwal et al. 2021). The percentile interval resamples the runs of
    each model within each task; it is unknown, NaN, if a model has a single run of a task.

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
    low, high = _ends(drawn, confidence, [one for pair in pairs for one in pair])
    return Interval(float(np.mean(means)), float(low), float(high))


def improvement_p(pairs: Sequence[tuple[Numbers, Numbers]], *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the p value (two-sided) of a probability of improvement: how often chance alone is as far from one half.

    The runs of every task are dealt to the two models at random. Many tasks of few runs can tell two models apart where
    no single task can.

    Args:
        pairs: for each task, the results of both models' runs.
        resamples: number of times that the runs are dealt.
        seed: seed of the dealing.
    """
    generator, dealt, seen = np.random.default_rng(seed), np.zeros(resamples), 0.0
    for x, y in pairs:
        together = np.concatenate([x, y]).astype(float)
        wins = (np.sign(together[:, None] - together[None, :]) + 1) / 2
        seen += float(wins[: len(x), len(x) :].mean())
        order = generator.random((resamples, len(together))).argsort(axis=1)
        dealt += wins[order[:, : len(x), None], order[:, None, len(x) :]].mean(axis=(1, 2))
    middle = len(pairs) / 2
    extreme = np.abs(dealt - middle) >= abs(seen - middle) - 1e-9
    return float((1 + extreme.sum()) / (1 + resamples))


def iqm(values: Numbers, weights: Numbers | None = None) -> Any:
    """Return the interquartile mean: the mean of the middle half, with a quarter trimmed from each end.

    Args:
        values: numbers ``[.., N]``.
        weights: what each of them counts, ``[N]``; all alike if None. Of alike ones whole numbers are trimmed, rounded
            down, as rliable does.
    """
    values = np.asarray(values, float)
    count = values.shape[-1]
    weights = np.full(count, 1 / count) if weights is None else np.asarray(weights, float) / np.sum(weights)
    cut = 0.25 if np.ptp(weights) > 1e-12 else (count // 4) / count
    order = np.argsort(values, axis=-1)
    own = weights[order]
    end = np.cumsum(own, axis=-1)
    kept = np.clip(np.minimum(end, 1 - cut) - np.maximum(end - own, cut), 0, None)
    return (kept * np.take_along_axis(values, order, -1)).sum(-1) / kept.sum(-1)


def stratified_iqm(
    strata: Sequence[Numbers], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the interquartile mean of all runs with its percentile interval; strata count alike.

    Runs are resampled within every stratum. Of a stratum with one run the spread is unknown, and so is the interval.

    Args:
        strata: the runs' scores, one row for each task and tier; rows may differ in length.
        confidence: coverage of the interval.
        resamples: number of resamples.
        seed: seed of the resampling.
    """
    everything, weights = _together(strata)
    found = iqm(_resampled(strata, resamples, seed), weights)
    low, high = _ends(found, confidence, strata)
    return Interval(float(iqm(everything, weights)), float(low), float(high))


def performance_profile(
    strata: Sequence[Numbers], thresholds: Numbers, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the share of runs whose score is above each threshold, with pointwise percentile intervals.

    Strata count alike, and are resampled as in :func:`stratified_iqm`.
    """
    everything, weights = _together(strata)
    drawn = _resampled(strata, resamples, seed)
    shares = np.stack([(drawn > threshold) @ weights for threshold in thresholds], axis=1)
    low, high = _ends(shares, confidence, strata)
    return np.array([(everything > threshold) @ weights for threshold in thresholds]), low, high


def _together(strata: Sequence[Numbers]) -> tuple[Numbers, Numbers]:
    """Return the runs of all strata in one row, and their weights: those of every stratum have the same sum."""
    weights = [np.full(len(row), 1 / (len(row) * len(strata))) for row in strata]
    return np.concatenate([np.asarray(row, float) for row in strata]), np.concatenate(weights)


def _resampled(strata: Sequence[Numbers], resamples: int, seed: int) -> Numbers:
    """Draw the runs of every stratum again, with replacement: ``[resamples, runs]``."""
    generator = np.random.default_rng(seed)
    rows = [np.asarray(row, float) for row in strata]
    return np.concatenate([row[generator.integers(len(row), size=(resamples, len(row)))] for row in rows], axis=1)


def _ends(found: Numbers, confidence: float, samples: Sequence[Numbers]) -> Numbers:
    """Return the percentile interval of resampled values; NaN where a sample is one run, whose spread is unknown."""
    ends: Numbers = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return ends if all(len(one) > 1 for one in samples) else np.full_like(ends, math.nan)
