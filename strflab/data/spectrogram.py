"""From a sound to a spectrogram: the three fixed transforms that the recordings use, in plain numpy.

Each takes a waveform x (samples,) and returns S (F, T), frames of `hop` samples. With w a window, and
X(f, t) = sum_n w[n] x[start_t + n] exp(-2 pi i f n / fs) the short-time Fourier transform:

- `gaussian_spectrogram`   S = max(0, 20 log10(|X| / max |X|) + 80), w Gaussian, bands of equal width in Hz
  (Theunissen, Sen & Doupe 2000, doi:10.1523/JNEUROSCI.20-06-02315.2000, as in the lab's released code);
- `cochleagram`            S = z-score(max(10 log10(sum_f A(b, f) |X|), -40)), A triangular on a log axis
  (Harper et al. 2016, doi:10.1371/journal.pcbi.1005113, as in the released code);
- `log_band_spectrogram`   S = max(0, 10 log10(sum_f A(b, f) |X|^2 / reference) + 65): its causal twin, on power.

The filter matrix A is `triangular_filterbank`, which the learnable front-ends use too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strflab.validation import choice, integer, number

Array = NDArray[np.float64]
Align = Literal["end", "centre", "start"]


def log_centres(low_hz: float, high_hz: float, n_bands: int) -> Array:
    """Return `n_bands` frequencies in Hz, equally spaced on a log axis, both ends included.

    >>> log_centres(250.0, 1000.0, 3).round()
    array([ 250.,  500., 1000.])
    """
    if not 0 < low_hz < high_hz < np.inf:
        raise ValueError(f"low_hz and high_hz must satisfy 0 < low_hz < high_hz, got {low_hz} and {high_hz}")
    return np.geomspace(low_hz, high_hz, integer("n_bands", n_bands, minimum=2))


def triangular_filterbank(bin_frequencies: NDArray, centres: NDArray) -> Array:
    """Return the filters A (F, n_bins), triangles of height 1 on a log-frequency axis.

    A(b, f) = max(0, 1 - |log f - log c_b| / d), d the spacing of the centres, so that neighbours sum to 1.

    Parameters
    ----------
    bin_frequencies : (n_bins,)
        Frequencies of the Fourier bins, Hz; a bin at 0 Hz belongs to no filter.
    centres : (F,)
        Centre frequencies, Hz, equally spaced on a log axis (`log_centres`).

    Raises
    ------
    ValueError
        If the centres are not log-spaced, or a filter holds no bin (too short a Fourier transform).

    >>> A = triangular_filterbank(np.arange(0, 16001, 25.0), log_centres(250.0, 8000.0, 32))
    >>> A.shape, bool(np.allclose(A[:, 40].sum(), 1))  # every frequency inside is counted once
    ((32, 641), True)
    """
    bins, centres = np.asarray(bin_frequencies, float), np.asarray(centres, float)
    if centres.ndim != 1 or len(centres) < 2 or not np.all(centres > 0):
        raise ValueError(f"centres must be two or more positive frequencies in Hz, got {centres}")
    log_c = np.log10(centres)
    spacing = (log_c[-1] - log_c[0]) / (len(log_c) - 1)
    if spacing <= 0 or not np.allclose(np.diff(log_c), spacing, rtol=1e-6):
        raise ValueError("centres must increase by one factor on a log axis: use log_centres")
    with np.errstate(divide="ignore"):
        distance = np.abs(np.log10(bins)[None, :] - log_c[:, None]) / spacing  # (F, n_bins)
    filters = np.maximum(0.0, 1.0 - distance)
    empty = np.flatnonzero(filters.sum(1) == 0)
    if len(empty):
        raise ValueError(
            f"centres: the filters at {np.round(centres[empty])} Hz hold no Fourier bin; use a longer transform"
        )
    return filters


def short_time_amplitude(waveform: NDArray, window: NDArray, hop: int | Fraction, n_fft: int, align: Align) -> Array:
    """Return |X| (n_fft // 2 + 1, T): the amplitude of the short-time Fourier transform.

    Parameters
    ----------
    waveform : (samples,)
        One channel.
    window : (n,)
        The taper, n <= n_fft; the rest of each frame is zero-padded.
    hop : int or Fraction
        Samples between frames: bin t is the samples [t hop, (t + 1) hop), the ends rounded down where `hop` is not
        whole, so that frames keep to the clock of the response. Not whole with "end" only.
    align : {"end", "centre", "start"}
        Where the window of frame t lies. "end": its last sample is the last of bin t, so that the frame is
        causal. "centre": its middle is the middle of bin t; it sees (n - hop) / 2 samples past the bin.
        "start": its first sample is the first of bin t; it sees n - hop samples past the bin, and only
        frames whose window fits into the sound are returned. Otherwise the sound is silent outside its ends
        and every complete bin has a frame.

    >>> x = np.zeros(100)
    >>> x[50] = 1.0  # a click in bin 5 reaches no earlier frame
    >>> np.flatnonzero(short_time_amplitude(x, np.ones(20), 10, 32, align="end")[3]).tolist()
    [5, 6]
    """
    x, n = _check_waveform(waveform), len(window)
    choice("align", align, ("end", "centre", "start"))
    if isinstance(hop, Fraction) and align == "end":
        number("hop", hop, at_least=1)
    else:
        integer("hop", hop)
    if not hop <= n <= n_fft:
        raise ValueError(f"window must have between hop ({hop}) and n_fft ({n_fft}) samples, got {n}")
    first = math.floor(hop)  # samples of bin 0
    if align == "start":
        n_frames = max(0, (len(x) - n) // first + 1)
    else:
        ahead = 0 if align == "end" else (n - first) // 2
        n_frames = math.floor(len(x) / hop)
        x = np.concatenate([np.zeros(n - first - ahead), x, np.zeros(ahead)])
    if n_frames == 0:
        raise ValueError(f"waveform is shorter than one frame: {len(waveform)} samples, window {n}, hop {hop}")
    p, q = Fraction(hop).as_integer_ratio()
    starts = np.arange(1, n_frames + 1) * p // q - first
    views = np.lib.stride_tricks.sliding_window_view(x, n)
    frames = views[starts] if q > 1 else views[::first][:n_frames]  # (T, n), a view if the hop is whole
    return np.ascontiguousarray(np.abs(np.fft.rfft(frames * window, n_fft, axis=1)).T)


def gaussian_spectrogram(
    waveform: NDArray,
    sample_rate: float,
    dt_ms: float = 1.0,
    band_hz: float = 125.0,
    low_hz: float = 250.0,
    high_hz: float = 8000.0,
    dynamic_range_db: float = 80.0,
    align: Align = "end",
) -> tuple[Array, Array]:
    """Return the Gaussian-window spectrogram in dB above the floor, and its frequencies in Hz.

    The window is exp(-t^2 / (2 s^2)) cut at +-3 s, with s = 1 / (2 pi band_hz): a band of width band_hz
    (125 Hz: 7.6 ms long, s = 1.27 ms). Values lie in [0, dynamic_range_db]; the loudest point of the clip has
    the largest.

    Parameters
    ----------
    waveform : (samples,)
    sample_rate : float
        Hz; a whole number of bands must make it up.
    dt_ms : float
        Frame length, ms; at most the window's, and a whole number of samples.
    band_hz, low_hz, high_hz : float
        Spacing of the bands and the range kept, Hz.
    dynamic_range_db : float
        Distance of the floor from the maximum, dB.
    align : {"end", "centre"}
        "end" is causal: frame t holds sound up to the end of bin t. "centre" centres the window on the bin, as
        the lab does, and sees 3.3 ms ahead at 1 ms frames: latencies read from it are that much longer.

    Returns
    -------
    spectrogram (F, T), frequencies (F,)

    >>> S, f = gaussian_spectrogram(np.sin(2 * np.pi * 1000 * np.arange(3200) / 32000), 32000)
    >>> S.shape, float(f[S[:, 50].argmax()])
    ((63, 100), 1000.0)
    """
    hop = samples_per_frame(dt_ms, sample_rate)
    choice("align", align, ("end", "centre"))
    n_fft = sample_rate / number("band_hz", band_hz, above=0)
    if abs(n_fft - round(n_fft)) > 1e-9:
        raise ValueError(f"band_hz must divide sample_rate ({sample_rate} Hz), got {band_hz}")
    sd = sample_rate / (2 * np.pi * band_hz)  # samples
    half = int(3 * sd)
    if 2 * half < hop:
        raise ValueError(f"dt_ms must be at most the window, {2e3 * half / sample_rate:.2f} ms, got {dt_ms}")
    window = np.exp(-0.5 * ((np.arange(2 * half) - half + 0.5) / sd) ** 2)
    amplitude = short_time_amplitude(waveform, window, hop, round(n_fft), align)
    frequencies = np.arange(amplitude.shape[0], dtype=np.float64) * band_hz
    keep = (frequencies >= low_hz) & (frequencies <= high_hz)
    if not keep.any():
        raise ValueError(f"low_hz, high_hz: no band of {band_hz} Hz lies in [{low_hz}, {high_hz}] Hz")
    frequencies, amplitude = frequencies[keep], amplitude[keep]
    peak = amplitude.max()
    if peak == 0:  # silence is the floor
        return np.zeros_like(amplitude), frequencies
    with np.errstate(divide="ignore"):
        decibel = 20 * np.log10(amplitude / peak) + dynamic_range_db
    return np.maximum(0.0, decibel), frequencies


def cochleagram(
    waveform: NDArray,
    sample_rate: float,
    dt_ms: float = 5.0,
    n_bands: int = 34,
    low_hz: float = 500.0,
    high_hz: float = 22627.0,
    floor_db: float = -40.0,
    standardise: bool = True,
) -> tuple[Array, Array]:
    """Return the cochleagram of Harper et al. 2016, z-scored over the clip, and its frequencies in Hz.

    Hamming windows of two frames, zero-padded fourfold; triangular filters on the *amplitude*; 10 log10 of it,
    not below `floor_db`; minus the clip's mean, over its standard deviation.

    As published, the window of frame t starts with bin t: the frame holds sound up to one frame (5 ms) after
    the end of its bin. The hop is dt_ms rounded to whole samples (244 at 48,828 Hz: 4.997 ms), so the frames run
    ahead of the 5 ms bins of the spikes by 2.9 ms at the end of a 5 s clip.

    Parameters
    ----------
    waveform : (samples,)
    sample_rate, low_hz, high_hz : float
        Hz.
    dt_ms : float
        Frame length, ms.
    n_bands : int
    floor_db : float
        Lowest level, dB re an amplitude of 1 in a band.
    standardise : bool
        False leaves decibels.

    Returns
    -------
    cochleagram (F, T), frequencies (F,)

    >>> S, f = cochleagram(np.random.default_rng(0).normal(size=244140), 48828)
    >>> S.shape, float(f[0]), round(float(S.std()), 6)
    ((34, 999), 500.0, 1.0)
    """
    hop = round(number("dt_ms", dt_ms, above=0) / 1000 * number("sample_rate", sample_rate, above=0))
    n_fft = 8 * hop
    frequencies = log_centres(low_hz, high_hz, n_bands)
    filters = triangular_filterbank(np.fft.rfftfreq(n_fft, 1 / sample_rate), frequencies)
    amplitude = short_time_amplitude(waveform, np.hamming(2 * hop), hop, n_fft, align="start")
    decibel = np.maximum(10 * np.log10(filters @ amplitude + 1e-20), floor_db)
    if not standardise:
        return decibel, frequencies
    sd = decibel.std()
    return (decibel - decibel.mean()) / (sd if sd > 0 else 1.0), frequencies


def log_band_spectrogram(
    waveform: NDArray,
    sample_rate: float,
    dt_ms: float = 5.0,
    n_bands: int = 32,
    low_hz: float = 250.0,
    high_hz: float = 8000.0,
    dynamic_range_db: float = 65.0,
    reference: float | None = None,
) -> tuple[Array, Array]:
    """Return the power in log-spaced triangular bands, in dB above the floor, and their frequencies in Hz.

    max(0, 10 log10(power / reference) + dynamic_range_db), with the power of `band_power`; causal. To compare the
    levels of several sounds give them one `reference`, as `strflab.data.from_spike_times` does.

    Parameters
    ----------
    waveform : (samples,)
    sample_rate, low_hz, high_hz : float
        Hz.
    dt_ms : float
        Frame length, ms.
    n_bands : int
    dynamic_range_db : float
        Distance of the floor from the reference, dB.
    reference : float, optional
        The power at `dynamic_range_db`; by default the largest of this clip.

    Returns
    -------
    spectrogram (F, T), frequencies (F,)

    >>> S, f = log_band_spectrogram(np.sin(2 * np.pi * 1000 * np.arange(32000) / 32000), 32000)
    >>> S.shape, round(float(f[S[:, 50].argmax()]), -2)
    ((32, 200), 1000.0)
    """
    power, frequencies = band_power(waveform, sample_rate, dt_ms, n_bands, low_hz, high_hz)
    top = power.max() if reference is None else number("reference", reference, above=0)
    if top == 0:  # silence is the floor
        return np.zeros_like(power), frequencies
    with np.errstate(divide="ignore"):
        decibel = 10 * np.log10(power / top) + dynamic_range_db
    return np.maximum(0.0, decibel), frequencies


def log_spectrograms(waveforms: Sequence[NDArray], sample_rate: float, dt_ms: float, **bands: Any) -> list:
    """Return `log_band_spectrogram` of each sound, in dB relative to the loudest point of all, so that levels compare.

    >>> loud, soft = log_spectrograms([np.ones(3200), 0.1 * np.ones(3200)], 32000, 5.0)
    >>> round(float(loud[0].max() - soft[0].max()))
    20
    """
    loudest = max(band_power(x, sample_rate, dt_ms, **bands)[0].max() for x in waveforms)
    return [log_band_spectrogram(x, sample_rate, dt_ms, **bands, reference=loudest or None) for x in waveforms]


def band_power(
    waveform: NDArray,
    sample_rate: float,
    dt_ms: float = 5.0,
    n_bands: int = 32,
    low_hz: float = 250.0,
    high_hz: float = 8000.0,
) -> tuple[Array, Array]:
    """Return A |X|^2 (F, T), the power in log-spaced triangular bands, and their frequencies (F,) in Hz.

    Hann windows of two frames, the second of them bin t itself (causal), zero-padded fourfold. A frame need not be a
    whole number of samples: the last one of bin t is the last before (t + 1) dt_ms.

    Raises
    ------
    ValueError
        If `high_hz` lies above half the sample rate, where a file holds nothing.

    >>> band_power(np.zeros(3200), 32000)[0].shape
    (32, 20)
    >>> band_power(np.zeros(44100), 44100, dt_ms=5.0)[0].shape  # 220.5 samples a frame
    (32, 200)
    """
    rate, dt = number("sample_rate", sample_rate, above=0), number("dt_ms", dt_ms, above=0)
    number("high_hz", high_hz, at_most=rate / 2)
    hop = Fraction(rate).limit_denominator(1000) * Fraction(dt).limit_denominator(10**6) / 1000  # samples
    if hop < 1:
        raise ValueError(f"dt_ms={dt_ms}: must be at least one sample, {1000 / sample_rate:g} ms")
    size = math.ceil(hop)
    frequencies = log_centres(low_hz, high_hz, n_bands)
    filters = triangular_filterbank(np.fft.rfftfreq(8 * size, 1 / sample_rate), frequencies)
    taper = np.hanning(2 * size + 2)[1:-1]
    amplitude = short_time_amplitude(waveform, taper, hop if hop.denominator > 1 else size, 8 * size, align="end")
    return filters @ amplitude**2, frequencies


def samples_per_frame(dt_ms: float, sample_rate: float) -> int:
    """Return the whole number of samples in a frame of `dt_ms`; ValueError where it is not whole.

    >>> samples_per_frame(1.0, 32000)
    32
    """
    samples = number("dt_ms", dt_ms, above=0) / 1000 * number("sample_rate", sample_rate, above=0)
    if not (samples >= 1 and abs(samples - round(samples)) < 1e-6):
        raise ValueError(f"dt_ms={dt_ms}: must be a whole number of samples at {sample_rate} Hz, not {samples:g}")
    return round(samples)


def _check_waveform(waveform: NDArray) -> Array:
    x = np.asarray(waveform, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"waveform must have shape (samples,), one channel, got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("waveform must be finite: it holds NaN or infinity")
    return x
