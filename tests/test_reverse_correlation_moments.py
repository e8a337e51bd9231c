"""Lagged moments against the design matrix that they stand for."""

from __future__ import annotations

import pytest
import torch

from strflab.reverse_correlation.moments import correlate, lagged_moments


def design(x, n_lags, before):
    """Rows [x(t), x(t-1), ..] of a clip (F, T), lag-major: (T, n_lags F)."""
    past = torch.cat([before[:, None].expand(-1, n_lags - 1), x], 1)
    return torch.cat([past[:, n_lags - 1 - i : n_lags - 1 - i + x.shape[1]] for i in range(n_lags)]).T


def clips(lengths=(40, 7, 25), n_bands=3, n_neurons=2):
    g = torch.Generator().manual_seed(0)
    x = [torch.randn(n_bands, T, generator=g, dtype=torch.float64) + 5 for T in lengths]
    y = [torch.randn(n_neurons, T, generator=g, dtype=torch.float64) + 1 for T in lengths]
    return x, y, torch.randn(n_bands, generator=g, dtype=torch.float64), torch.randn(2, generator=g).double()


def masks_of(kind, lengths=(40, 7, 25)):
    g = torch.Generator().manual_seed(1)
    masks = [torch.ones(T, dtype=torch.bool) for T in lengths]
    if kind == "valid":
        for m in masks:
            m[:8] = False
    elif kind == "scattered":
        masks = [torch.rand(T, generator=g) < 0.6 for T in lengths]
    return masks


@pytest.mark.parametrize("n_lags", [1, 2, 9])
@pytest.mark.parametrize("kind", ["all", "valid", "scattered"])
def test_moments_equal_those_of_the_design_matrix(kind, n_lags):
    x, y, x_mean, y_mean = clips()
    masks = masks_of(kind)
    moments = lagged_moments(x, y, masks, n_lags, x_mean, y_mean)
    X = torch.cat([design(c - x_mean[:, None], n_lags, -x_mean)[m] for c, m in zip(x, masks)])
    Y = torch.cat([(c.T - y_mean)[m] for c, m in zip(y, masks)])
    torch.testing.assert_close(moments.gram(), X.T @ X, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(moments.cross[:, :-1], X.T @ Y, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(moments.cross[:, -1], X.sum(0), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(moments.total[:-1], Y.sum(0), rtol=1e-12, atol=1e-9)
    assert moments.count == len(X)
    gram, cross, square = moments.centred()
    X, Y = X - X.mean(0), Y - Y.mean(0)
    torch.testing.assert_close(gram, X.T @ X, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(cross, X.T @ Y, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(square, Y.square().sum(0), rtol=1e-11, atol=1e-9)


def test_subtracting_clips_leaves_the_moments_of_the_others():
    x, y, x_mean, y_mean = clips()
    masks = masks_of("scattered")
    total = lagged_moments(x, y, masks, 6, x_mean, y_mean)
    part = lagged_moments(x[1:2], y[1:2], masks[1:2], 6, x_mean, y_mean)
    rest = lagged_moments(x[::2], y[::2], masks[::2], 6, x_mean, y_mean)
    for a, b in zip((total - part).centred(), rest.centred()):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-9)


def test_float32_products_of_a_loud_stimulus_keep_their_precision():
    """Means are taken off first: an offset of a thousand standard deviations costs nothing."""
    x, y, _, _ = clips()
    x = [c + 1000 for c in x]
    x_mean, y_mean = torch.cat(x, 1).mean(1), torch.cat(y, 1).mean(1)
    args = (x, y, masks_of("valid"), 4, x_mean, y_mean)
    exact, single = lagged_moments(*args), lagged_moments(*args, torch.float32)
    assert single.auto.dtype == torch.float64
    scale = exact.centred()[0].diagonal().max()
    assert (exact.centred()[0] - single.centred()[0]).abs().max() < 1e-6 * scale


def test_correlation_sums_and_their_pairs():
    x, y, _, _ = clips()
    x, y = x[0], y[0].clone()
    y[0, 5:9] = torch.nan
    sums = correlate(x, y, 6)
    T = x.shape[1]
    for d in range(7):
        torch.testing.assert_close(sums.stimulus[d], sum(torch.outer(x[:, t], x[:, t - d]) for t in range(d, T)))
        assert sums.stimulus_pairs[d] == T - d
    for i, lag in enumerate(range(-6, 7)):
        for n in range(2):
            frames = [t for t in range(T) if 0 <= t - lag < T and torch.isfinite(y[n, t])]
            torch.testing.assert_close(sums.response[i, :, n], sum(x[:, t - lag] * y[n, t] for t in frames))
            assert sums.response_pairs[i, n] == len(frames)


def test_correlations_of_a_clip_shorter_than_the_lags():
    sums = correlate(torch.randn(2, 3).double(), torch.randn(1, 3).double(), 5)
    assert sums.stimulus_pairs.tolist() == [3, 2, 1, 0, 0, 0]
    assert sums.response_pairs[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 2, 1, 0, 0, 0]
    assert (sums.stimulus[3:] == 0).all()
