"""Sounds from WAV files, as they come from laboratories: integer or float samples, one channel or several."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from strflab.validation import integer

OFFSET = {np.dtype(np.uint8): 128}  # 8-bit samples are unsigned


def read_wav(path: str | Path, channel: int | None = None) -> tuple[np.ndarray, float]:
    """Return the waveform (samples,) of a WAV file, float32, and its sample rate in Hz.

    Integer samples (8, 16, 24 or 32 bits) are divided by full scale, so that they lie in [-1, 1]; float samples are
    kept as they are.

    Parameters
    ----------
    path : of the file
    channel : which channel of a file that has several, counted from 0

    Raises
    ------
    FileNotFoundError : there is no such file
    ValueError : it is not a whole WAV file, holds no finite samples, or has several channels and none is chosen
    """
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("error", wavfile.WavFileWarning)  # such as: the file ends before its samples do
        warnings.filterwarnings("ignore", "Chunk", wavfile.WavFileWarning)  # notes of the recorder, not sound
        try:
            rate, samples = wavfile.read(path)
        except (ValueError, EOFError, wavfile.WavFileWarning) as error:
            raise ValueError(f"{path}: not a whole WAV file ({error})") from None
    samples = one_channel(samples, channel, str(path))
    if samples.dtype.kind in "iu":  # scipy puts the 24 bits of a sample on top of 32
        full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
        samples = (samples.astype(np.float64) - OFFSET.get(samples.dtype, 0)) / full_scale
    return samples.astype(np.float32), float(rate)


def one_channel(samples: np.ndarray, channel: int | None, where: str) -> np.ndarray:
    """Return one channel of (samples,) or (samples, channels); ValueError if there are several and none is chosen."""
    if not samples.size:
        raise ValueError(f"{where}: holds no samples")
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2:
        raise ValueError(f"{where}: must have shape (samples,) or (samples, channels), got {samples.shape}")
    n_channels = samples.shape[1]
    if channel is None and n_channels > 1:
        raise ValueError(f"{where}: has {n_channels} channels, say which one the animal heard: channel=0, for example")
    samples = samples[:, integer("channel", 0 if channel is None else channel, 0, n_channels - 1)]
    if not np.isfinite(samples).all():
        raise ValueError(f"{where}: must be finite: it holds NaN or infinity")
    return samples
