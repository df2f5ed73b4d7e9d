"""Success and its interval."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from memsuite.metrics import EpisodeReturn, Success, decimals, student_95, wilson_interval


def metric_of(correct, scored):
    metric = Success()
    metric.update(correct, scored)
    return metric.compute()


def test_counts_scored_decisions_only():
    scored = torch.tensor([[True, False], [True, True], [False, False]])
    correct = torch.tensor([[True, False], [False, True], [False, False]])
    assert metric_of(correct, scored)["success"] == pytest.approx(0.75)


def test_one_decision_an_episode_is_wilsons_interval():
    scored = torch.ones(1, 200, dtype=torch.bool)
    correct = torch.arange(200).unsqueeze(0) < 150
    outcome = metric_of(correct, scored)
    assert (outcome["success_low"], outcome["success_high"]) == pytest.approx(wilson_interval(0.75, 200))
    assert wilson_interval(0.75, 200) == pytest.approx((0.6856, 0.8050), abs=2e-4)


def test_decisions_that_stand_or_fall_together_count_once():
    scored = torch.ones(10, 200, dtype=torch.bool)
    together = (torch.arange(200) < 150).expand(10, 200)
    apart = torch.rand(10, 200, generator=torch.Generator().manual_seed(0)) < 0.75
    wide, narrow = metric_of(together, scored), metric_of(apart, scored)
    independent = 200 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 199)) ** 2  # Korn and Graubard
    assert (wide["success_low"], wide["success_high"]) == pytest.approx(wilson_interval(0.75, independent))
    assert narrow["success_high"] - narrow["success_low"] < 0.5 * (wide["success_high"] - wide["success_low"])


def test_the_quantile_is_students():
    assert [student_95(n) for n in (1, 2)] == pytest.approx([stats.t.ppf(0.975, n) for n in (1, 2)])
    for freedom in (3, 4, 7, 30, 1023):
        assert student_95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_few_episodes_of_several_decisions_are_no_surer_than_their_number():
    """Eight and 32 episodes of ten decisions that go together by half: 0.87 and 0.91 without the correction."""
    source = np.random.default_rng(0)
    for episodes in (8, 32):
        covered = 0
        for _ in range(400):
            ability = source.beta(0.9, 0.1, episodes)
            correct = torch.tensor(source.random((10, episodes)) < ability)
            outcome = metric_of(correct, torch.ones_like(correct))
            covered += outcome["success_low"] <= 0.9 <= outcome["success_high"]
        assert covered / 400 > 0.87 + 0.04 * (episodes == 32)


def test_a_mean_return_has_students_interval():
    metric, returns = EpisodeReturn(), torch.tensor([3.0, 5.0, 4.0, 8.0])
    metric.update(returns)
    expected = stats.ttest_1samp(returns.numpy(), 0).confidence_interval(0.95)
    found = metric.compute()
    assert (found["return_low"], found["return_high"]) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_interval_covers_the_truth_as_often_as_it_says():
    source = torch.Generator().manual_seed(1)
    covered = 0
    for _ in range(400):
        ability = (torch.rand(60, generator=source) < 0.5) * 0.4 + 0.5  # episodes differ: 0.5 or 0.9, on average 0.7
        correct = torch.rand(5, 60, generator=source) < ability
        outcome = metric_of(correct, torch.ones(5, 60, dtype=torch.bool))
        covered += outcome["success_low"] <= 0.7 <= outcome["success_high"]
    assert 0.92 <= covered / 400 <= 0.99


def test_all_right_is_not_certain():
    outcome = metric_of(torch.ones(3, 20, dtype=torch.bool), torch.ones(3, 20, dtype=torch.bool))
    assert outcome["success"] == 1
    assert outcome["success_low"] < 0.87


def test_batches_add_up():
    scored = torch.ones(2, 40, dtype=torch.bool)
    correct = torch.rand(2, 40) < 0.5
    parts = Success()
    parts.update(correct[:, :15], scored[:, :15])
    parts.update(correct[:, 15:], scored[:, 15:])
    assert parts.compute() == metric_of(correct, scored)


def test_nothing_scored_is_not_a_number():
    assert metric_of(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool))["episodes"] == 0


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (9e-6, 8.7e-6, 9.2e-6, "0.00000900"),
        (-0.412, -0.45, -0.37, "-0.412"),
        (361.4, 330.2, 392.9, "361"),
        (0.973, 0.973, 0.973, "0.973"),
        (500.0, None, None, "500"),
        (-1.25, math.nan, math.nan, "-1.25"),
        (0.0, 0.0, 0.0, "0.0"),
        (math.nan, None, None, "nan"),
    ],
)
def test_a_return_has_the_digits_that_tell_it_from_others(value, low, high, said):
    assert f"{value:.{decimals(value, low, high)}f}" == said
