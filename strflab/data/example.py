"""A small simulated recording as files, to try the readers on: sounds as WAV, spike times as text, a session as NWB."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from strflab.data.simulate import apply_strfs, gabor_strfs
from strflab.data.sounds import make_sounds
from strflab.data.spectrogram import log_centres, log_spectrograms
from strflab.validation import boolean, integer, number

SAMPLE_RATE, DT_MS, SILENCE_S = 24_000, 5.0, 0.5
RATE_HZ = 40.0  # of every neuron, on average over the sounds


def write_example(
    folder: str | Path, n_clips: int = 12, seconds: float = 2.0, n_neurons: int = 3, nwb: bool = False, seed: int = 0
) -> np.ndarray:
    """Write a simulated recording to `folder` as a laboratory might have it, and return its receptive fields.

    The files are ``sounds/sound01.wav`` (24 kHz, 16 bit) and so on, and for each unit and sound
    ``spikes/unit1_sound01.txt``: a row a trial, spike times in seconds from the onset of the sound, 0.2 s before it to
    0.3 s after its end. There are 10 trials, of the last unit 6. With `nwb` the same is in ``session.nwb`` too.

    Parameters
    ----------
    folder : made if need be; files of these names are replaced
    n_clips, seconds, n_neurons : how many sounds, of what length, and units
    nwb : write an NWB file, which needs pynwb
    seed : of sounds, neurons and spikes

    Returns
    -------
    (N, F, T), for frames of 5 ms and the bands that `from_spike_times` has by default, last tap at lag 0
    """
    n_clips, n_neurons = integer("n_clips", n_clips), integer("n_neurons", n_neurons)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    n_frames = round(1000 * number("seconds", seconds, at_least=0.5, at_most=60) / DT_MS)
    folder, bands = Path(folder), log_centres(250.0, 8000.0, 32)
    sounds = [_waveform(s, bands, rng) for s in make_sounds("natural", [n_frames] * n_clips, bands, DT_MS, rng)]
    heard = [torch.tensor(s, dtype=torch.float32) for s, _ in log_spectrograms(sounds, SAMPLE_RATE, DT_MS)]
    level, sd = torch.cat(heard, 1).mean(), torch.cat(heard, 1).std()
    fields = gabor_strfs((n_neurons,), bands, DT_MS, rng)
    drives = [apply_strfs((s - level) / sd, fields) for s in heard]  # (N, T) a clip
    pooled = torch.cat(drives, 1)
    mean, spread = pooled.mean(1, keepdim=True), pooled.std(1, keepdim=True)
    driven = [torch.nn.functional.softplus(3 * (d - mean) / spread - 1) for d in drives]
    gain = RATE_HZ / torch.cat(driven, 1).mean(1, keepdim=True)
    rates = [(gain * d).numpy() for d in driven]  # Hz
    trials = [
        [[_spikes(rate, rng) for _ in range(6 if n == n_neurons - 1 else 10)] for n, rate in enumerate(clip)]
        for clip in rates
    ]  # [clip][neuron][trial]
    names = [f"sound{k + 1:02d}" for k in range(n_clips)]
    _write_files(folder, names, sounds, trials)
    if boolean("nwb", nwb):
        _write_nwb(folder / "session.nwb", names, sounds, trials)
    return fields.numpy()


def _waveform(spectrogram: np.ndarray, bands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a sound (samples,) with about this spectrogram (F, T): a tone a band, its level from frame to frame."""
    n_frames = spectrogram.shape[1]
    t = np.arange(round(n_frames * DT_MS / 1000 * SAMPLE_RATE)) / SAMPLE_RATE
    frame_s = (np.arange(n_frames) + 0.5) * DT_MS / 1000
    sound = np.zeros(len(t))
    for frequency, level in zip(bands, spectrogram):
        amplitude = 10 ** (np.interp(t, frame_s, 10 * level) / 20)
        sound += amplitude * np.sin(2 * np.pi * (frequency * t + rng.random()))
    sound *= min(0.05 / sound.std(), 0.9 / np.abs(sound).max())  # all equally loud
    return np.round(sound * 32767).astype(np.int16) / 32768


def _spikes(rate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the spike times of a trial, s from onset, for a rate (T,) in Hz, some spontaneous around the sound."""
    spontaneous = np.full(2, RATE_HZ / 8)
    edges = np.concatenate([[-0.2], np.arange(len(rate) + 1) * DT_MS / 1000, [len(rate) * DT_MS / 1000 + 0.3]])
    counts = rng.poisson(np.concatenate([spontaneous[:1], rate, spontaneous[1:]]) * np.diff(edges))
    return np.sort(np.repeat(edges[:-1], counts) + rng.random(counts.sum()) * np.repeat(np.diff(edges), counts))


def _write_files(folder: Path, names: list[str], sounds: list[np.ndarray], trials: list[list[Any]]) -> None:
    from scipy.io import wavfile

    for part in ("sounds", "spikes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, sound, clip in zip(names, sounds, trials):
        wavfile.write(folder / "sounds" / f"{name}.wav", SAMPLE_RATE, (sound * 32768).astype(np.int16))
        for n, neuron in enumerate(clip):
            rows = [" ".join(f"{t:.5f}" for t in times) for times in neuron]
            (folder / "spikes" / f"unit{n + 1}_{name}.txt").write_text("\n".join(rows) + "\n", "utf8")


def _write_nwb(path: Path, names: list[str], sounds: list[np.ndarray], trials: list[list[Any]]) -> None:
    """Write the session as it ran: each round all sounds, half a second of silence before each."""
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    nwb = NWBFile("simulated neurons that hear natural-like sounds", "example", datetime(2024, 1, 1, tzinfo=UTC))
    nwb.add_trial_column("stimulus", "name of the sound")
    n_rounds, n_neurons = max(map(len, trials[0])), len(trials[0])
    session: list[list[np.ndarray]] = [[] for _ in range(n_neurons)]
    now, observed = 10.0, [0.0] * n_neurons
    for r in range(n_rounds):
        for name, sound, clip in zip(names, sounds, trials):
            now += SILENCE_S
            length = len(sound) / SAMPLE_RATE
            nwb.add_trial(start_time=now, stop_time=now + length, stimulus=name)
            for n, neuron in enumerate(clip):
                if r < len(neuron):
                    session[n].append(now + neuron[r])
                    observed[n] = now + length + SILENCE_S / 2
            now += length
    for n, times in enumerate(session):
        nwb.add_unit(spike_times=np.sort(np.concatenate(times)), obs_intervals=[[10.0, observed[n]]], id=n + 1)
    for name, sound in zip(names, sounds):
        series = TimeSeries(name=name, data=sound, unit="full scale", rate=float(SAMPLE_RATE))
        nwb.add_stimulus_template(series)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
