"""NS1: ferret auditory cortex hearing natural sounds (Harper et al. 2016, doi:10.1371/journal.pcbi.1005113).

119 units, 20 natural clips of 5 s, 20 repeats, as published at https://osf.io/ayw2p: `MetadataSHEnCneurons.mat` and
`spikesandwav/` with one MATLAB 5 file a unit and the sounds. Of a unit's 32 stimulus sets the first 20 are the
natural clips; the other 12, dynamic random chords, are left out, for their sounds are not among the files.

Spike times are counted in 999 bins of 5 ms, the frames of the paper's cochleagram (`spectrogram.cochleagram`). The
files are parsed once; the result is cached as one safetensors file and loaded from there.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from strflab.cache import cache_root
from strflab.data import parsed
from strflab.data.dataset import NeuralDataset
from strflab.data.fetch import Remote, fetch, verify
from strflab.data.simulate import simulate
from strflab.data.spectrogram import cochleagram, log_centres
from strflab.validation import choice

N_UNITS, N_CLIPS, N_REPEATS, N_FRAMES, DT_MS = 119, 20, 20, 999, 5.0
N_SETS = 32  # 20 natural, 12 dynamic random chords
SAMPLE_RATE = 48828
SOUNDS = [f"source.1.sound.0.snr.0.token.0.fw.2.frozen.{k}" for k in range(1, 13)]
SOUNDS += [f"source.2.sound.0.snr.0.token.0.fw.1.frozen.{k}" for k in range(1, 9)]
TEST_CLIPS = (3, 6, 9, 19)  # counted from 0; 4, 7, 10 and 20 in the paper's code
FIELDS = ("path", "NrOfElectrodes", "ElectrodeNumber", "depth", "NoiseRatio", "singleT", "singleN")
REMOTE = Remote(
    "ns1",
    {"MetadataSHEnCneurons.mat": "https://osf.io/download/gdwyd/"},
    {"spikesandwav.zip": "https://osf.io/download/5nxga/"},
)
WHAT = "ferret auditory cortex: 119 units (73 in the paper), 20 natural clips of 5 s, 20 repeats"
LICENCE = "see the OSF page, https://osf.io/ayw2p"
CITATION = "Harper et al. 2016, PLoS Computational Biology, doi:10.1371/journal.pcbi.1005113"
VERSION = 1  # of the parsed file: raise it when parsing changes


def load(units: Literal["paper", "all"] = "paper") -> NeuralDataset:
    """Return NS1: N = 73 or 119, 20 clips of 34 bands x 999 frames of 5 ms, R = 20, with the waveforms.

    Parameters
    ----------
    units : {"paper", "all"}
        "paper": the 73 units of the paper, those with singleT "Yes" or "Maybe" and depth >= 0. "all": 119.

    Raises
    ------
    RecordingUnavailable
        If the files are neither here nor to be had.
    ValueError
        If an option is wrong, or a file is not the published one or not laid out as published.

    Source: Harper et al. 2016, doi:10.1371/journal.pcbi.1005113; https://osf.io/ayw2p.
    """
    choice("units", units, ("paper", "all"))
    arrays, neurons = _parsed()
    keep = np.array([units == "all" or in_paper(neuron) for neuron in neurons])
    edges = np.concatenate([[0], np.cumsum(arrays["waveform_lengths"])])
    return NeuralDataset(
        list(arrays["cochleagrams"]),
        _dense(arrays["counts"], arrays["bins"], keep),
        DT_MS,
        log_centres(500.0, 22627.0, 34),
        neurons=[neuron for neuron, kept in zip(neurons, keep) if kept],
        clips=[{"id": k, "sound": sound, "test": k in TEST_CLIPS} for k, sound in enumerate(SOUNDS)],
        name="ns1",
        licence=LICENCE,
        citation=CITATION,
        description=WHAT,
        waveforms=[arrays["waveforms"][a:b] for a, b in pairwise(edges)],
        sample_rate=SAMPLE_RATE,
    )


def stand_in(units: Literal["paper", "all"] = "paper") -> NeuralDataset:
    """Return a simulated set of 20 neurons with the clips, bands and repeats of NS1, for where it cannot be had.

    >>> stand_in().n_clips
    20
    """
    choice("units", units, ("paper", "all"))
    return simulate(n_neurons=20, n_clips=N_CLIPS, n_repeats=N_REPEATS)


def in_paper(neuron: dict[str, Any]) -> bool:
    """Return whether a record of the neuron table is one of the paper's 73 units."""
    return neuron["singleT"] in ("Yes", "Maybe") and neuron["depth"] >= 0


def paper_split(ds: NeuralDataset) -> tuple[NeuralDataset, NeuralDataset]:
    """Return the paper's 16 training clips and its 4 test clips (`TEST_CLIPS`).

    Raises
    ------
    ValueError
        If `ds` does not have the 20 clips.

    Source: code of Rahman et al. 2019, doi:10.1371/journal.pcbi.1006618.
    """
    if ds.n_clips != N_CLIPS:
        raise ValueError(f"ds has {ds.n_clips} clips: the paper's split needs all {N_CLIPS}")
    train = [k for k in range(N_CLIPS) if k not in TEST_CLIPS]
    return ds.select(clips=train), ds.select(clips=list(TEST_CLIPS))


def parsed_path() -> Path:
    """Return where the parsed recording is cached; the name changes with the files' hashes and the parser."""
    key = hashlib.sha256(json.dumps(REMOTE.hashes, sort_keys=True).encode()).hexdigest()[:12]
    return cache_root() / "parsed" / f"ns1-v{VERSION}-{key}.safetensors"


def parse(folder: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the arrays and the neuron table of the published files in `folder`.

    The arrays are `counts` (clips, units, repeats), spikes a trial; `bins`, the 5 ms bin of each spike, trial after
    trial in that order; `cochleagrams` (clips, F, T); `waveforms`, the sounds one after the other, and
    `waveform_lengths`.

    Raises
    ------
    ValueError
        If a file is not laid out as published; the message names it.
    """
    neurons = read_neurons(folder / "MetadataSHEnCneurons.mat")
    per_unit = [read_unit(_unit_file(folder, neuron["path"])) for neuron in neurons]
    trials = [unit[k][r] for k in range(N_CLIPS) for unit in per_unit for r in range(N_REPEATS)]
    counts = np.array([len(t) for t in trials], np.uint16).reshape(N_CLIPS, len(neurons), N_REPEATS)
    sounds = [read_sound(folder / "spikesandwav" / "SH.En.C" / name) for name in SOUNDS]
    arrays: dict[str, np.ndarray] = {
        "counts": counts,
        "bins": np.concatenate(trials).astype(np.uint16),
        "cochleagrams": np.stack([cochleagram(x, SAMPLE_RATE)[0] for x in sounds]).astype(np.float32),
        "waveforms": np.concatenate(sounds),
        "waveform_lengths": np.array([len(x) for x in sounds], np.int64),
    }
    return arrays, neurons


def read_neurons(path: Path) -> list[dict[str, Any]]:
    """Return the metadata table: one record a unit, the published fields and `id`."""
    table = _loadmat(path, "neuron")
    if table.dtype.names is None or set(FIELDS) - set(table.dtype.names) or table.size != N_UNITS:
        raise ValueError(f"{path}: expected {N_UNITS} neurons with the fields {', '.join(FIELDS)}")
    return [
        {"id": i} | {name: _scalar(row[name], f"{path}: neuron {i}, {name}") for name in FIELDS}
        for i, row in enumerate(table.ravel())
    ]


def read_unit(path: Path) -> list[list[np.ndarray]]:
    """Return one unit's spikes as bins of 5 ms: [clip][repeat] -> (spikes,), in [0, 999).

    Spikes after the last bin (4.995 s) are left out: the sweep runs 0.2 s longer than the sound.
    """
    try:
        sets = _field(_loadmat(path, "data"), "set", str(path))[0, 0]
        if sets.shape != (1, N_SETS):
            raise ValueError(f"{path}: expected {N_SETS} stimulus sets, got {sets.shape}")
        return [_read_clip(sets, k, f"{path}: set {k}") for k in range(N_CLIPS)]
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: not laid out as published ({type(error).__name__}: {error})") from error


def read_sound(path: Path) -> np.ndarray:
    """Return the waveform (samples,) of one clip, float32, 5 s at 48,828 Hz."""
    from scipy.io import wavfile

    rate, samples = wavfile.read(path)
    if rate != SAMPLE_RATE or samples.ndim != 1 or samples.dtype != np.float32:
        raise ValueError(f"{path}: expected mono float32 at {SAMPLE_RATE} Hz, got {samples.dtype} at {rate} Hz")
    return samples


def _read_clip(sets: np.ndarray, k: int, where: str) -> list[np.ndarray]:
    """Return the binned spikes of each repeat of set `k`, after checking that it is natural clip `k`."""
    described = _field(sets, "stim_params", where)[0, k][0, 0]
    stimulus = tuple(int(_field(described, name, where).item()) for name in ("Source", "Set", "StimID"))
    expected = (1, 2, k + 1) if k < 12 else (2, 1, k - 11)
    if stimulus != expected:
        raise ValueError(f"{where}: expected the sound {SOUNDS[k]}, got source, set, stimulus {stimulus}")
    repeats = _field(_field(sets, "repeats", where)[0, k], "t", where)
    if repeats.shape != (1, N_REPEATS):
        raise ValueError(f"{where}: expected {N_REPEATS} repeats, got {repeats.shape}")
    trials = []
    for times in (np.asarray(t, float).ravel() for t in repeats[0]):
        if not np.isfinite(times).all() or (times < 0).any():
            raise ValueError(f"{where}: a spike time is negative or not finite")
        bins = (times // DT_MS).astype(int)
        trials.append(bins[bins < N_FRAMES])
    return trials


def _unit_file(folder: Path, path: str) -> Path:
    """Return the file of a unit, which may carry a suffix `_1` that the metadata lacks."""
    file = folder / "spikesandwav" / path
    return file if file.is_file() else file.with_name(file.stem + "_1" + file.suffix)


def _loadmat(path: Path, variable: str) -> np.ndarray:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path, variable_names=[variable])[variable]
    except (KeyError, ValueError, TypeError, MatReadError) as error:
        raise ValueError(f"{path}: not a MATLAB 5 file with the variable {variable!r} ({error})") from error


def _field(struct: Any, name: str, where: str) -> Any:
    if name not in (struct.dtype.names or ()):
        raise ValueError(f"{where}: not laid out as published, there is no field {name!r}")
    return struct[name]


def _scalar(cell: np.ndarray, where: str) -> str | int | float:
    if cell.size != 1:
        raise ValueError(f"{where}: expected one value, got {cell.size}")
    return cell.item()


def _dense(counts: np.ndarray, bins: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    """Return responses (N, R, T) a clip, spikes per bin, of the units kept."""
    ends = np.cumsum(counts.reshape(N_CLIPS, -1).sum(1, dtype=np.int64))
    responses = []
    for count, spikes in zip(counts, np.split(bins, ends[:-1])):  # (units, repeats), (spikes of the clip,)
        trial = np.repeat(np.arange(count.size), count.ravel())
        dense = np.bincount(trial * N_FRAMES + spikes, minlength=count.size * N_FRAMES)
        responses.append(dense.reshape(*count.shape, N_FRAMES)[keep].astype(np.float32))
    return responses


def _parsed() -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return what `parse` returns, from the cache if it is there and whole."""

    def fetched() -> parsed.Parsed:
        folder = fetch(REMOTE)
        verify(folder, REMOTE.hashes)
        return parse(folder)

    return parsed.kept(parsed_path(), fetched)
