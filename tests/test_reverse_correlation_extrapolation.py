"""The extrapolation to a noiseless recording."""

from __future__ import annotations

import numpy as np
import pytest

from strflab.reverse_correlation import RidgeSTRF, extrapolate, predictive_power


def population(quadratic, n_neurons=120, repeats=12, n_clips=8, frames=150, seed=0):
    """Linear responses, plus an expected quadratic part that no linear field explains, in noise of many sizes."""
    rng = np.random.default_rng(seed)
    strf = rng.normal(size=(n_neurons, 3 * 4))
    X = [rng.normal(size=(3, frames)) for _ in range(n_clips)]
    past = [np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (3, 0))), 4, axis=1) for x in X]
    drive = [strf @ p.transpose(0, 2, 1).reshape(12, -1) / np.linalg.norm(strf, axis=1, keepdims=True) for p in past]
    rate = [d + quadratic * (d**2 - 1) / np.sqrt(2) for d in drive]
    noise = np.geomspace(0.5, 5, n_neurons)[:, None, None]
    return X, [r[:, None] + noise * rng.normal(size=(n_neurons, repeats, frames)) for r in rate]


def test_lines_are_least_squares_and_intervals_hold_them():
    rng = np.random.default_rng(0)
    noise = rng.uniform(1, 10, 50)
    train, test = 0.5 + 0.1 * noise + 0.05 * rng.normal(size=50), 0.4 - 0.02 * noise + 0.05 * rng.normal(size=50)
    fit = extrapolate(train, test, noise)
    for line, power, truth in ((fit.upper, train, (0.5, 0.1)), (fit.lower, test, (0.4, -0.02))):
        slope, intercept = np.polyfit(noise, power, 1)
        np.testing.assert_allclose([line.slope, line.intercept], [slope, intercept])
        assert line.intercept_interval[0] < truth[0] < line.intercept_interval[1]
        assert line.slope_interval[0] < truth[1] < line.slope_interval[1]
    assert fit.n_points == 50
    assert fit == extrapolate(train, test, noise, seed=0)
    assert fit != extrapolate(train, test, noise, seed=1)
    narrow = extrapolate(train, test, noise, confidence=0.5).upper.intercept_interval
    assert np.ptp(narrow) < np.ptp(fit.upper.intercept_interval)


def test_points_that_are_not_finite_are_left_out():
    noise = np.arange(6.0)
    test = np.array([0.3, np.nan, 0.1, 0.0, -0.1, np.inf])
    assert extrapolate(noise, test, noise).n_points == 4
    with pytest.raises(ValueError, match="at least 3 finite points"):
        extrapolate(noise, np.where(noise > 1, np.nan, 0), noise)
    with pytest.raises(ValueError, match="not all equal"):
        extrapolate(noise, noise, np.ones(6))
    with pytest.raises(ValueError, match="one length, got 6, 5, 6"):
        extrapolate(noise, noise[:5], noise)


@pytest.mark.parametrize("quadratic", [0.0, 1.0])
def test_population_bounds_the_share_that_is_linear(quadratic):
    X, Y = population(quadratic)
    truth = 1 / (1 + quadratic**2)
    points = predictive_power(RidgeSTRF(12, [1.0], cv=None), X, Y, cv=4)
    assert points.npp_train.shape == points.npp_test.shape == points.noise_ratio.shape == (1, 120)
    fit = extrapolate(points.npp_train[0], points.npp_test[0], points.noise_ratio[0])
    assert fit.lower.intercept - 0.05 < truth < fit.upper.intercept + 0.05
    assert fit.upper.intercept - fit.lower.intercept < 0.1
    assert fit.upper.slope > 0 > fit.lower.slope


def test_fewer_repeats_give_one_neuron_its_own_points():
    X, Y = population(0.0, n_neurons=3)
    points = predictive_power(RidgeSTRF(12, [1.0], cv=None), X, Y, n_repeats=(2, 4, 12), n_draws=3, cv=4)
    assert points.n_repeats.tolist() == [2, 2, 2, 4, 4, 4, 12]  # all repeats can be drawn in one way only
    np.testing.assert_allclose(points.noise_ratio[0] / points.noise_ratio[-1], 6)
    assert (points.npp_train[:3].mean(0) > points.npp_train[-1]).all()
    assert (points.npp_test[:3].mean(0) < points.npp_test[-1]).all()
    everything = predictive_power(RidgeSTRF(12, [1.0], cv=None), X, Y, cv=4)
    np.testing.assert_allclose(points.npp_test[-1], everything.npp_test[0], rtol=1e-6)
    np.testing.assert_allclose(points.noise_ratio[-1], everything.noise_ratio[0], rtol=1e-6)


def test_estimator_is_left_as_it_was_and_bad_input_is_named():
    X, Y = population(0.0, n_neurons=2)
    estimator = RidgeSTRF(4, [1.0], cv=None)
    predictive_power(estimator, X, Y, cv=2)
    assert not hasattr(estimator, "strf_")
    with pytest.raises(ValueError, match="must hold repeats"):
        predictive_power(estimator, X, [y.mean(1) for y in Y])
    with pytest.raises(ValueError, match="n_repeats=13"):
        predictive_power(estimator, X, Y, n_repeats=[13])
