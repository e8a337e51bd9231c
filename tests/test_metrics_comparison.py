"""Population summaries and paired comparisons."""

import numpy as np
import pytest
import torch
from scipy import stats

from strflab import metrics


def test_summary_leaves_nan_out_and_counts_it():
    scores = np.array([0.1, np.nan, 0.5, 0.9, np.nan])
    found = metrics.summarize(scores)
    assert (found.n, found.n_missing) == (3, 2)
    assert found.mean == pytest.approx(0.5)
    assert found.median == 0.5
    assert found == metrics.summarize(torch.tensor(scores))
    assert "n = 3" in str(found)


def test_interval_of_the_mean_is_near_the_normal_one():
    scores = np.random.default_rng(0).normal(0.6, 0.2, 200)
    found = metrics.summarize(scores)
    reach = 1.96 * scores.std() / np.sqrt(200)
    np.testing.assert_allclose(found.mean_interval, [scores.mean() - reach, scores.mean() + reach], atol=0.003)
    assert found.median_interval[0] < found.median < found.median_interval[1]
    narrow = metrics.summarize(scores, confidence=0.5).mean_interval
    assert found.mean_interval[0] < narrow[0] < narrow[1] < found.mean_interval[1]


def test_interval_covers_the_population_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for k in range(300):
        low, high = metrics.summarize(rng.normal(0.6, 0.2, 60), n_boot=500, seed=k).mean_interval
        inside += low < 0.6 < high
    assert 0.90 < inside / 300 < 0.98


def test_the_seed_decides():
    scores = np.random.default_rng(0).random(30)
    assert metrics.summarize(scores, seed=1) == metrics.summarize(scores, seed=1)
    assert metrics.summarize(scores, seed=1) != metrics.summarize(scores, seed=2)


def test_comparison_is_paired():
    rng = np.random.default_rng(0)
    b = rng.random(60)
    a = b + 0.02 + 0.02 * rng.standard_normal(60)  # a small gain under a large spread over neurons
    found = metrics.compare(a, b)
    assert found.p_value == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert found.p_value < 1e-6 < 0.1 < stats.mannwhitneyu(a, b).pvalue
    assert 0 < found.interval[0] < found.mean_difference < found.interval[1]
    assert found.mean_difference == pytest.approx((a - b).mean())
    assert found.median_difference == pytest.approx(np.median(a - b))
    assert found.n_higher == (a > b).sum()
    reverse = metrics.compare(b, a)
    assert reverse.mean_difference == -found.mean_difference
    assert reverse.p_value == found.p_value


def test_comparison_uses_the_neurons_that_both_score():
    a, b = np.array([0.5, np.nan, 0.7, 0.9]), np.array([0.4, 0.2, np.nan, 0.5])
    found = metrics.compare(a, b)
    assert (found.n, found.n_missing) == (2, 2)
    assert found.mean_difference == pytest.approx(0.25)


@pytest.mark.filterwarnings("error")
def test_nothing_to_compare():
    same = metrics.compare(np.full(5, 0.3), np.full(5, 0.3))
    assert (same.p_value, same.mean_difference, same.n_higher) == (1.0, 0.0, 0)
    none = metrics.compare(np.full(5, np.nan), np.ones(5))
    assert none.n == 0
    assert np.isnan([none.p_value, none.mean_difference, *none.interval]).all()
    empty = metrics.summarize(np.zeros(0))
    assert empty.n == 0
    assert np.isnan([empty.mean, empty.median, *empty.mean_interval]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.summarize(np.zeros((2, 3))), "scores must be"),
        (lambda: metrics.summarize(np.zeros(3), confidence=95), "confidence=95"),
        (lambda: metrics.summarize(np.zeros(3), n_boot=0), "n_boot=0"),
        (lambda: metrics.compare(np.zeros(3), np.zeros(4)), "a holds 3 neurons and b 4"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
