"""Synthetic sounds as spectrograms (F, T): natural-like, dynamic random chords, ripples, modulation-limited noise.

All are made in the log-amplitude (dB) plane, on bands in octaves x and frames of `dt_ms`, and z-scored a clip:

- "natural"  a Gaussian field with 1/f modulation spectra in time and frequency, a slow common envelope with silences,
  sparse events with sharp onsets, exponential decays, harmonics and glides, over a faint hiss: the levels are
  skewed towards the quiet, as those of natural sound are;
- "chords"   each band takes an independent uniform level every 25 ms (dynamic random chords);
- "ripples"  sin(2 pi (integral of w dt + W x) + phase), velocity w and density W wandering in time;
- "noise"    a Gaussian field whose modulations are flat up to 40 Hz and 2 cycles/octave, and nothing above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strflab.validation import choice, number

KINDS = ("natural", "chords", "ripples", "noise")
CHORD_MS = 25.0
MAX_TEMPORAL_HZ, MAX_SPECTRAL = 40.0, 2.0  # limits of "noise" and "ripples", Hz and cycles/octave


def make_sounds(
    kind: str, lengths: Sequence[int], frequencies: NDArray, dt_ms: float, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return one spectrogram (F, T_k) a clip, of mean 0 and variance 1.

    Parameters
    ----------
    kind : {"natural", "chords", "ripples", "noise"}
    lengths : sequence of int
        Frames of each clip.
    frequencies : (F,)
        Centre frequencies, Hz, increasing.
    dt_ms : float
        Frame length, ms.
    rng : numpy Generator

    >>> clips = make_sounds("chords", [400, 200], np.geomspace(500, 8000, 16), 5.0, np.random.default_rng(0))
    >>> [clip.shape for clip in clips]
    [(16, 400), (16, 200)]
    """
    make = {"natural": _natural, "chords": _chords, "ripples": _ripples, "noise": _noise}[choice("kind", kind, KINDS)]
    octaves = np.log2(np.asarray(frequencies, float) / frequencies[0])
    number("dt_ms", dt_ms, above=0)
    clips = [make(octaves, length, dt_ms, rng) for length in lengths]
    return [(clip - clip.mean()) / clip.std() for clip in clips]


def _natural(octaves: NDArray, n_frames: int, dt_ms: float, rng: np.random.Generator) -> NDArray:
    w, spectral = _modulations(octaves, n_frames, dt_ms)
    slow = np.hypot(w, 1.0)  # 1/f above 1 Hz
    texture = 7 * _field(rng, 1 / (slow**0.6 * np.hypot(spectral, 0.15) ** 0.6))
    envelope = 9 * _field(rng, 1 / slow[:1])  # common to all bands
    level = texture + envelope - 3.0 * octaves[:, None]  # low frequencies carry the power
    seconds = n_frames * dt_ms / 1000
    for _ in range(rng.poisson(5.0 * seconds)):
        _add_event(level, octaves, dt_ms, rng)
    hiss = np.median(level) + 10 * np.log10(rng.gamma(4.0, 0.25, level.shape))  # power of a noise in each frame
    return 10 * np.log10(10 ** (level / 10) + 10 ** (hiss / 10))


def _add_event(level: NDArray, octaves: NDArray, dt_ms: float, rng: np.random.Generator) -> None:
    """Lay one syllable over the level (F, T), in place: onset, decay, glide, one band or a harmonic stack."""
    onset = int(rng.integers(level.shape[1]))
    decay = rng.uniform(20, 150) / dt_ms  # frames to lose 8.7 dB
    t = np.arange(min(int(3 * decay) + 1, level.shape[1] - onset))
    centre = rng.uniform(octaves[0], octaves[-1]) + rng.normal(0, 1.5) * t * dt_ms / 1000  # octaves, a glide
    width = rng.uniform(0.15, 0.5)
    partials = np.log2(np.arange(1, 7 if rng.random() < 0.4 else 2))  # 0, 1, 1.58, ... octaves above
    distance = (octaves[:, None, None] - centre[None, :, None] - partials) / width  # (F, t, partials)
    peak = rng.uniform(8, 26) - 3.0 * octaves.mean()
    event = peak - (4.3 * distance**2).min(-1) - 8.7 * t / decay
    part = level[:, onset : onset + len(t)]
    np.maximum(part, event, out=part)


def _chords(octaves: NDArray, n_frames: int, dt_ms: float, rng: np.random.Generator) -> NDArray:
    frames = max(1, round(CHORD_MS / dt_ms))
    levels = rng.uniform(-1, 1, (len(octaves), -(-n_frames // frames)))
    return np.repeat(levels, frames, axis=1)[:, :n_frames]


def _ripples(octaves: NDArray, n_frames: int, dt_ms: float, rng: np.random.Generator) -> NDArray:
    w, _ = _modulations(octaves, n_frames, dt_ms)
    wander = (w <= 3.0).astype(float)  # velocity and density change slowly
    velocity = MAX_TEMPORAL_HZ * np.tanh(_field(rng, wander)[0])  # Hz, both directions
    density = MAX_SPECTRAL / 2 * (1 + np.tanh(_field(rng, wander)[0]))  # cycles/octave
    phase = np.cumsum(velocity) * dt_ms / 1000 + rng.random()
    return np.sin(2 * np.pi * (phase + density * octaves[:, None]))


def _noise(octaves: NDArray, n_frames: int, dt_ms: float, rng: np.random.Generator) -> NDArray:
    w, spectral = _modulations(octaves, n_frames, dt_ms)
    return _field(rng, ((w <= MAX_TEMPORAL_HZ) & (spectral <= MAX_SPECTRAL)).astype(float))


def _modulations(octaves: NDArray, n_frames: int, dt_ms: float) -> tuple[NDArray, NDArray]:
    """Return |temporal| (1, T) in Hz and |spectral| (F, 1) in cycles/octave of the 2-D Fourier transform."""
    spacing = octaves[-1] / max(len(octaves) - 1, 1) or 1.0
    w = np.abs(np.fft.fftfreq(n_frames, dt_ms / 1000))[None, :]
    return w, np.abs(np.fft.fftfreq(len(octaves), spacing))[:, None]


def _field(rng: np.random.Generator, amplitude: NDArray) -> NDArray:
    """Return a real Gaussian field of unit variance with this modulation amplitude, (F, T)."""
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal(amplitude.shape)) * amplitude).real
    return (field - field.mean()) / field.std()
