"""Ridge over lags against a dense float64 solve, and on simulated recordings."""

from __future__ import annotations

import numpy as np
import pytest

from strflab.reverse_correlation import RidgeSTRF


def design(x, n_lags):
    """Lagged design (T, F n_lags) of a clip (F, T), silence before it, last tap at lag 0."""
    past = np.pad(x, ((0, 0), (n_lags - 1, 0)))
    return np.lib.stride_tricks.sliding_window_view(past, n_lags, axis=1).transpose(1, 0, 2).reshape(x.shape[1], -1)


def dense(X, Y, alphas, n_lags, skip=0, intercept=True, prior=None):
    """One explicit solve a neuron, with penalty alpha h' prior^-1 h: fields (N, F, T), intercepts (N,)."""
    penalty = np.eye(len(X[0]) * n_lags) if prior is None else np.linalg.inv(prior)
    A, B = np.concatenate([design(x, n_lags)[skip:] for x in X]), np.concatenate([y.T[skip:] for y in Y])
    fields, intercepts = [], []
    for b, alpha in zip(B.T, alphas):
        a, b = A[np.isfinite(b)], b[np.isfinite(b)]
        ma, mb = (a.mean(0), b.mean()) if intercept else (np.zeros(a.shape[1]), 0.0)
        h = np.linalg.solve((a - ma).T @ (a - ma) + alpha * penalty, (a - ma).T @ (b - mb))
        fields.append(h.reshape(-1, n_lags))
        intercepts.append(mb - ma @ h)
    return np.array(fields), np.array(intercepts)


def recording(seed=0, n_bands=4, n_lags=5, n_neurons=3, lengths=(90, 120, 50, 101, 77, 66)):
    """A slowly varying stimulus far from zero, noisy linear responses."""
    rng = np.random.default_rng(seed)
    X = [np.cumsum(rng.normal(size=(n_bands, T)), 1) + 30 for T in lengths]
    h = rng.normal(size=(n_neurons, n_bands * n_lags))
    Y = [h @ design(x, n_lags).T + 10 * rng.normal(size=(n_neurons, x.shape[1])) + 5 for x in X]
    return X, Y


def with_gaps(Y):
    Y = [y.copy() for y in Y]
    Y[0][1, 10:20] = np.nan
    Y[2][1, 3] = np.nan
    Y[3][2] = np.nan
    return Y


@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("edges", ["zeros", "valid"])
def test_equals_a_dense_solve(edges, intercept, gaps):
    X, Y = recording()
    Y = with_gaps(Y) if gaps else Y
    alphas = np.logspace(0, 4, 5)
    for precision, tolerance in (("float64", 1e-8), ("mixed", 1e-4)):
        fit = RidgeSTRF(5, alphas, cv=3, edges=edges, fit_intercept=intercept, precision=precision).fit(X, Y)
        strf, baseline = dense(X, Y, fit.alpha_, 5, skip=4 if edges == "valid" else 0, intercept=intercept)
        assert np.abs(fit.strf_ - strf).max() < tolerance * np.abs(strf).max()
        assert np.abs(fit.intercept_ - baseline).max() < tolerance * max(1, np.abs(baseline).max())
        assert np.isin(fit.alpha_, alphas).all()


def gaussian(n, sd):
    return np.exp(-((np.arange(n)[:, None] - np.arange(n)) ** 2) / (2 * sd**2)) if sd else np.eye(n)


@pytest.mark.parametrize("edges", ["zeros", "valid"])
@pytest.mark.parametrize("smoothness", [(0.6, 0.0), (0.0, 0.7), (0.6, 0.7)])
def test_smoothness_equals_a_dense_solve_with_a_gaussian_prior(smoothness, edges):
    X, Y = recording()
    Y = with_gaps(Y)
    prior = np.kron(gaussian(4, smoothness[0]), gaussian(5, smoothness[1]))
    alphas, skip, folds = np.logspace(1, 4, 4), 4 if edges == "valid" else 0, [[0, 3], [1, 4], [2, 5]]
    fit = RidgeSTRF(5, alphas, cv=folds, smoothness=smoothness, edges=edges, precision="float64").fit(X, Y)
    strf, baseline = dense(X, Y, fit.alpha_, 5, skip, prior=prior)
    np.testing.assert_allclose(fit.strf_, strf, atol=1e-8 * np.abs(strf).max())
    np.testing.assert_allclose(fit.intercept_, baseline, atol=1e-7 * np.abs(baseline).max())
    error, energy = np.zeros(4), 0.0
    for fold in folds:
        train = [k for k in range(6) if k not in fold]
        y = np.concatenate([Y[k][0, skip:] for k in fold])
        energy += ((y - y.mean()) ** 2).sum()
        for i, alpha in enumerate(alphas):
            h, b = dense([X[k] for k in train], [Y[k][:1] for k in train], [alpha], 5, skip, prior=prior)
            error[i] += ((np.concatenate([design(X[k], 5)[skip:] @ h[0].ravel() + b for k in fold]) - y) ** 2).sum()
    np.testing.assert_allclose(fit.cv_scores_[:, 0], 1 - error / energy, rtol=1e-7)


@pytest.mark.parametrize("scoring", ["r2", "correlation"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("edges", ["zeros", "valid"])
def test_scores_from_moments_equal_scores_of_predictions(edges, intercept, scoring):
    X, Y = recording()
    Y = with_gaps(Y)
    alphas, folds, skip = np.logspace(0, 5, 4), [[0, 3], [1, 4], [2, 5]], 4 if edges == "valid" else 0
    fit = RidgeSTRF(
        5, alphas, cv=folds, edges=edges, scoring=scoring, fit_intercept=intercept, precision="float64"
    ).fit(X, Y)
    expected = np.zeros((len(alphas), 3))
    for n in range(3):
        for i, alpha in enumerate(alphas):
            error, energy, r = 0.0, 0.0, []
            for fold in folds:
                train = [k for k in range(6) if k not in fold]
                h, b = dense([X[k] for k in train], [Y[k][[n]] for k in train], [alpha], 5, skip, intercept)
                p = np.concatenate([design(X[k], 5)[skip:] @ h[0].ravel() + b for k in fold])
                y = np.concatenate([Y[k][n, skip:] for k in fold])
                p, y = p[np.isfinite(y)], y[np.isfinite(y)]
                error, energy = error + ((y - p) ** 2).sum(), energy + ((y - y.mean()) ** 2).sum()
                r.append(np.corrcoef(y, p)[0, 1])
            expected[i, n] = 1 - error / energy if scoring == "r2" else np.mean(r)
    np.testing.assert_allclose(fit.cv_scores_, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(fit.alpha_, alphas[expected.argmax(0)])


def test_leave_one_out_and_folds_that_do_not_cover_all_clips():
    X, Y = recording()
    loo = RidgeSTRF(5, [1e2], cv="loo", precision="float64").fit(X, Y)
    same = RidgeSTRF(5, [1e2], cv=6, precision="float64").fit(X, Y)
    some = RidgeSTRF(5, [1e2], cv=[[0], [1]], precision="float64").fit(X, Y)
    none = RidgeSTRF(5, [1e2], cv=None, precision="float64").fit(X, Y)
    np.testing.assert_allclose(loo.cv_scores_, same.cv_scores_)
    for other in (some, none):  # the refit uses every clip
        np.testing.assert_allclose(other.strf_, loo.strf_, rtol=1e-8, atol=1e-12)
    assert np.isnan(none.cv_scores_).all()


def test_shift_and_scale_of_the_stimulus_do_not_matter_to_the_default():
    X, Y = recording()
    a = RidgeSTRF(5, cv=3, precision="float64").fit(X, Y)
    b = RidgeSTRF(5, cv=3, precision="float64", edges="zeros").fit([1000 * x for x in X], Y)
    np.testing.assert_allclose(1000 * b.strf_, a.strf_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(b.alphas_, 1e6 * a.alphas_)


def test_silent_and_unrecorded_neurons():
    X, Y = recording()
    for y in Y:
        y[0] = 0
    fit = RidgeSTRF(5, cv=3).fit(X, Y)
    assert (fit.strf_[0] == 0).all()
    assert fit.intercept_[0] == 0
    assert fit.alpha_[0] == fit.alphas_.max()
    assert np.isfinite(fit.cv_scores_).all()
    for y in Y:
        y[1] = np.nan
    with pytest.raises(ValueError, match=r"no frame to fit for neurons \[1\]"):
        RidgeSTRF(5, cv=3).fit(X, Y)


def test_neuron_recorded_in_one_fold_only_is_refused():
    X, Y = recording()
    for y in Y[1:]:
        y[0] = np.nan
    with pytest.raises(ValueError, match="cv leaves some neurons"):
        RidgeSTRF(5, cv=3).fit(X, Y)


def test_one_standard_error_rule_prefers_a_stronger_penalty_that_predicts_as_well():
    X, Y = recording()
    best = RidgeSTRF(5, cv=6).fit(X, Y)
    rule = RidgeSTRF(5, cv=6, rule="one_standard_error").fit(X, Y)
    np.testing.assert_allclose(best.cv_scores_, rule.cv_scores_)
    assert (rule.alpha_ >= best.alpha_).all()
    assert (rule.alpha_ > best.alpha_).any()


@pytest.mark.parametrize("repeats", [1, 5])
def test_recovers_the_truth_from_20_minutes_of_correlated_sound(repeats):
    rng = np.random.default_rng(0)
    n_bands, n_lags, n_neurons, frames = 10, 9, 4, 24_000  # 10 clips of 2 min, 5 ms
    f, lag = np.arange(n_bands)[:, None], np.arange(n_lags)[::-1]
    best, latency = rng.uniform(2, 7, (n_neurons, 1, 1)), rng.uniform(2, 3.5, (n_neurons, 1, 1))
    gauss = lambda centre, at: np.exp(-(((f - best - centre) / 1.3) ** 2) - ((lag - at) / 1.2) ** 2)  # noqa: E731
    truth = gauss(0, latency) - 0.6 * gauss(0.8, latency + 2.5)
    X, Y = [], []
    for _ in range(10):
        z = np.fft.rfft2(rng.normal(size=(n_bands, frames)))
        w, W = np.fft.rfftfreq(frames, 0.005), np.fft.fftfreq(n_bands)[:, None]
        x = np.fft.irfft2(z / np.sqrt((1 + (w / 8) ** 2) * (1 + (W / 0.15) ** 2)), s=(n_bands, frames))
        x /= x.std()
        drive = truth.reshape(n_neurons, -1) @ design(x, n_lags).T
        X.append(x)
        Y.append(rng.poisson(0.1 * np.exp(0.4 * drive)[:, None], size=(n_neurons, repeats, frames)))
    fit = RidgeSTRF(n_lags).fit(X, Y)
    r = [np.corrcoef(h.ravel(), t.ravel())[0, 1] for h, t in zip(fit.strf_, truth)]
    assert min(r) > 0.95
    smooth = RidgeSTRF(n_lags, smoothness=(1, 1)).fit(X, Y)
    assert min(np.corrcoef(h.ravel(), t.ravel())[0, 1] for h, t in zip(smooth.strf_, truth)) > max(r)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_lags": 0}, "n_lags=0"),
        ({"n_lags": 2.5}, "n_lags=2.5"),
        ({"alphas": [1.0, 0.0]}, "alphas must be positive"),
        ({"alphas": []}, "alphas must be positive"),
        ({"cv": None}, "cv=None needs a single penalty"),
        ({"smoothness": (1,)}, "smoothness must be two numbers"),
        ({"smoothness": (1, -1)}, "smoothness=-1"),
        ({"edges": "wrap"}, "edges='wrap'"),
        ({"scoring": "mse"}, "scoring='mse'"),
        ({"rule": "1se"}, "rule='1se'"),
        ({"precision": "float16"}, "precision='float16'"),
    ],
)
def test_wrong_arguments_raise_in_the_constructor(wrong, message):
    with pytest.raises(ValueError, match=message):
        RidgeSTRF(**wrong)
