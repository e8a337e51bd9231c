"""Multitaper coherence, its jackknife, information and the noise ceiling."""

import itertools

import numpy as np
import pytest
import torch
from scipy.signal.windows import dpss

from strflab import metrics

DT = 5.0


def channel(noise, N=20, B=4, T=1500, R=1, seed=0):
    """White signal (B, N, 1, T) and R noisy copies: gamma^2 of their mean is 1 / (1 + noise^2 / R)."""
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((B, N, 1, T))
    return s, s + noise * rng.standard_normal((B, N, R, T))


def plain_estimates(x, window, time_bandwidth=3.0):
    """Tapered transforms of each segment of each clip: list of (T,) -> (M, F)."""
    tapers = dpss(window, time_bandwidth, int(2 * time_bandwidth) - 1)
    mean = np.concatenate(x).mean()
    parts = []
    for clip in x:
        for start in range(0, len(clip) - window + 1, window):
            parts += [np.fft.rfft((clip[start : start + window] - mean) * taper) for taper in tapers]
    return np.array(parts)


def plain_gamma2(p, y):
    return abs((p * y.conj()).mean(0)) ** 2 / ((abs(p) ** 2).mean(0) * (abs(y) ** 2).mean(0))


def test_coherence_equals_a_loop_that_leaves_one_estimate_out():
    s, x = channel(1.0, N=3, B=2, T=250, R=2)
    found = metrics.coherence(s, x, dt_ms=DT, window_ms=300)
    np.testing.assert_allclose(found.frequencies, np.fft.rfftfreq(60, DT / 1000))
    for n in range(3):
        p, y = plain_estimates(s[:, n, 0], 60), plain_estimates(x[:, n].mean(1), 60)
        M = len(p)
        without = np.array([plain_gamma2(np.delete(p, m, 0), np.delete(y, m, 0)) for m in range(M)])
        squared = M * plain_gamma2(p, y) - (M - 1) * without.mean(0)
        np.testing.assert_allclose(found.coherence[n], np.sqrt(np.clip(squared, 0, 1)), rtol=1e-9)
        z = np.arctanh(np.sqrt(without))
        error = np.sqrt((M - 1) * z.var(0))
        from scipy.stats import t

        upper = np.tanh(np.arctanh(found.coherence[n]) + t.ppf(0.975, M - 1) * error)
        np.testing.assert_allclose(found.upper[n], upper, rtol=1e-9)
    assert (found.lower <= found.coherence).all()
    assert (found.lower >= 0).all()


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_coherence_and_information_of_a_white_channel(noise):
    s, x = channel(noise)
    gamma2 = 1 / (1 + noise**2)
    found = metrics.coherence(s, x, dt_ms=DT)
    assert (found.coherence**2).mean() == pytest.approx(gamma2, abs=0.01)
    bits = metrics.coherence_information(s, x, dt_ms=DT)
    assert bits.mean() == pytest.approx(-100 * np.log2(1 - gamma2), rel=0.03)
    half = metrics.coherence_information(s, x, dt_ms=DT, band=(0, 50))
    assert half.mean() == pytest.approx(bits.mean() / 2, rel=0.05)


def test_band_covers_the_true_coherence_as_often_as_it_says():
    s, x = channel(1.0, N=60)
    found = metrics.coherence(s, x, dt_ms=DT)
    inside = (found.lower < np.sqrt(0.5)) & (np.sqrt(0.5) < found.upper)
    assert 0.92 < inside[:, 3:-3].mean() < 0.98


def test_coherence_does_not_see_scale_offset_or_filter():
    s, x = channel(1.0, N=4)
    expected = metrics.coherence(s, x, dt_ms=DT).coherence
    np.testing.assert_allclose(metrics.coherence(-3 * s + 7, x, dt_ms=DT).coherence, expected, rtol=1e-9)
    filtered = np.apply_along_axis(lambda v: np.convolve(v, [0.5, 1.0, 0.5, 0.2])[: len(v)], -1, s)
    np.testing.assert_allclose(metrics.coherence(filtered, s, dt_ms=DT).coherence[:, :-3], 1, atol=0.1)


# What went wrong elsewhere


def test_coherence_of_noise_is_not_one_on_clips_shorter_than_the_window():
    rng = np.random.default_rng(0)
    p, x = rng.standard_normal((12, 30, 1, 60)), rng.standard_normal((12, 30, 1, 60))
    with pytest.raises(ValueError, match="window_ms=500 is 100 frames, longer than the shortest clip, 60 frames"):
        metrics.coherence(p, x, dt_ms=DT, window_ms=500)
    by_default = metrics.coherence(p, x, dt_ms=DT)
    assert len(by_default.frequencies) == 31  # a window of 60 frames
    assert by_default.coherence.mean() < 0.12
    assert abs(metrics.coherence_information(p, x, dt_ms=DT).mean()) < 1.0


def test_one_estimate_is_refused():
    rng = np.random.default_rng(0)
    p, x = rng.standard_normal((1, 2, 1, 60)), rng.standard_normal((1, 2, 1, 60))
    with pytest.raises(ValueError, match="one estimate"):
        metrics.coherence(p, x, dt_ms=DT, time_bandwidth=1)
    few = metrics.coherence(p, x, dt_ms=DT)  # five tapers of one segment
    assert few.coherence.mean() < 0.6


# Ceiling


def test_ceiling_is_the_coherence_of_the_true_rate():
    s, x = channel(3.0, R=6, T=3000)
    gamma2 = 1 / (1 + 9 / 6)
    ceiling = metrics.coherence_ceiling(x, dt_ms=DT)
    reached = metrics.coherence(s, x, dt_ms=DT)
    assert (ceiling.coherence**2).mean() == pytest.approx(gamma2, abs=0.01)
    assert (reached.coherence**2).mean() == pytest.approx(gamma2, abs=0.01)
    possible = metrics.coherence_information_ceiling(x, dt_ms=DT)
    assert possible.mean() == pytest.approx(metrics.coherence_information(s, x, dt_ms=DT).mean(), rel=0.03)
    inside = (ceiling.lower < np.sqrt(gamma2)) & (np.sqrt(gamma2) < ceiling.upper)
    assert 0.92 < inside[:, 3:-3].mean() < 0.98


def test_ceiling_equals_hsu_with_spectra_averaged_over_every_half_split():
    _, x = channel(1.0, N=2, B=3, T=200, R=4)
    ceiling = metrics.coherence_ceiling(x, dt_ms=DT, window_ms=200)
    for n in range(2):
        cross, power = 0.0, 0.0
        for half in itertools.combinations(range(4), 2):
            other = [r for r in range(4) if r not in half]
            a = plain_estimates(x[:, n, half].mean(1), 40)
            b = plain_estimates(x[:, n, other].mean(1), 40)
            cross, power = cross + (a * b.conj()).real, power + (abs(a) ** 2 + abs(b) ** 2) / 2
        M = len(cross)

        def hsu(kept, cross=cross, power=power):
            c = cross[kept].sum(0) / power[kept].sum(0)
            return 2 * c / (1 + c)

        without = np.array([hsu(np.arange(M) != m) for m in range(M)])
        squared = M * hsu(slice(None)) - (M - 1) * without.mean(0)
        np.testing.assert_allclose(ceiling.coherence[n], np.sqrt(squared.clip(0, 1)), rtol=1e-9)


def test_ceiling_of_unrelated_repeats_is_nothing():
    x = np.random.default_rng(0).standard_normal((4, 30, 6, 1500))
    assert abs(metrics.coherence_information_ceiling(x, dt_ms=DT).mean()) < 3
    assert metrics.coherence_ceiling(x, dt_ms=DT).coherence.mean() < 0.15


# What is missing


def test_segments_with_a_missing_frame_are_left_out_for_that_neuron():
    s, x = channel(1.0, N=3, B=1, T=800, R=3)
    expected = metrics.coherence(s, x, dt_ms=DT, centre="clip").coherence
    x[0, 1, :, 130] = np.nan  # in the second of eight segments
    kept = np.r_[0:100, 200:800]
    found = metrics.coherence(s, x, dt_ms=DT, centre="clip").coherence
    without = metrics.coherence(s[..., kept], x[..., kept], dt_ms=DT, centre="clip").coherence
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-9)
    np.testing.assert_allclose(found[1], without[1], atol=0.02)  # the mean differs by what the segment holds
    mask = np.ones(800, bool)
    mask[130] = False
    masked = metrics.coherence(s, np.nan_to_num(x), dt_ms=DT, mask=mask, centre="clip").coherence
    np.testing.assert_allclose(masked[1], found[1], rtol=1e-9)
    ceiling = metrics.coherence_ceiling(x, dt_ms=DT, centre="clip").coherence
    np.testing.assert_allclose(ceiling[1], metrics.coherence_ceiling(x[..., kept], dt_ms=DT).coherence[1], atol=0.02)


def test_a_repeat_missing_on_a_clip_leaves_the_ceiling_unbiased():
    _, x = channel(2.0, R=6, T=3000)
    x[:2, :, 3:] = np.nan
    x[2, :, 5, 1000:] = np.nan
    noise = np.mean([4 / 3, 4 / 3, 4 * (1 / 6 * 1 / 3 + 1 / 5 * 2 / 3), 4 / 6])
    assert (metrics.coherence_ceiling(x, dt_ms=DT).coherence ** 2).mean() == pytest.approx(1 / (1 + noise), abs=0.01)


def test_nan_prediction_is_nan_for_that_neuron_alone():
    s, x = channel(1.0, N=3)
    expected = metrics.coherence(s, x, dt_ms=DT)
    s[0, 1, 0, 5] = np.nan
    x[1, 2] = 0.0
    x[:, 2] = 0.0  # silent
    found = metrics.coherence(s, x, dt_ms=DT)
    for a, b in zip(found[1:], expected[1:]):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-12)
        assert np.isnan(a[1]).all()
        assert np.isnan(a[2]).all()
    bits = metrics.coherence_information(s, x, dt_ms=DT)
    assert np.isfinite(bits[0])
    assert np.isnan(bits[1:]).all()


def test_lengths_cut_the_padding_off():
    s, x = channel(1.0, N=3, B=2, T=500)
    lengths = [500, 230]
    lists = [s[0, :, 0], s[1, :, 0, :230]], [x[0], x[1, ..., :230]]
    x[1, ..., 230:] = 50.0
    found = metrics.coherence(torch.tensor(s), torch.tensor(x), dt_ms=DT, lengths=lengths)
    assert isinstance(found.coherence, torch.Tensor)
    expected = metrics.coherence(*lists, dt_ms=DT)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert isinstance(expected.upper, np.ndarray)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt_ms": 0}, "dt_ms=0"),
        ({"dt_ms": DT, "confidence": 1.0}, "confidence=1.0"),
        ({"dt_ms": DT, "time_bandwidth": 0.5}, "time_bandwidth=0.5"),
        ({"dt_ms": DT, "window_ms": 25}, "no room"),
        ({"dt_ms": DT, "centre": "frame"}, "centre='frame'"),
    ],
)
def test_a_wrong_argument_is_named(options, message):
    s, x = channel(1.0, N=2, B=1, T=300)
    with pytest.raises(ValueError, match=message):
        metrics.coherence(s, x, **options)


@pytest.mark.parametrize("band", [(-1, 10), (20, 10), (10, 10.1)])
def test_a_wrong_band_is_named(band):
    s, x = channel(1.0, N=2, B=1, T=300)
    with pytest.raises(ValueError, match="band="):
        metrics.coherence_information(s, x, dt_ms=DT, band=band)
