"""What the sound itself looks like to an estimator, and the average sound before a spike.

    spike-triggered average   sum_t y(t) (x(t - tau) - <x>) / sum_t y(t)
    autocorrelation           C[f, g, tau] = <x_f(t - tau) x_g(t)>, about each band's mean
    modulation spectrum       mean over segments of |two-dimensional Fourier transform of the spectrogram|^2

de Boer & Kuyper 1968, doi:10.1109/TBME.1968.4502561; Singh & Theunissen 2003, doi:10.1121/1.1624067.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from strflab.reverse_correlation.base import as_clips
from strflab.reverse_correlation.moments import correlate
from strflab.validation import integer, number


class ModulationSpectrum(NamedTuple):
    """Power of a spectrogram's modulations; it sums to their variance.

    Parameters
    ----------
    power : (spectral, temporal), unit of the spectrogram squared
    temporal : Hz, both signs; positive: features that fall in frequency over time
    spectral : in `unit`, from 0
    unit : "cycles/octave" or "cycles/kHz"
    """

    power: np.ndarray  # (spectral, temporal), spectrogram unit squared
    temporal: np.ndarray  # Hz, both signs; positive: features that fall in frequency over time
    spectral: np.ndarray  # in `unit`, from 0
    unit: str  # "cycles/octave" or "cycles/kHz"


def spike_triggered_average(X: Any, Y: Any = None, *, n_lags: int) -> np.ndarray:
    """Average the sound before a spike, less the average sound.

    Parameters
    ----------
    X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses. What precedes a clip
        counts as the average sound; missing frames (NaN) are left out.
    n_lags : frames of history, the present one included.

    Returns (N, F, n_lags), last tap at lag 0, in the unit of the spectrogram; NaN for a neuron without spikes.

    >>> x = torch.randn(3, 1000)
    >>> spike_triggered_average([x], [(x[:1] > 2).float()], n_lags=4)[0, 0, -1] > 2
    np.True_
    """
    integer("n_lags", n_lags)
    stimuli, responses = as_clips(X, Y, responses=True)
    mean = torch.cat(stimuli, 1).double().mean(1, keepdim=True)
    average = mean.new_zeros(n_lags, responses[0].shape[0], len(mean))
    spikes = mean.new_zeros(responses[0].shape[0])
    for x, y in zip(stimuli, responses):
        x, y = x.double() - mean, y.double().nan_to_num()
        spikes += y.sum(1)
        for lag in range(min(n_lags, x.shape[1])):
            average[n_lags - 1 - lag] += y[:, lag:] @ x[:, : x.shape[1] - lag].T
    return (average / torch.where(spikes > 0, spikes, torch.nan)[:, None]).permute(1, 2, 0).numpy()


def stimulus_autocorrelation(X: Any, n_lags: int) -> np.ndarray:
    """Covariance of every two bands at every lag.

    Parameters
    ----------
    X : a dataset, or a list of (F, T_k) spectrograms.
    n_lags : lags on each side, lag 0 included, frames.

    Returns (F, F, 2 n_lags - 1), lags from -(n_lags - 1) to n_lags - 1, averaged over the frame pairs of all clips.

    >>> stimulus_autocorrelation([torch.randn(3, 500)], 5).shape
    (3, 3, 9)
    """
    integer("n_lags", n_lags)
    stimuli, _ = as_clips(X)
    mean = torch.cat(stimuli, 1).double().mean(1, keepdim=True)
    sums = [correlate(x.double() - mean, mean.new_zeros(0, x.shape[1]), n_lags - 1) for x in stimuli]
    pairs = torch.stack([s.stimulus_pairs for s in sums]).sum(0)
    if bool((pairs == 0).any()):
        raise ValueError(f"n_lags must not exceed the longest clip, {max(x.shape[1] for x in stimuli)}, got {n_lags}")
    past = torch.stack([s.stimulus for s in sums]).sum(0) / pairs[:, None, None]  # (lags, F, F), <x_f(t) x_g(t-d)>
    return torch.cat([past.flip(0), past[1:].mT]).permute(1, 2, 0).numpy()


def modulation_spectrum(X: Any, dt_ms: float, frequencies: Any, *, segment_ms: float = 500.0) -> ModulationSpectrum:
    """Power of the spectrogram's joint temporal and spectral modulations.

    Segments that overlap by half, under a Hann taper in time and in frequency, about the mean level.

    Parameters
    ----------
    X : a dataset, or a list of (F, T_k) spectrograms.
    dt_ms : length of a frame, ms.
    frequencies : (F,) band centres, Hz, evenly spaced on a log axis (spectral modulation in cycles/octave) or a linear
        one (cycles/kHz); anything else raises ValueError.
    segment_ms : length of a segment, ms; the resolution is about twice its inverse. Shorter clips do not count.

    >>> s = modulation_spectrum([torch.randn(8, 500)], 5.0, 500 * 2 ** np.linspace(0, 3.5, 8))
    >>> s.power.shape, s.unit, s.temporal[[0, -1]].tolist(), round(float(s.spectral[-1]), 6)
    ((5, 100), 'cycles/octave', [-100.0, 98.0], 1.0)
    """
    number("dt_ms", dt_ms, above=0)
    stimuli, _ = as_clips(X)
    n_bands = len(stimuli[0])
    spacing, unit = _band_spacing(np.asarray(frequencies, dtype=np.float64), n_bands)
    length = max(2, round(number("segment_ms", segment_ms, above=0) / dt_ms))
    used = [x.double() for x in stimuli if x.shape[1] >= length]
    if not used:
        longest = max(x.shape[1] for x in stimuli) * dt_ms
        raise ValueError(f"segment_ms must not exceed the longest clip, {longest:g} ms, got {segment_ms}")
    mean = torch.cat(used, 1).mean()
    segments = torch.cat([(x - mean).unfold(1, length, max(1, length // 2)) for x in used], 1)  # (F, S, length)
    in_time, in_frequency = (torch.hann_window(n + 2, periodic=False).double()[1:-1] for n in (length, n_bands))
    taper = in_frequency[:, None, None] * in_time
    transform = torch.fft.fft2(segments * taper, dim=(0, 2))
    power = transform.abs().square().mean(1) / (n_bands * length * taper.square().sum())  # (F, length)
    half = n_bands // 2 + 1
    one_sided = power[:half].clone()
    one_sided[1 : n_bands - half + 1] *= 2  # a real signal: (-w, -W) is (w, W)
    temporal = np.fft.fftshift(np.fft.fftfreq(length, dt_ms / 1000))
    spectral = np.abs(np.fft.fftfreq(n_bands, spacing)[:half])
    return ModulationSpectrum(torch.fft.fftshift(one_sided, dim=1).numpy(), temporal, spectral, unit)


def _band_spacing(frequencies: np.ndarray, n_bands: int) -> tuple[float, str]:
    if frequencies.shape != (n_bands,) or n_bands < 2 or not (np.isfinite(frequencies) & (frequencies > 0)).all():
        raise ValueError(f"frequencies must be {n_bands} (at least 2) positive numbers in Hz, got {frequencies!r}")
    for axis, unit in ((frequencies / 1000, "cycles/kHz"), (np.log2(frequencies), "cycles/octave")):
        steps = np.diff(axis)
        if steps.mean() > 0 and np.allclose(steps, steps.mean(), rtol=0.01, atol=0):
            return float(steps.mean()), unit
    raise ValueError("frequencies must rise in even steps on a linear or a log axis")
