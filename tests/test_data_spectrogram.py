"""The fixed spectrograms: against explicit sums, the published numbers, and causality."""

from __future__ import annotations

import numpy as np
import pytest

from strflab.data import spectrogram as sg

FS = 32000


def click(at, length=3200):
    x = np.zeros(length)
    x[at] = 1.0
    return x


def test_filters_are_triangles_that_sum_to_one():
    bins, centres = np.arange(0, 8001, 10.0), sg.log_centres(500, 4000, 10)
    filters = sg.triangular_filterbank(bins, centres)
    inside = (bins >= 500) & (bins <= 4000)
    np.testing.assert_allclose(filters[:, inside].sum(0), 1)
    assert filters[:, 0].sum() == 0  # nothing at 0 Hz
    step = np.log(centres[1] / centres[0])
    for f, c in [(35, 2), (120, 5)]:
        expected = max(0, 1 - abs(np.log(bins[f] / centres[c])) / step)
        assert filters[c, f] == pytest.approx(expected)


def test_amplitude_is_the_fourier_sum():
    rng = np.random.default_rng(0)
    x, window = rng.normal(size=60), rng.random(12)
    out = sg.short_time_amplitude(x, window, 10, 16, align="start")
    n, start = np.arange(12), 20  # frame 2
    for k in (0, 3, 8):
        direct = abs(np.sum(window * x[start : start + 12] * np.exp(-2j * np.pi * k * n / 16)))
        assert out[k, 2] == pytest.approx(direct)
    assert out.shape == (9, 5)  # windows that fit


@pytest.mark.parametrize(
    "transform",
    [
        lambda x: sg.band_power(x, FS, 5.0)[0],
        lambda x: sg.log_band_spectrogram(x, FS, 5.0, reference=1.0)[0],
        lambda x: sg.short_time_amplitude(x, np.ones(244), 32, 256, align="end"),
    ],
)
def test_causal_frames_hold_no_sound_after_their_bin(transform):
    rng = np.random.default_rng(1)
    x = rng.normal(size=3200)
    y = x.copy()
    y[1600:] = rng.normal(size=1600)  # from the onset of bin 10 of 5 ms, bin 50 of 1 ms, on
    a, b = transform(x), transform(y)
    t = a.shape[1] // 2
    assert np.array_equal(a[:, :t], b[:, :t])
    assert not np.array_equal(a[:, t], b[:, t])


def frames_of_click(align, at=1600):
    spectrum, _ = sg.gaussian_spectrogram(click(at), FS, 1.0, align=align)
    return np.flatnonzero(spectrum.max(0) > 40)


def test_gaussian_windows_end_with_the_bin_or_are_centred_on_it():
    late, centred = frames_of_click("end"), frames_of_click("centre")
    assert late[0] >= 50  # causal: the click is at the onset of bin 50
    assert centred[0] < 50
    assert late.mean() - centred.mean() == pytest.approx(3.3, abs=0.3)  # (7.6 - 1) / 2 ms


def test_the_ns1_window_sees_one_frame_ahead():
    fs, hop = 48828, 244
    quiet, loud = np.full(48828, 1e-3), np.full(48828, 1e-3)
    loud[50 * hop + 10] = 5.0
    a, _ = sg.cochleagram(quiet, fs, standardise=False)
    b, _ = sg.cochleagram(loud, fs, standardise=False)
    assert np.flatnonzero(np.abs(a - b).max(0) > 1).tolist() == [49, 50]


def test_gaussian_spectrogram_is_decibels_over_the_floor():
    t = np.arange(FS) / FS
    x = np.sin(2 * np.pi * 2000 * t) + 0.1 * np.sin(2 * np.pi * 6000 * t)
    spectrum, f = sg.gaussian_spectrogram(x, FS)
    assert (f[0], f[-1], len(f), spectrum.shape[1]) == (250, 8000, 63, 1000)
    middle = spectrum[:, 500]
    assert spectrum.max() == pytest.approx(80)
    assert middle[f == 2000] - middle[f == 6000] == pytest.approx(20, abs=0.5)
    assert spectrum.min() >= 0


def test_cochleagram_is_the_published_recipe():
    rng = np.random.default_rng(2)
    x, fs = rng.normal(size=48828), 48828
    out, f = sg.cochleagram(x, fs)
    window = 488  # an independent form of the same recipe, one frame of it
    spectrum = np.abs(np.fft.rfft(x[7 * 244 : 7 * 244 + window] * np.hamming(window), 4 * window))
    bins = np.fft.rfftfreq(4 * window, 1 / fs)[1:]
    centres = np.logspace(np.log10(500), np.log10(22627), 34)
    step = np.log10(centres[1] / centres[0])
    filters = np.clip(1 - np.abs(np.log10(bins / centres[:, None])) / step, 0, None)
    raw, _ = sg.cochleagram(x, fs, standardise=False)
    np.testing.assert_allclose(raw[:, 7], 10 * np.log10(filters @ spectrum[1:]), rtol=1e-9)
    np.testing.assert_allclose(out, (raw - raw.mean()) / raw.std())
    np.testing.assert_allclose(f, centres)


def test_log_bands_put_a_tone_into_its_band():
    t = np.arange(FS) / FS
    for tone in (500, 1000, 4000):
        spectrum, f = sg.log_band_spectrogram(np.sin(2 * np.pi * tone * t), FS)
        assert abs(np.log2(f[spectrum[:, 100].argmax()] / tone)) < 0.17  # a band is 0.16 octaves
        assert spectrum.max() == pytest.approx(65)


def test_a_common_reference_keeps_levels():
    x = np.random.default_rng(3).normal(size=FS)
    top = sg.band_power(x, FS)[0].max()
    loud, _ = sg.log_band_spectrogram(x, FS, reference=top)
    quiet, _ = sg.log_band_spectrogram(x / 10, FS, reference=top)
    np.testing.assert_allclose((loud - quiet)[quiet > 0], 20)


def test_silence_is_the_floor():
    silence = np.zeros(3200)
    assert not sg.gaussian_spectrogram(silence, FS)[0].any()
    assert not sg.log_band_spectrogram(silence, FS)[0].any()
    assert np.isfinite(sg.cochleagram(np.zeros(48828), 48828)[0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sg.gaussian_spectrogram(np.full(3200, np.nan), FS), "waveform must be finite"),
        (lambda: sg.gaussian_spectrogram(np.zeros((2, 3200)), FS), "one channel"),
        (lambda: sg.gaussian_spectrogram(np.zeros(3200), FS, dt_ms=0.99), "whole number of samples"),
        (lambda: sg.gaussian_spectrogram(np.zeros(3200), FS, dt_ms=10), "at most the window"),
        (lambda: sg.gaussian_spectrogram(np.zeros(3200), FS, band_hz=130), "band_hz"),
        (lambda: sg.gaussian_spectrogram(np.zeros(3200), FS, align="start"), "align='start'"),
        (lambda: sg.gaussian_spectrogram(np.zeros(3200), FS, low_hz=9010, high_hz=9020), "no band"),
        (lambda: sg.cochleagram(np.zeros(3200), 48828, dt_ms=-5), "dt_ms=-5"),
        (lambda: sg.cochleagram(np.zeros(100), 48828), "shorter than one frame"),
        (lambda: sg.cochleagram(np.zeros(4800), 48828, n_bands=500), "hold no Fourier bin"),
        (lambda: sg.log_band_spectrogram(np.zeros(3200), FS, reference=0), "reference=0"),
        (lambda: sg.log_centres(0, 100, 4), "low_hz"),
        (lambda: sg.log_centres(10, 100, 1), "n_bands=1"),
        (lambda: sg.triangular_filterbank(np.arange(100.0), np.array([10.0, 20.0, 30.0])), "log_centres"),
        (lambda: sg.short_time_amplitude(np.zeros(99), np.ones(5), 10, 32, "end"), "window must have"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
