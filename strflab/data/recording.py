"""A recording of your own: sounds and spike times in, a `NeuralDataset` out, spikes aligned to the frames of the sound.

Sounds start at time zero of their spike times. With `pre_s` and `post_s` a clip also has silence before and after its
sound: frame 0 then begins `pre_s` before the onset, and the spikes there are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from strflab.data.dataset import NeuralDataset, Record
from strflab.data.sound_files import one_channel, read_wav
from strflab.data.spectrogram import log_spectrograms
from strflab.data.spikes import count_spikes, frames_of, seconds
from strflab.validation import number

FEW = 0.01  # of all spikes inside their clips: fewer mean that the times are not what they should be
Transform = Callable[[np.ndarray, float, float], tuple[Any, Any]]


def from_spike_times(
    sounds: Iterable[Any],
    spike_times: Iterable[Any],
    dt_ms: float = 5.0,
    *,
    sample_rate: float | None = None,
    channel: int | None = None,
    spectrogram: Transform | None = None,
    n_bands: int = 32,
    low_hz: float = 250.0,
    high_hz: float = 8000.0,
    pre_s: float = 0.0,
    post_s: float = 0.0,
    neurons: Sequence[Record] | None = None,
    clips: Sequence[Record] | None = None,
    **about: Any,
) -> NeuralDataset:
    """Return the data set of a recording, from its sounds and the spike times of every neuron and trial.

    Parameters
    ----------
    sounds : one a clip: paths of WAV files (`read_wav`), or waveforms (samples,) at `sample_rate`
    spike_times : ``spike_times[clip][neuron][trial]`` is a list of times in seconds from the onset of the sound, in any
        order; those of neo and quantities are converted. ``[]`` is a trial without spikes; None in place of a trial,
        or of a neuron's trials, says that it was not recorded. Neurons may differ in how many trials they have
    dt_ms : length of a frame, ms. A spike at time t is counted in frame floor((t + pre_s) / dt_ms); those before the
        first frame and after the last are left out, and each record of `clips` says how many
    sample_rate : Hz, of waveforms that are not read from files
    channel : of files or arrays (samples, channels) with several
    spectrogram : function (waveform, sample_rate, dt_ms) -> (spectrogram (F, T), frequencies (F,)), such as
        `cochleagram` or `gaussian_spectrogram`. None: `log_band_spectrogram`, in dB below the loudest point of all
        sounds, so that the sounds' levels compare; its bands are the three arguments that follow
    n_bands, low_hz, high_hz : F, and centres of the lowest and the highest band, Hz
    pre_s, post_s : silence before and after each sound that belongs to its clip, s; `pre_s` a whole number of frames
    neurons, clips : tables, one record a neuron and one a clip, to which what is known here is added
    **about : name, licence, citation, description of the set

    Raises
    ------
    FileNotFoundError : a sound is not there
    ValueError : the message names the argument, and the clip, neuron and trial. Also if hardly a spike falls into its
        clip: then the times are in ms, or do not count from the onset of the sound

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=16000)  # 1 s
    >>> ds = from_spike_times([noise], [[[[0.012, 0.5], []], [[0.9]]]], sample_rate=16000, high_hz=7000)
    >>> ds.n_neurons, ds.responses[0].shape, ds.responses[0][0, 0].nonzero().flatten().tolist()
    (2, torch.Size([2, 2, 200]), [2, 100])
    """
    dt_ms = number("dt_ms", dt_ms, above=0)
    n_silent = frames_of([number("pre_s", pre_s, at_least=0)], dt_ms)[0]
    if abs(n_silent * dt_ms / 1000 - pre_s) > 1e-9:
        raise ValueError(f"pre_s={pre_s}: must be a whole number of frames of {dt_ms:g} ms, so that sound begins one")
    named, waveforms, rate = _waveforms(sounds, sample_rate, channel)
    silence = [np.zeros(round(s * rate), np.float32) for s in (pre_s, number("post_s", post_s, at_least=0))]
    waveforms = [np.concatenate([silence[0], x, silence[1]]) for x in waveforms]
    trials = _checked(spike_times, len(waveforms))
    if spectrogram is None:
        bands = {"n_bands": n_bands, "low_hz": low_hz, "high_hz": high_hz}
        spectra = log_spectrograms(waveforms, rate, dt_ms, **bands)
    else:
        spectra = [spectrogram(x, rate, dt_ms) for x in waveforms]
    _check_spectra(spectra, waveforms, rate, dt_ms)
    n_frames = [np.shape(s)[1] for s, _ in spectra]
    shift = partial(_shifted, by=pre_s)
    left_out = _left_out([shift(clip) for clip in trials], n_frames, dt_ms)
    known = [
        {"id": k, "sound": name, "seconds": len(x) / rate, "onset_s": float(pre_s), "spikes_left_out": n}
        for k, (name, x, n) in enumerate(zip(named, waveforms, left_out))
    ]
    return NeuralDataset(
        [s for s, _ in spectra],
        [_counts(shift(clip), dt_ms, t) for clip, t in zip(trials, n_frames)],
        dt_ms,
        spectra[0][1],
        neurons=_with("neurons", [{"id": i} for i in range(len(trials[0]))], neurons),
        clips=_with("clips", known, clips),
        waveforms=waveforms,
        sample_rate=rate,
        **about,
    )


def _waveforms(sounds: Iterable[Any], sample_rate: float | None, channel: int | None) -> tuple[list, list, float]:
    """Return the name, the waveform and the common sample rate of the sounds."""
    names, waveforms, rates = [], [], []
    for k, sound in enumerate(sounds):
        if isinstance(sound, str | Path):
            waveform, rate = read_wav(sound, channel)
            names.append(Path(sound).name)
        else:
            if sample_rate is None:
                raise ValueError(f"sounds[{k}] is an array: say its sample_rate in Hz")
            waveform = one_channel(np.asarray(sound), channel, f"sounds[{k}]")
            rate = number("sample_rate", sample_rate, above=0)
            names.append(f"sounds[{k}]")
        waveforms.append(waveform)
        rates.append(rate)
        if rate != rates[0]:
            raise ValueError(
                f"sounds[{k}] ({names[k]}) is at {rate:g} Hz, {names[0]} at {rates[0]:g} Hz: bring all to one rate "
                "first, with scipy.signal.resample_poly for example"
            )
    if not waveforms:
        raise ValueError("sounds: must hold at least one")
    return names, waveforms, rates[0]


def _checked(spike_times: Iterable[Any], n_clips: int) -> list[list[list[np.ndarray | None]]]:
    """Return the times as [clip][neuron][trial] -> (n,) s, or None where nothing was recorded."""
    clips = [_as_list(clip, f"spike_times[{k}]", "neurons") for k, clip in enumerate(spike_times)]
    if len(clips) != n_clips:
        raise ValueError(
            f"spike_times: {len(clips)} clips for {n_clips} sounds; it is spike_times[clip][neuron][trial]"
        )
    found = []
    for k, clip in enumerate(clips):
        if len(clip) != len(clips[0]):
            raise ValueError(f"spike_times[{k}] has {len(clip)} neurons, spike_times[0] has {len(clips[0])}")
        found.append(
            [
                [
                    None if times is None else seconds(times, f"spike_times[{k}][{n}][{r}]")
                    for r, times in enumerate(_as_list(neuron, f"spike_times[{k}][{n}]", "trials"))
                ]
                for n, neuron in enumerate(clip)
            ]
        )
    return found


def _as_list(values: Any, where: str, of: str) -> list:
    if values is None and of == "trials":
        return []
    try:
        entries = list(values)
    except TypeError:
        raise ValueError(f"{where} must be a list of {of}, got {values!r:.60}") from None
    if any(np.ndim(entry) == 0 and entry is not None for entry in entries if not isinstance(entry, list | tuple)):
        raise ValueError(
            f"{where} must be a list of {of}, and holds numbers: it is spike_times[clip][neuron][trial], so that a "
            "single neuron, or a single trial, is a list with one entry"
        )
    return entries


def _shifted(clip: list[list[np.ndarray | None]], by: float) -> list[list[np.ndarray | None]]:
    return [[None if times is None else times + by for times in neuron] for neuron in clip]


def _counts(clip: list[list[np.ndarray | None]], dt_ms: float, n_frames: int) -> np.ndarray:
    """Return (N, R, T): spikes a frame, NaN for the trials that a neuron does not have."""
    n_trials = max([1, *(len(neuron) for neuron in clip)])
    counts = np.full((len(clip), n_trials, n_frames), np.nan, np.float32)
    for row, neuron in zip(counts, clip):
        row[: len(neuron)] = count_spikes(neuron, dt_ms, n_frames)
    return counts


def _left_out(clips: list[list[list[np.ndarray | None]]], n_frames: list[int], dt_ms: float) -> list[int]:
    """Return how many spikes of each clip lie outside it; ValueError where nearly all of a recording's do."""
    inside, outside = [], []
    for clip, n in zip(clips, n_frames):
        times = np.concatenate([[], *(t for neuron in clip for t in neuron if t is not None)])
        frames = frames_of(times, dt_ms)
        inside.append(int(((frames >= 0) & (frames < n)).sum()))
        outside.append(len(times) - inside[-1])
    n_spikes = sum(inside) + sum(outside)
    if sum(inside) < FEW * n_spikes:
        latest = max(t.max(initial=0) for clip in clips for neuron in clip for t in neuron if t is not None)
        longest = max(n_frames) * dt_ms / 1000
        hint = "in seconds from the onset of its sound, not on the clock of the recording"
        if latest <= 2 * 1000 * longest:
            hint = f"in seconds; these look like ms (the last is {latest:.6g}, the longest clip {longest:.3g} s)"
        raise ValueError(
            f"spike_times: {sum(inside)} of {n_spikes} spikes fall into their clips. Times must be {hint}; spikes that "
            "are meant to lie outside are to be left out beforehand"
        )
    return outside


def _check_spectra(spectra: list[tuple[Any, Any]], waveforms: list[np.ndarray], rate: float, dt_ms: float) -> None:
    """Refuse a transform whose frames do not keep the time that `dt_ms` says, or whose bands differ between sounds."""
    for k, ((s, f), x) in enumerate(zip(spectra, waveforms)):
        expected = math.floor(len(x) / rate * 1000 / dt_ms + 1e-9)
        if np.ndim(s) != 2 or abs(np.shape(s)[1] - expected) > 1 + 0.001 * expected:
            raise ValueError(
                f"spectrogram: returned shape {np.shape(s)} for sound {k}, must be (F, {expected}): "
                f"{len(x) / rate:.3f} s in frames of {dt_ms:g} ms"
            )
        if not np.array_equal(f, spectra[0][1]):
            raise ValueError(f"spectrogram: sound {k} has other frequencies than sound 0")


def _with(name: str, known: list[Record], records: Sequence[Record] | None) -> list[Record]:
    """Return the records with what is known added where they do not say it themselves."""
    if records is None:
        return known
    if len(records) != len(known) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{name}: must be a list of {len(known)} dicts, one a row")
    return [first | record for first, record in zip(known, records)]
