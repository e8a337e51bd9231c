"""What the estimators share: data, prediction, score, parameters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from strflab import metrics
from strflab.reverse_correlation import (
    LinearNonlinearSTRF,
    NormalizedReverseCorrelation,
    RidgeSTRF,
    lags_from_ms,
    smooth_psth,
)
from strflab.reverse_correlation.base import as_clips, causal_filter, cross_validation_folds

ESTIMATORS = [
    lambda: RidgeSTRF(n_lags=4, cv=3),
    lambda: NormalizedReverseCorrelation(n_lags=4, cv=4, dt_ms=5.0),
    lambda: LinearNonlinearSTRF(RidgeSTRF(n_lags=4, cv=3), "softplus"),
]


def recording(seed=0, n_neurons=2, n_bands=3, lengths=(150, 210, 170, 190, 160), repeats=4):
    """Clips, responses with repeats and a dataset of them."""
    rng = np.random.default_rng(seed)
    strf = rng.normal(size=(n_neurons, n_bands, 4))
    x = [rng.normal(size=(n_bands, T)) + 2 for T in lengths]
    rate = [causal_filter(torch.from_numpy(c), torch.from_numpy(strf)).numpy() for c in x]
    y = [r[:, None] + rng.normal(size=(n_neurons, repeats, r.shape[1])) for r in rate]
    ds = SimpleNamespace(
        stimuli=[torch.from_numpy(c).float() for c in x],
        responses=[torch.from_numpy(c).float() for c in y],
        psth=[torch.from_numpy(c).float().nanmean(1) for c in y],
        dt_ms=5.0,
    )
    return x, y, ds


@pytest.mark.parametrize("make", ESTIMATORS, ids=["ridge", "normalised", "linear-nonlinear"])
def test_dataset_and_lists_fit_predict_and_score_alike(make):
    x, y, ds = recording()
    a, b, c = make().fit(ds), make().fit(x, y), make().fit(x, [r.mean(1) for r in y])
    for other in (b, c):
        np.testing.assert_allclose(a.strf_, other.strf_, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(a.intercept_, other.intercept_, rtol=1e-4, atol=1e-4)
    assert a.strf_.shape == (2, 3, 4)
    assert a.strf_.dtype == a.intercept_.dtype == np.float64
    prediction = a.predict(ds)
    assert [p.shape for p in prediction] == [(2, T) for T in (150, 210, 170, 190, 160)]
    np.testing.assert_allclose(a.score(ds), metrics.corrcoef(prediction, y), atol=1e-6)
    assert (a.score(ds) > 0.8).all()
    assert (a.score(ds, metric="normalized_corrcoef") > a.score(ds)).all()
    doubled = a.score(x, y, metric=lambda p, r: [len(p), r[0].ndim])
    assert doubled.tolist() == [5, 3]


@pytest.mark.parametrize("make", ESTIMATORS, ids=["ridge", "normalised", "linear-nonlinear"])
def test_prediction_is_the_models_convolution(make):
    x, y, _ = recording()
    estimator = make().fit(x, y)
    T = estimator.strf_.shape[-1]
    past = np.pad(x[0], ((0, 0), (T - 1, 0)))  # silence is zero
    plain = np.stack(
        [[(h * past[:, t : t + T]).sum() for t in range(x[0].shape[1])] for h in estimator.strf_]
    ) + estimator.intercept_[:, None]  # fmt: skip
    linear = getattr(estimator, "linear", estimator)
    np.testing.assert_allclose(linear.predict(x[:1])[0], plain, atol=1e-9)
    if linear is not estimator:
        np.testing.assert_allclose(estimator.predict(x[:1])[0], estimator.nonlinearity_.predict(plain), atol=1e-9)


def test_clip_shorter_than_the_field():
    strf = torch.randn(2, 3, 10)
    x = torch.randn(3, 4)
    padded = torch.nn.functional.pad(x, (9, 0))
    torch.testing.assert_close(causal_filter(x, strf), torch.nn.functional.conv1d(padded, strf))


@pytest.mark.parametrize("make", ESTIMATORS, ids=["ridge", "normalised", "linear-nonlinear"])
def test_parameters_follow_scikit_learn(make):
    estimator = make()
    twin = type(estimator)(**estimator.get_params())
    assert twin.get_params() == estimator.get_params()
    assert repr(estimator).startswith(type(estimator).__name__ + "(")
    with pytest.raises(ValueError, match="unknown parameter 'lags'"):
        estimator.set_params(lags=3)
    with pytest.raises(ValueError, match="not fitted"):
        estimator.predict([np.zeros((3, 10))])


def test_set_params_checks_and_repr_shows_what_changed():
    estimator = RidgeSTRF()
    assert repr(estimator) == "RidgeSTRF()"
    assert repr(estimator.set_params(n_lags=15, alphas=np.array([1.0, 2.0]))) == (
        "RidgeSTRF(n_lags=15, alphas=array([1., 2.]))"
    )
    with pytest.raises(ValueError, match=r"n_lags=15\.0"):
        estimator.set_params(n_lags=15.0)


def test_lags_are_rounded_once():
    assert lags_from_ms(75, 5) == 15
    assert 0.3 / 0.1 * 25 / 5 < 15  # the trap: float arithmetic, rounded up or down, is off by one
    assert len(np.arange(0, 75 * (1 + 1e-15), 5)) == 16
    assert lags_from_ms(0.3 / 0.1 * 25, 5) == 15
    assert [lags_from_ms(ms, 5) for ms in (25, 50, 100, 200)] == [5, 10, 20, 40]
    assert lags_from_ms(0.1, 5) == 1
    with pytest.raises(ValueError, match="ms=0"):
        lags_from_ms(0, 5)


def test_smoothing_preserves_the_rate():
    """A 21 ms window that was not normalised doubled the rate elsewhere."""
    rng = np.random.default_rng(0)
    y = rng.poisson(0.3, size=(3, 400)).astype(float)
    smooth = smooth_psth([y], 21)[0]
    np.testing.assert_allclose(smooth.mean(1), y.mean(1), rtol=0.02)
    assert (smooth.std(1) < 0.5 * y.std(1)).all()
    np.testing.assert_allclose(smooth_psth([np.full((1, 30), 2.0)], 21)[0], 2.0)
    click = np.zeros((1, 101))
    click[0, 50] = 1
    assert smooth_psth([click], 21)[0].argmax() == 50
    np.testing.assert_allclose(smooth_psth([click], 21)[0].sum(), 1)
    np.testing.assert_array_equal(smooth_psth([y], 1)[0], y)
    y[:, 100:120] = np.nan
    gap = smooth_psth([np.where(np.isnan(y), np.nan, 2.0)], 21)[0]
    assert np.isnan(gap[:, 100:120]).all()
    np.testing.assert_allclose(gap[:, :100], 2.0)


def test_folds():
    assert [f.tolist() for f in cross_validation_folds(3, 7)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [f.tolist() for f in cross_validation_folds("loo", 3)] == [[0], [1], [2]]
    assert [f.tolist() for f in cross_validation_folds([[0, 2], [1]], 4)] == [[0, 2], [1]]
    for wrong in (1, 8, "k", [[0, 1]], [[0], [7]], [[0], [0, 1]], [[0.5], [1]], [[], [1]], [[-1], [0]]):
        with pytest.raises(ValueError, match="cv must"):
            cross_validation_folds(wrong, 7)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], [], "at least one clip"),
        ([np.zeros((3, 9)), np.zeros((2, 9))], [np.zeros((1, 9))] * 2, r"X\[1\] must be \(F, T_k\)"),
        ([np.zeros(9)], [np.zeros((1, 9))], r"X\[0\] must be"),
        ([np.full((3, 9), np.nan)], [np.zeros((1, 9))], r"X\[0\] holds NaN"),
        ([np.zeros((3, 9))], [np.zeros((1, 8))], r"Y\[0\] must be .*T_k = 9"),
        ([np.zeros((3, 9))], [np.zeros((1, 9))] * 2, "one response a clip"),
        ([np.zeros((3, 9))], [np.full((1, 9), np.inf)], r"Y\[0\] holds infinity"),
        ([np.zeros((3, 9))], None, "Y=None"),
    ],
)
def test_bad_data_is_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        as_clips(x, y, responses=True)


def test_wrong_number_of_bands_and_wrong_metric():
    x, y, _ = recording()
    estimator = RidgeSTRF(n_lags=4, cv=3).fit(x, y)
    with pytest.raises(ValueError, match="X has 4 bands"):
        estimator.predict([np.zeros((4, 10))])
    with pytest.raises(ValueError, match="metric must be"):
        estimator.score(x, y, metric="cc")
