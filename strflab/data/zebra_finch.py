"""The STRFlab demo recording: one neuron, 20 songs, 10 trials each, as shipped with the MATLAB toolbox STRFlab.

Published files: `stim<k>.wav` (32 kHz, 16 bit, mono) and `spike<k>` (a text row a trial, spike times in ms from the
onset of the sound; an empty row is a trial without spikes), k = 1 to 20, from the folder fakedata/auditory of
https://github.com/theunissenlab/strflab. The folder states no provenance, and neither do we.

Spikes after the end of the sound are left out: 48 of 3,680. The songs last 1.2 to 2.6 s; two of these spikes fall
within 1 ms of the end, none in the 450 ms that follow, and those that come later (to 4 s) have no sound to be
predicted from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from strflab.data.dataset import NeuralDataset
from strflab.data.fetch import Remote, fetch, verify
from strflab.data.simulate import simulate
from strflab.data.spectrogram import gaussian_spectrogram, log_centres, log_spectrograms, samples_per_frame
from strflab.data.spikes import count_spikes, read_spike_times
from strflab.validation import choice

N_CLIPS = 20
SAMPLE_RATE = 32000
SOURCE = (
    "https://raw.githubusercontent.com/theunissenlab/strflab/d7e32aa7a9bdc95a9b3fbfe020b39dec5dc469e0/fakedata/auditory"
)
FILES = [f"{kind}{k}{end}" for k in range(1, N_CLIPS + 1) for kind, end in (("stim", ".wav"), ("spike", ""))]
REMOTE = Remote("zebra_finch", {file: f"{SOURCE}/{file}" for file in FILES})
WHAT = "STRFlab demo recording: 1 zebra finch neuron, 20 songs, 10 trials"
LICENCE = "none stated with the files; see https://github.com/theunissenlab/strflab"
CITATION = "Theunissen lab, STRFlab demo data (fakedata/auditory), https://github.com/theunissenlab/strflab"


def load(dt_ms: float = 1.0, spectrogram: Literal["lab", "log"] = "lab") -> NeuralDataset:
    """Return the STRFlab demo recording: N = 1, 20 clips of 1.2 to 2.6 s, R = 10.

    Parameters
    ----------
    dt_ms : float
        Frame length, ms; a whole number of samples at 32 kHz.
    spectrogram : {"lab", "log"}
        "lab": Gaussian-window spectrogram, 63 bands of 125 Hz from 250 to 8000 Hz, dB above -80 dB of each song's
        maximum (`gaussian_spectrogram`); dt_ms at most 7.6. "log": power in 32 log-spaced bands from 250 to
        8000 Hz, dB above -65 dB of the maximum of all songs (`log_band_spectrogram`); made for dt_ms = 5. Both are
        causal: the window of frame t ends with bin t. The lab centres its windows instead, so latencies read
        from a "lab" field are (7.6 ms - dt_ms) / 2 shorter here.

    Raises
    ------
    RecordingUnavailable
        If the files are neither here nor to be had.
    ValueError
        If an option is wrong, or a file is not the published one.

    Source: https://github.com/theunissenlab/strflab.
    """
    choice("spectrogram", spectrogram, ("lab", "log"))
    samples_per_frame(dt_ms, SAMPLE_RATE)
    folder = fetch(REMOTE)
    verify(folder, REMOTE.hashes)
    waveforms = [read_sound(folder / f"stim{k}.wav") for k in range(1, N_CLIPS + 1)]
    if spectrogram == "lab":
        spectra = [gaussian_spectrogram(x, SAMPLE_RATE, dt_ms) for x in waveforms]
    else:
        spectra = log_spectrograms(waveforms, SAMPLE_RATE, dt_ms)
    trials = [read_spikes(folder / f"spike{k}") for k in range(1, N_CLIPS + 1)]
    return NeuralDataset(
        [s for s, _ in spectra],
        [count_spikes(times, dt_ms, s.shape[1])[None] for times, (s, _) in zip(trials, spectra)],
        dt_ms,
        spectra[0][1],
        neurons=[{"id": 0}],
        clips=[
            {"id": k, "sound": f"stim{k + 1}.wav", "seconds": len(x) / SAMPLE_RATE} for k, x in enumerate(waveforms)
        ],
        name="zebra_finch",
        licence=LICENCE,
        citation=CITATION,
        description=WHAT,
        waveforms=waveforms,
        sample_rate=SAMPLE_RATE,
    )


def stand_in(dt_ms: float = 1.0, spectrogram: Literal["lab", "log"] = "lab") -> NeuralDataset:
    """Return a simulated set of the same shape, for where the recording cannot be had.

    >>> stand_in(dt_ms=5.0, spectrogram="log").n_bands
    32
    """
    bands = {"lab": np.arange(250.0, 8001.0, 125.0), "log": log_centres(250.0, 8000.0, 32)}
    return simulate(
        n_neurons=1,
        n_clips=N_CLIPS,
        seconds=(1.2, 2.6),
        dt_ms=dt_ms,
        n_repeats=10,
        frequencies=bands[choice("spectrogram", spectrogram, ("lab", "log"))],
    )


def read_sound(path: Path) -> np.ndarray:
    """Return the waveform (samples,) of a 16-bit mono WAV at 32 kHz, float32 in [-1, 1)."""
    from scipy.io import wavfile

    rate, samples = wavfile.read(path)
    if rate != SAMPLE_RATE or samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"{path}: expected 16-bit mono at {SAMPLE_RATE} Hz, got {samples.dtype} at {rate} Hz")
    return (samples / 32768).astype(np.float32)


def read_spikes(path: Path) -> list[np.ndarray]:
    """Return the spike times of each trial, s: a row a trial in ms, an empty row a trial without spikes."""
    trials = read_spike_times(path, unit="ms")
    for row, times in enumerate(trials, start=1):
        if (times < 0).any():
            raise ValueError(f"{path}: row {row} has a spike time that is negative")
    return trials
