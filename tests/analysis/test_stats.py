"""Intervals are tested against SciPy and by their coverage, aggregates against rliable."""

import math

import numpy as np
import pytest
from scipy import stats

from memsuite.analysis.differences import difference, enough, holm, least_p, permutation_p, t_test, verdict, welch
from memsuite.analysis.stats import (
    improvement_p,
    iqm,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    sampling_variance,
    stratified_iqm,
)
from memsuite.metrics import wilson_interval

SCORES = [np.array(row) for row in ([0.1, 0.9, 0.5, 0.7, 0.3], [0.2, 0.2, 0.4, 1.0, 0.8], [1.0, 1.0, 0.9, 1.0, 0.95])]


def test_a_mean_has_students_interval():
    x = [0.4, 0.7, 0.5, 0.9]
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    found = mean_interval(x, [0.0] * 4)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_seeds_that_agree_are_no_surer_than_their_episodes():
    found = mean_interval([1.0] * 5, [1e-4] * 5)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 4) * (1e-4 / 5) ** 0.5)


def test_a_difference_has_welchs_interval():
    x, y = [0.4, 0.7, 0.5, 0.9], [0.1, 0.2, 0.3]
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.9)
    found = difference(x, [0.0] * 4, y, [0.0] * 3, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_single_seeds():
    assert np.isnan(difference([0.2], [1e-4], [0.9], [1e-4]).low)
    one, five = [0.2], [0.9, 0.8, 0.85, 0.95, 0.9]
    found = difference(one, [1e-4], five, [1e-4] * 5)
    assert found.high < 0
    turned = difference(five, [1e-4] * 5, one, [1e-4])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_one_run_of_one_episode_against_several_is_judged_alike_from_both_sides():
    (found, p), (turned, same) = (
        welch([0.5], [math.nan], [0.9, 0.8, 0.85], [0.001] * 3),
        welch([0.9, 0.8, 0.85], [0.001] * 3, [0.5], [math.nan]),
    )
    assert p == same < 0.05
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_a_permutation_test_deals_the_runs_in_every_way():
    assert permutation_p([1.0] * 4, [0.1] * 4) == pytest.approx(least_p(4, 4)) == pytest.approx(2 / 70)
    assert permutation_p([1, 1, 1, 1, 1], [1, 0, 0, 0, 0]) == pytest.approx(12 / 252)
    assert permutation_p([0.3, 0.4], [0.3, 0.4]) == 1
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    assert permutation_p(x, y) == pytest.approx(stats.ttest_ind(x, y).pvalue, abs=0.02)


@pytest.mark.parametrize(("new", "old", "said"), [(1, 5, "unknown"), (3, 3, "unknown"), (3, 5, "better")])
def test_too_few_seeds_give_no_verdict(new, old, said):
    assert verdict(0.9, True, [1.0] * new, [0.1] * old, 0.95) == said
    assert verdict(-0.9, True, [0.1] * new, [1.0] * old, 0.95) == said.replace("better", "worse")
    assert verdict(0.9, False, [1.0] * new, [0.1] * old, 0.95) == said.replace("better", "similar")


def test_what_is_enough_is_said_for_every_confidence():
    assert [enough(level) for level in (0.8, 0.9, 0.95, 0.99)] == [
        "3 beside 3",
        "4 beside 4",
        "4 beside 4",
        "5 beside 5",
    ]


def solved_or_stuck(source, seeds):
    """Draw runs of a model that solves a task every second time, as they are measured in 1,024 episodes."""
    measured = source.binomial(1024, np.where(source.random(seeds) < 0.5, 1.0, 0.125)) / 1024
    noise = sampling_variance(*zip(*[wilson_interval(x, 1024) for x in measured], strict=True))
    return dict(enumerate(measured)), dict(enumerate(noise))


@pytest.mark.parametrize(("new", "old", "cells", "most"), [(3, 3, 3, 0), (4, 4, 3, 8), (3, 5, 1, 8), (5, 5, 12, 7)])
def test_models_that_solve_every_second_time_are_called_different_as_rarely_as_is_said(new, old, cells, most):
    """Of 100 families; before, 9% at three seeds in three cells, and 28% in twelve (docs/results.md has the rates)."""
    source = np.random.default_rng(0)
    wrong = {"Welch": 0, "paired": 0}
    for _ in range(100):
        pairs = [(solved_or_stuck(source, new), solved_or_stuck(source, old)) for _ in range(cells)]
        values = [(list(ours[0].values()), list(theirs[0].values())) for ours, theirs in pairs]
        tests = [t_test(*ours, *theirs) for ours, theirs in pairs]
        corrected = holm([one.p for one in tests])
        each = 1 - 0.05 / cells
        apart = [difference(*map(list, map(dict.values, (*a, *b))), confidence=each) for a, b in pairs]
        for name, rows in (
            ("paired", [(one.interval.mean, p < 0.05) for one, p in zip(tests, corrected, strict=True)]),
            ("Welch", [(one.mean, one.low > 0 or one.high < 0) for one in apart]),
        ):
            said = [verdict(*row, *both, 0.95) for row, both in zip(rows, values, strict=True)]
            wrong[name] += bool({"better", "worse"} & set(said))
    assert max(wrong.values()) <= most  # what fewer than 1 of 100 such counts exceed at the rates of the docs


def test_many_tasks_of_few_runs_tell_two_models_apart():
    """The p value of an improvement is right: small where every cell says the same, and rarely small by chance."""
    clear = [(np.array([0.9, 0.8]), np.array([0.3, 0.2]))] * 6
    assert improvement_p(clear) == pytest.approx(2 / 6**6, abs=5e-4)
    assert improvement_p(clear[:1]) == pytest.approx(1 / 3, abs=0.03)
    assert improvement_p([(y, x) for x, y in clear]) == improvement_p(clear)
    assert improvement_p([(np.ones(3), np.ones(3))]) == 1
    source = np.random.default_rng(0)
    found = [improvement_p([tuple(source.random((2, 2)) < 0.5) for _ in range(8)], resamples=300) for _ in range(200)]
    assert np.mean(np.array(found) < 0.05) <= 0.09  # 10 expected, at most


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm(np.arange(8.0)) == 3.5
    assert iqm(np.concatenate(SCORES)) == pytest.approx(stats.trim_mean(np.concatenate(SCORES), 0.25))
    assert iqm([0.0, 1.0, 2.0, 9.0], [1, 1, 1, 3]) == pytest.approx((0.5 * 1 + 1 * 2 + 1.5 * 9) / 3)


def test_one_stratum_is_scipys_bootstrap():
    x = np.random.default_rng(1).random(40)
    found = stratified_iqm([x], resamples=4000)
    expected = stats.bootstrap((x,), iqm, method="percentile", n_resamples=4000, vectorized=False, rng=2)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.01)


def test_strata_are_resampled_apart():
    """A task that all runs solve adds no spread, whatever the other tasks contain."""
    found = stratified_iqm([np.ones(4), np.zeros(4)])
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


def test_strata_count_alike_however_many_runs_they_have():
    """Two models that are the same in both cells are the same over both, whichever cell has more seeds."""
    for strata in ([np.ones(5), np.zeros(2)], [np.ones(2), np.zeros(5)]):
        found = stratified_iqm(strata)
        assert (found.low, found.mean, found.high) == pytest.approx((0.5, 0.5, 0.5))
        assert performance_profile(strata, np.array([0.5]))[0] == pytest.approx([0.5])
    often = [SCORES[0], np.repeat(SCORES[1], 3), SCORES[2]]
    thresholds = np.linspace(0, 1, 11)
    assert performance_profile(often, thresholds)[0] == pytest.approx(performance_profile(SCORES, thresholds)[0])
    twice, thrice = (stratified_iqm([np.repeat(SCORES[0], times), *SCORES[1:]]).mean for times in (2, 3))
    assert twice == pytest.approx(thrice)


def test_a_stratum_of_one_run_leaves_the_interval_unknown():
    strata = [np.ones(5), np.array([0.5])]
    assert stratified_iqm(strata).mean == pytest.approx(0.75)
    assert np.isnan([stratified_iqm(strata).low, *performance_profile(strata, np.array([0.7]))[1]]).all()
    pairs = [(SCORES[0], SCORES[1]), (SCORES[0], np.array([0.5]))]
    assert np.isnan(probability_of_improvement(pairs).low)


def test_a_profile_falls_from_one_to_none():
    share, low, high = performance_profile(SCORES, np.array([-0.1, 0.45, 1.0]))
    assert share.tolist() == pytest.approx([1, 10 / 15, 0])
    assert (low <= share + 1e-12).all()
    assert (share <= high + 1e-12).all()


def test_equals_rliable():
    """Recorded from rliable 1.2.0 (which needs pandas 2): aggregate_iqm and its interval of 5000 resamples of SCORES.

    With five runs per task the resampled statistic has few values, so the ends of an interval differ by a step or two.
    """
    point, low, high = 0.71666667, 0.52777778, 0.87777778
    found = stratified_iqm(SCORES, resamples=5000)
    assert found.mean == pytest.approx(point)
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.02)
    assert performance_profile(SCORES, np.array([0.25, 0.75]))[0] == pytest.approx([12 / 15, 8 / 15])


def test_the_probability_of_improvement_equals_rliable():
    """Recorded from rliable 1.2.0: probability_of_improvement of SCORES over others, its interval of 5000 resamples."""
    others = [np.array(row) for row in ([0.2, 0.6, 0.5, 0.4], [0.1, 0.3, 0.4, 0.5], [1.0, 0.8, 0.7, 1.0])]
    found = probability_of_improvement(list(zip(SCORES, others, strict=True)), resamples=5000)
    assert found.mean == pytest.approx(0.61666667)
    assert [found.low, found.high] == pytest.approx([0.39979167, 0.83333333], abs=0.02)


def test_the_interval_of_one_run_of_one_episode_is_unknown():
    found = mean_interval([5.0], [math.nan])
    assert found.mean == 5.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    between = mean_interval([5.0, 7.0, 9.0], [math.nan, 0.0, 0.0])  # what seeds differ by is known all the same
    assert between == mean_interval([5.0, 7.0, 9.0], [0.0] * 3)
