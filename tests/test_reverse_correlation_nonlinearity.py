"""Output nonlinearities against scipy's least squares, a neuron at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from strflab.reverse_correlation import LinearNonlinearSTRF, NormalizedReverseCorrelation, OutputNonlinearity, RidgeSTRF

G = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "double_exponential": lambda z: np.exp(-np.exp(-z)),
}
KINDS = list(G)


def responses(kind, n_neurons=6, frames=3000, noise=True, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_neurons, frames)) * rng.uniform(0.01, 10, (n_neurons, 1)) + rng.normal(size=(n_neurons, 1))
    base, gain, slope, threshold = rng.uniform([[0, 0.3, 0.8, -0.5]], [[0.1, 1, 2.5, 1.5]], (n_neurons, 4)).T[..., None]
    parameters = np.concatenate(
        [base, gain, slope / x.std(1, keepdims=True), x.mean(1, keepdims=True) + threshold * x.std(1, keepdims=True)], 1
    )
    rate = base + gain * G[kind](parameters[:, 2:3] * (x - parameters[:, 3:]))
    return x, rng.poisson(rate * 10) / 10 if noise else rate, parameters


@pytest.mark.parametrize("kind", KINDS)
def test_recovers_its_own_parameters(kind):
    x, y, parameters = responses(kind, noise=False)
    fit = OutputNonlinearity(kind).fit(x, y)
    np.testing.assert_allclose(fit.predict(x), y, atol=1e-6)
    if kind != "softplus":  # gain and slope trade off where no curvature is seen
        np.testing.assert_allclose(fit.parameters_, parameters, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_scipys_best_of_many_starts(kind):
    x, y, _ = responses(kind, frames=600)
    loss = ((OutputNonlinearity(kind).fit(x, y).predict(x) - y) ** 2).sum(1)
    for n in range(len(x)):
        z = (x[n] - x[n].mean()) / x[n].std()
        starts = [[y[n].min(), np.ptp(y[n]), k, c] for k in (0.5, 1.0, 3.0) for c in (0.0, 1.0, 2.5)]
        fits = [least_squares(lambda p: p[0] + p[1] * G[kind](p[2] * (z - p[3])) - y[n], s).cost for s in starts]  # noqa: B023
        assert loss[n] <= 2 * min(fits) * (1 + 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_never_falls(kind):
    x, y, _ = responses(kind)
    y[:3] = -y[:3]  # responses that fall with the prediction
    fit = OutputNonlinearity(kind).fit(x, y)
    sorted_x = np.sort(x, 1)
    assert (np.diff(fit.predict(sorted_x), axis=1) >= 0).all()
    assert (fit.parameters_[:, 1] >= 0).all()
    assert (fit.parameters_[:, 2] > 0).all()
    assert np.isfinite(fit.parameters_).all()
    np.testing.assert_allclose(fit.predict(x)[:3].mean(1), y[:3].mean(1), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_silent_neurons_and_constant_predictions_get_a_flat_answer(kind):
    x, y, _ = responses(kind, n_neurons=4)
    y[0], x[1], x[2], y[2] = 0, 0.3, 0, 0
    fit = OutputNonlinearity(kind).fit(x, y)
    np.testing.assert_allclose(fit.predict(x)[:3], np.repeat(y[:3].mean(1, keepdims=True), x.shape[1], 1), atol=1e-12)
    assert fit.parameters_[:3, 1].tolist() == [0, 0, 0]
    alone = OutputNonlinearity(kind).fit(x[3:], y[3:])
    np.testing.assert_allclose(fit.predict(x)[3], alone.predict(x[3:])[0], rtol=1e-4)


def test_missing_frames_and_lists_of_clips():
    x, y, _ = responses("sigmoid")
    whole = OutputNonlinearity("sigmoid").fit(x, y)
    gaps = y.copy()
    gaps[0, 500:900] = np.nan
    gaps[1, ::3] = np.nan
    fit = OutputNonlinearity("sigmoid").fit(x, gaps)
    keep = np.isfinite(gaps[1])
    one = OutputNonlinearity("sigmoid").fit(x[1:2, keep], y[1:2, keep])
    np.testing.assert_allclose(fit.predict(x)[1], one.predict(x[1:2])[0], atol=1e-4)
    np.testing.assert_allclose(fit.predict(x)[2:], whole.predict(x)[2:], atol=1e-8)
    clips = OutputNonlinearity("sigmoid").fit([x[:, :1000], x[:, 1000:]], [torch.from_numpy(y[:, :1000]), y[:, 1000:]])
    np.testing.assert_array_equal(clips.parameters_, whole.parameters_)
    assert [p.shape for p in clips.predict([x[:, :10], x[:, :20]])] == [(6, 10), (6, 20)]


def test_neurons_are_independent_of_each_other_and_of_the_block_they_are_fitted_in(monkeypatch):
    x, y, _ = responses("double_exponential")
    whole = OutputNonlinearity("double_exponential").fit(x, y)
    monkeypatch.setattr("strflab.reverse_correlation.nonlinearity.MEMORY", 2 * x.shape[1])
    blocks = OutputNonlinearity("double_exponential").fit(x, y)
    np.testing.assert_allclose(blocks.predict(x), whole.predict(x), atol=1e-8)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="kind must be one of"):
        OutputNonlinearity("relu")
    with pytest.raises(ValueError, match="response must have the prediction's shape"):
        OutputNonlinearity().fit(np.zeros((2, 9)), np.zeros((2, 8)))
    with pytest.raises(ValueError, match=r"neurons \[1\]"):
        OutputNonlinearity().fit(np.zeros((2, 9)), np.array([[0.0] * 9, [np.nan] * 9]))
    with pytest.raises(ValueError, match=r"prediction must be \(N, T\)"):
        OutputNonlinearity().fit(np.zeros(9), np.zeros(9))
    with pytest.raises(ValueError, match="not fitted"):
        OutputNonlinearity().predict(np.zeros((2, 9)))
    with pytest.raises(ValueError, match="must hold 2 neurons"):
        OutputNonlinearity().fit(np.zeros((2, 9)), np.zeros((2, 9))).predict(np.zeros((3, 9)))
    with pytest.raises(ValueError, match="linear must be an estimator"):
        LinearNonlinearSTRF(OutputNonlinearity())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind must be one of"):
        LinearNonlinearSTRF(RidgeSTRF(), "relu")


@pytest.mark.parametrize("edges", ["zeros", "valid"])
def test_linear_nonlinear_predicts_better_than_linear(edges):
    rng = np.random.default_rng(0)
    strf = rng.normal(size=(2, 3 * 4))
    X = [rng.normal(size=(3, 400)) for _ in range(8)]
    past = [np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (3, 0))), 4, axis=1) for x in X]
    Y = [np.exp(0.5 * strf @ p.transpose(0, 2, 1).reshape(12, -1)) for p in past]
    linear = RidgeSTRF(4, cv=3, edges=edges)
    ln = LinearNonlinearSTRF(linear, "softplus").fit(X[:6], Y[:6])
    assert (ln.score(X[6:], Y[6:]) > linear.score(X[6:], Y[6:]) + 0.05).all()
    np.testing.assert_array_equal(ln.strf_, linear.strf_)
    assert ln.skipped_frames == (3 if edges == "valid" else 0)
    with pytest.raises(AttributeError, match="no attribute 'strfs_'"):
        _ = ln.strfs_


def test_linear_nonlinear_takes_any_linear_estimator():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(3, 400)) for _ in range(5)]
    Y = [np.maximum(x[:1], 0) for x in X]
    ln = LinearNonlinearSTRF(NormalizedReverseCorrelation(3, scoring="correlation")).fit(X, Y)
    assert ln.score(X, Y)[0] > 0.9
    assert ln.tolerance_.shape == (1,)
