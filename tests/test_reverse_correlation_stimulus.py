"""Spike-triggered average, autocorrelation and modulation spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from strflab.reverse_correlation import modulation_spectrum, spike_triggered_average, stimulus_autocorrelation

LOG = 500 * 2.0 ** (np.arange(24) / 6)  # 6 bands an octave
LINEAR = 250 + 125.0 * np.arange(24)


def test_average_is_that_of_the_sounds_before_spikes():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(3, T)) + 4 for T in (60, 3, 80)]
    Y = [rng.poisson(0.3, size=(2, x.shape[1])).astype(float) for x in X]
    Y[2][1, 10:30] = np.nan
    mean = np.concatenate(X, 1).mean(1)
    sums, spikes = np.zeros((2, 3, 5)), np.zeros(2)
    for x, y in zip(X, Y):
        past = np.concatenate([np.zeros((3, 4)), x - mean[:, None]], 1)
        for n, t in np.argwhere(np.nan_to_num(y) > 0):
            sums[n] += y[n, t] * past[:, t : t + 5]
            spikes[n] += y[n, t]
    np.testing.assert_allclose(spike_triggered_average(X, Y, n_lags=5), sums / spikes[:, None, None], atol=1e-12)


def test_average_of_no_spikes_is_not_a_number():
    x = np.random.default_rng(0).normal(size=(3, 50))
    average = spike_triggered_average([x], [np.stack([np.zeros(50), np.ones(50)])], n_lags=2)
    assert np.isnan(average[0]).all()
    assert np.isfinite(average[1]).all()


def test_autocorrelation():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(3, T)).cumsum(1) for T in (60, 2, 80)]
    mean = np.concatenate(X, 1).mean(1, keepdims=True)
    C = stimulus_autocorrelation(X, 4)
    for i, lag in enumerate(range(-3, 4)):
        total, pairs = np.zeros((3, 3)), 0
        for x in X:
            t = np.arange(max(0, lag), min(x.shape[1], x.shape[1] + lag))
            total += (x - mean)[:, t - lag] @ (x - mean)[:, t].T
            pairs += len(t)
        np.testing.assert_allclose(C[:, :, i], total / pairs, atol=1e-10)
    np.testing.assert_allclose(C[:, :, ::-1], C.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="n_lags must not exceed the longest clip, 80, got 100"):
        stimulus_autocorrelation(X, 100)


@pytest.mark.parametrize(
    ("frequencies", "unit", "spectral"), [(LOG, "cycles/octave", 0.5), (LINEAR, "cycles/kHz", 2 / 3)]
)
@pytest.mark.parametrize("temporal", [-8.0, 8.0])
def test_a_ripple_has_its_power_at_its_modulations(frequencies, unit, spectral, temporal):
    """cos(2 pi (w t + W f)): constant phase falls in frequency over time for w > 0."""
    axis = np.log2(frequencies) if unit == "cycles/octave" else frequencies / 1000
    t = 0.005 * np.arange(2000)
    x = 3 * np.cos(2 * np.pi * (temporal * t + spectral * axis[:, None])) + 40
    s = modulation_spectrum([x], 5.0, frequencies, segment_ms=500)
    row, column = np.unravel_index(s.power.argmax(), s.power.shape)
    assert s.unit == unit
    assert s.temporal[column] == temporal
    assert s.spectral[row] == pytest.approx(spectral)
    assert s.power.shape == (len(s.spectral), len(s.temporal))


@pytest.mark.parametrize("n_bands", [23, 24])
def test_power_sums_to_the_variance(n_bands):
    rng = np.random.default_rng(0)
    x = [2 * rng.normal(size=(n_bands, T)) for T in (3000, 5000, 20)]
    s = modulation_spectrum(x, 5.0, LOG[:n_bands])
    assert s.power.sum() == pytest.approx(4, rel=0.03)
    assert s.temporal[0] == pytest.approx(-100)
    assert s.spectral[-1] == pytest.approx(3, rel=0.05)


def test_bad_axes_are_named():
    x = [np.random.default_rng(0).normal(size=(4, 300))]
    with pytest.raises(ValueError, match="frequencies must be 4"):
        modulation_spectrum(x, 5.0, LOG)
    with pytest.raises(ValueError, match="even steps"):
        modulation_spectrum(x, 5.0, [100, 110, 300, 1000])
    with pytest.raises(ValueError, match="segment_ms must not exceed the longest clip, 1500 ms"):
        modulation_spectrum(x, 5.0, LOG[:4], segment_ms=2000)
    with pytest.raises(ValueError, match="dt_ms=-1"):
        modulation_spectrum(x, -1, LOG[:4])
