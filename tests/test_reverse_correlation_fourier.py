"""Normalised reverse correlation against a plain version, its limits, and the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import next_fast_len

from strflab.reverse_correlation import (
    NormalizedReverseCorrelation,
    RidgeSTRF,
    significance_mask,
    spike_triggered_average,
)
from strflab.reverse_correlation.base import causal_filter


def correlated_sound(rng, n_bands, frames):
    z = np.fft.rfft2(rng.normal(size=(n_bands, frames)))
    w, W = np.fft.rfftfreq(frames, 0.005), np.fft.fftfreq(n_bands)[:, None]
    x = np.fft.irfft2(z / np.sqrt((1 + (w / 8) ** 2) * (1 + (W / 0.15) ** 2)), s=(n_bands, frames))
    return x / x.std()


def recording(sound, n_bands=4, n_lags=6, n_neurons=2, n_clips=6, frames=800, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    lag = np.arange(n_lags)[::-1]
    truth = rng.normal(size=(n_neurons, n_bands, 1)) * np.exp(-((lag - 2) ** 2) / 2)
    X = [sound(rng, n_bands, frames) + 3 for _ in range(n_clips)]
    Y = [causal_filter(torch.from_numpy(x), torch.from_numpy(truth)).numpy() for x in X]
    return X, [y + noise * rng.normal(size=y.shape) + 1 for y in Y], truth


def white(rng, n_bands, frames):
    return 2 * rng.normal(size=(n_bands, frames))


def correlation(a, b):
    return np.array([np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(a, b)])


def plain(X, Y, n_lags, max_lag, tolerance, method):
    """One neuron, a loop over frequencies, the discrete Fourier sums written out: (F, n_lags)."""
    mx, my = np.concatenate(X, 1).mean(1, keepdims=True), np.concatenate(Y, 1).mean()
    lags = np.arange(-max_lag, max_lag + 1)
    C, c = np.zeros((len(lags), len(mx), len(mx))), np.zeros((len(lags), len(mx)))
    for i, lag in enumerate(lags):
        pairs = 0
        for x, y in zip(X, Y):
            x, y, T = x - mx, y[0] - my, x.shape[1]
            t = np.arange(max(0, lag), min(T, T + lag))
            C[i] += x[:, t - lag] @ x[:, t].T
            c[i] += x[:, t - lag] @ y[t]
            pairs += len(t)
        taper = 0.5 + 0.5 * np.cos(np.pi * lag / (max_lag + 1))
        C[i], c[i] = taper * C[i] / pairs, taper * c[i] / pairs
    n = next_fast_len(2 * max_lag + 1, real=True)
    w = 2 * np.pi * np.arange(n) / n
    spectra = np.einsum("wl,lfg->wfg", np.exp(-1j * np.outer(w, lags)), C)
    cross = np.exp(-1j * np.outer(w, lags)) @ c
    largest = max(np.linalg.eigvalsh(S).max() for S in spectra)
    h = np.zeros((n, len(mx)), complex)
    for k in range(n):
        s, U = np.linalg.eigh(spectra[k])
        s = s.clip(0)
        inverse = 1 / (s + tolerance * largest) if method == "ridge" else (s >= tolerance * largest) / s
        h[k] = U @ (inverse * (U.conj().T @ cross[k]))
    return (np.exp(1j * np.outer(np.arange(n_lags)[::-1], w)) @ h / n).real.T


@pytest.mark.parametrize("method", ["ridge", "truncation"])
def test_equals_a_plain_version(method):
    X, Y, _ = recording(correlated_sound, n_neurons=1, n_clips=4, frames=200)
    tolerances = (0.1, 0.02)
    fit = NormalizedReverseCorrelation(6, tolerances, method=method, max_lag=9, n_acausal=3, dt_ms=5.0).fit(X, Y)
    assert fit.lags_.tolist() == [5, 4, 3, 2, 1, 0, -1, -2, -3]
    for i, tolerance in enumerate(tolerances):
        expected = plain(X, Y, 6, 9, tolerance, method)
        np.testing.assert_allclose(fit.filters_[i, 0, :, :6], expected, atol=1e-9)
    # delete-one jackknife, and the mask at the chosen tolerance and level
    left = np.stack([plain(X[:k] + X[k + 1 :], Y[:k] + Y[k + 1 :], 6, 9, fit.tolerance_[0], method) for k in range(4)])
    error = np.sqrt(3 / 4 * ((left - left.mean(0)) ** 2).sum(0))
    # the left-out filters keep the mean over all clips
    np.testing.assert_allclose(fit.standard_error_[0], error, rtol=0.05, atol=0.02 * error.max())
    chosen = fit.filters_[tolerances.index(fit.tolerance_[0]), 0, :, :6]
    expected = significance_mask(chosen, fit.standard_error_[0], fit.significance_[0])
    np.testing.assert_allclose(fit.strf_[0], expected, atol=1e-12)
    np.testing.assert_array_equal(
        fit.cv_scores_[..., 0].max(),
        fit.cv_scores_[tolerances.index(fit.tolerance_[0]), (0, 1, 2, 6).index(fit.significance_[0]), 0],
    )


@pytest.mark.parametrize("method", ["ridge", "truncation"])
def test_white_noise_gives_the_spike_triggered_average_over_the_variance(method):
    """With C_ss = v I the division is by v; the taper is flat where max_lag is long."""
    X, Y, truth = recording(white, n_clips=6, frames=20_000)
    fit = NormalizedReverseCorrelation(
        6, (1e-6,), (0,), method=method, scoring="correlation", max_lag=60, cv=3, dt_ms=5.0
    ).fit(X, Y)
    Y = [y + 100 for y in Y]  # a rate is positive
    rate = np.concatenate(Y, 1).mean(1)[:, None, None]
    average = spike_triggered_average(X, Y, n_lags=6) * rate / 4.0  # C_sr / v
    assert correlation(fit.filters_[0], average).min() > 0.998
    np.testing.assert_allclose(fit.filters_[0], average, atol=0.03 * np.abs(truth).max())


def test_equals_ridge_with_the_same_penalty_up_to_edges():
    """alpha = tol max|C_ss(w)| frames: the block-circulant approximation of a block-Toeplitz Gram matrix."""
    X, Y, _ = recording(correlated_sound, n_bands=3, frames=4000)
    n_lags, max_lag, tolerance = 24, 96, 0.03
    fit = NormalizedReverseCorrelation(n_lags, (tolerance,), (0,), max_lag=max_lag, cv=3, dt_ms=5.0).fit(X, Y)
    x = np.concatenate(X, 1) - np.concatenate(X, 1).mean(1, keepdims=True)
    window = np.hanning(200) / np.linalg.norm(np.hanning(200))
    f = np.fft.rfft(x[:, : x.shape[1] // 200 * 200].reshape(3, -1, 200) * window)  # (F, segments, w)
    spectra = np.einsum("fsw,gsw->wfg", f, f.conj()) / f.shape[1]
    largest = np.linalg.eigvalsh(spectra).max()
    ridge = RidgeSTRF(n_lags, [tolerance * largest * x.shape[1]], cv=None).fit(X, Y)
    assert correlation(fit.filters_[0], ridge.strf_).min() > 0.99


def test_divides_out_the_sounds_correlations():
    X, Y, truth = recording(correlated_sound, n_bands=8, n_clips=8, frames=4000)
    fit = NormalizedReverseCorrelation(6, dt_ms=5.0, max_lag=40).fit(X, Y)
    average = spike_triggered_average(X, [y + 100 for y in Y], n_lags=6)  # a rate is positive
    assert correlation(fit.strf_, truth).min() > 0.95
    assert correlation(fit.strf_, truth).min() > correlation(average, truth).max() + 0.1
    assert (fit.score(X, Y) > 0.5).all()


def test_information_and_correlation_choose_differently_scaled_scores():
    X, Y, truth = recording(correlated_sound)
    by_information = NormalizedReverseCorrelation(6, dt_ms=5.0).fit(X, Y)
    by_correlation = NormalizedReverseCorrelation(6, scoring="correlation").fit(X, Y)
    assert by_information.cv_scores_.shape == by_correlation.cv_scores_.shape == (8, 4, 2)
    assert by_correlation.cv_scores_.max() <= 1 < by_information.cv_scores_.max()
    for fit in (by_information, by_correlation):
        assert correlation(fit.strf_, truth).min() > 0.8


def test_selection_predicts_clips_that_the_filter_never_saw():
    """Responses that follow nothing: held-out scores stay at chance although filters fit their own clips."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(8, 300)) for _ in range(8)]
    Y = [rng.normal(size=(20, 300)) for _ in range(8)]
    fit = NormalizedReverseCorrelation(10, (1e-4,), (0,), scoring="correlation").fit(X, Y)
    assert abs(fit.cv_scores_.mean()) < 0.03
    assert fit.score(X, Y).mean() > 0.1


def test_missing_frames_are_left_out():
    X, Y, truth = recording(correlated_sound, n_bands=4, frames=2000)
    gaps = [y.copy() for y in Y]
    for y in gaps:
        y[0, 100:500] = np.nan
    gaps[2][1] = np.nan
    fit = NormalizedReverseCorrelation(6, scoring="correlation").fit(X, gaps)
    assert correlation(fit.strf_, truth).min() > 0.9
    full = NormalizedReverseCorrelation(6, scoring="correlation").fit(X, Y)
    assert correlation(fit.strf_, full.strf_).min() > 0.98
    with pytest.raises(ValueError, match=r"no frame for neurons \[1\]"):
        NormalizedReverseCorrelation(6, scoring="correlation").fit(X, [np.where([[0], [1]], np.nan, y) for y in Y])


def test_intercept_gives_the_mean_rate_and_silent_neurons_a_zero_field():
    X, Y, _ = recording(white)
    for y in Y:
        y[1] = 0
    fit = NormalizedReverseCorrelation(6, scoring="correlation").fit(X, Y)
    mean = np.concatenate([p[:, 6:] for p in fit.predict(X)], 1).mean(1)
    np.testing.assert_allclose(mean, np.concatenate(Y, 1).mean(1), atol=0.05)
    assert (fit.strf_[1] == 0).all()
    assert fit.intercept_[1] == 0


def test_mask_fades_what_is_not_significant():
    h, se = np.array([5.0, -5.0, 1.0, 0.2]), np.ones(4)
    np.testing.assert_allclose(significance_mask(h, se, 1), h * (1 + np.tanh(2 * (np.abs(h) - 1))) / 2)
    assert abs(significance_mask(h, se, 3)[3]) < 1e-5
    np.testing.assert_allclose(significance_mask(h, 0 * se, 2), h)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_lags": -1}, "n_lags=-1"),
        ({"tolerances": ()}, "tolerances must hold"),
        ({"tolerances": (0.1, 0)}, "tolerances=0"),
        ({"significance": (-1,)}, "significance=-1"),
        ({"method": "pca"}, "method='pca'"),
        ({"scoring": "r2"}, "scoring='r2'"),
        ({"max_lag": 10}, "max_lag must reach"),
        ({"n_acausal": 500}, "max_lag must reach"),
        ({"dt_ms": 0}, "dt_ms=0"),
    ],
)
def test_wrong_arguments_raise_in_the_constructor(wrong, message):
    with pytest.raises(ValueError, match=message):
        NormalizedReverseCorrelation(**wrong)


def test_too_few_clips_and_no_frame_length():
    X, Y, _ = recording(white, n_clips=3)
    with pytest.raises(ValueError, match="at least 3 folds"):
        NormalizedReverseCorrelation(6, dt_ms=5.0).fit(X[:2], Y[:2])
    with pytest.raises(ValueError, match="dt_ms must be given"):
        NormalizedReverseCorrelation(6).fit(X, Y)
