"""A recording of one's own as one NumPy file (.npz), the way in for arrays that another program made.

    dt_ms         ()             length of a frame, ms
    frequencies   (F,)           centre of each band, Hz
    stimuli_0     (F, T_0)       spectrogram of the first sound; stimuli_1 and so on, of any lengths
    responses_0   (N, R_0, T_0)  spikes per frame of N neurons in R repeats, or (N, T_0) for one; NaN where missing
    neurons       (N,)           optional: the neurons' names
    clips         (K,)           optional: the sounds' names

Where all sounds are equally long, `stimuli` (K, F, T) and `responses` (K, N, R, T) or (K, N, T) may stand for the
numbered keys. Nothing is unpickled: arrays of objects are refused.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from strflab.data.dataset import NeuralDataset
from strflab.validation import number

SETTINGS = ("dt_ms", "frequencies")
TABLES = ("neurons", "clips")


def read_arrays(path: str | Path) -> NeuralDataset:
    """Return the data set that a .npz file holds.

    Parameters
    ----------
    path : of a file with the arrays ``dt_ms`` (), ms; ``frequencies`` (F,), Hz; ``stimuli_k`` (F, T_k) and
        ``responses_k`` (N, R_k, T_k) or (N, T_k), k = 0, 1, ..., one pair a sound, or ``stimuli`` (K, F, T) and
        ``responses`` (K, N, R, T) or (K, N, T) for sounds of one length; optional ``neurons`` (N,) and ``clips`` (K,)
        with names. `write_arrays` writes such a file, ``numpy.savez`` does too.

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : it is no .npz file; an array is missing, unknown, of the wrong shape or of objects: its key is named
    """
    path = Path(path)
    arrays = _arrays(path)
    for key in arrays:
        if key not in (*SETTINGS, *TABLES, "stimuli", "responses") and not re.fullmatch(
            r"(stimuli|responses)_\d+", key
        ):
            raise ValueError(f"{path.name}: key {key!r} is unknown; there are {_known()}")
    for key in SETTINGS:
        if key not in arrays:
            raise ValueError(f"{path.name}: key {key!r} is missing; it holds {', '.join(arrays) or 'nothing'}")
    frequencies = arrays["frequencies"]
    if frequencies.ndim != 1 or frequencies.dtype.kind not in "fiu":
        raise ValueError(f"{path.name}: key 'frequencies' has shape {frequencies.shape}: must be (F,), in Hz")
    if arrays["dt_ms"].size != 1 or arrays["dt_ms"].dtype.kind not in "fiu":
        raise ValueError(f"{path.name}: key 'dt_ms' must be one number, the length of a frame in ms")
    stimuli, responses = _clips(path, arrays, "stimuli", 2), _clips(path, arrays, "responses", 3)
    if len(stimuli) != len(responses):
        raise ValueError(
            f"{path.name}: {len(stimuli)} stimuli and {len(responses)} responses: must be one a sound each"
        )
    for (key, x), (its, y) in zip(stimuli.items(), responses.items()):
        _check_pair(path.name, key, x, its, y, len(frequencies), len(next(iter(responses.values()))))
    return NeuralDataset(
        list(stimuli.values()),
        list(responses.values()),
        number("dt_ms", float(arrays["dt_ms"].reshape(())), above=0),
        frequencies,
        neurons=_table(path, arrays, "neurons", len(next(iter(responses.values())))),
        clips=_table(path, arrays, "clips", len(stimuli)),
        name=path.stem,
    )


def write_arrays(path: str | Path, ds: NeuralDataset) -> None:
    """Write a data set as a .npz file that `read_arrays` reads; of its tables the ids, as text.

    >>> import tempfile
    >>> from strflab import data
    >>> file = Path(tempfile.mkdtemp(), "mine.npz")
    >>> write_arrays(file, data.load("simulated", n_neurons=1, n_clips=2, seconds=1.0))
    >>> read_arrays(file).n_frames
    [200, 200]
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path={str(path)!r}: must end in .npz")
    arrays: dict[str, Any] = {"dt_ms": ds.dt_ms, "frequencies": ds.frequencies}
    for k, (x, y) in enumerate(zip(ds.stimuli, ds.responses)):
        arrays |= {f"stimuli_{k}": x.numpy(), f"responses_{k}": y.numpy()}
    for key, table in zip(TABLES, (ds.neurons, ds.clips)):
        arrays[key] = np.array([str(row.get("id", i)) for i, row in enumerate(table)], dtype=str)
    np.savez_compressed(path, **arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file by key, none of them of objects."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is no .npz file, or is cut short: write it with numpy.savez")
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            try:
                arrays[key] = file[key]
            except (ValueError, zipfile.BadZipFile, EOFError) as error:
                objects = "bject arrays" in str(error)
                why = "holds objects: give each sound a key of its own" if objects else f"is damaged ({error})"
                raise ValueError(f"{path.name}: key {key!r} {why}") from None
    return arrays


def _clips(path: Path, arrays: dict[str, np.ndarray], kind: str, n_dims: int) -> dict[str, np.ndarray]:
    """The sounds, or the responses (N, R, T_k), by the keys that name them."""
    numbered = sorted((key for key in arrays if key.startswith(f"{kind}_")), key=lambda key: int(key.rsplit("_", 1)[1]))
    if (kind in arrays) == bool(numbered):
        raise ValueError(
            f"{path.name}: must have {kind!r}, or '{kind}_0' and so on, one a sound" + " not both" * bool(numbered)
        )
    if numbered != (wanted := [f"{kind}_{k}" for k in range(len(numbered))]):
        raise ValueError(f"{path.name}: key {next(w for w, n in zip(wanted, numbered) if w != n)!r} is missing")
    found = {key: arrays[key] for key in numbered} or {f"{kind}[{k}]": one for k, one in enumerate(arrays[kind])}
    shape = {"stimuli": "(F, T)", "responses": "(N, R, T) or (N, T)"}[kind]
    for key, one in found.items():
        if one.dtype.kind not in "fiub":
            raise ValueError(f"{path.name}: key {key!r} holds {one.dtype}: must be numbers")
        if kind == "responses" and one.ndim == 2:
            one = found[key] = one[:, None]
        if one.ndim != n_dims:
            raise ValueError(f"{path.name}: key {key!r} has shape {one.shape}: must be {shape}")
    if not found:
        raise ValueError(f"{path.name}: key {kind!r} holds no sound")
    return found


def _check_pair(file: str, key: str, x: np.ndarray, its: str, y: np.ndarray, n_bands: int, n_neurons: int) -> None:
    """Raise ValueError unless a sound (F, T) and its responses (N, R, T) belong together."""
    if x.shape[0] != n_bands:
        turned = ": is it transposed?" if x.shape[1] == n_bands else ""
        raise ValueError(f"{file}: key {key!r} has {x.shape[0]} bands, 'frequencies' has {n_bands}{turned}")
    if y.shape[0] != n_neurons:
        raise ValueError(f"{file}: key {its!r} has {y.shape[0]} neurons, the first has {n_neurons}")
    if x.shape[1] != y.shape[2]:
        raise ValueError(f"{file}: key {its!r} has {y.shape[2]} frames, {key!r} has {x.shape[1]}")
    if not np.isfinite(x).all():
        raise ValueError(f"{file}: key {key!r} holds NaN or infinity: a sound must be finite")
    if np.isinf(y).any():
        raise ValueError(f"{file}: key {its!r} holds infinity: must be finite, or NaN where nothing was recorded")


def _table(path: Path, arrays: dict[str, np.ndarray], key: str, size: int) -> list[dict[str, Any]] | None:
    if key not in arrays:
        return None
    if arrays[key].shape != (size,):
        raise ValueError(f"{path.name}: key {key!r} has shape {arrays[key].shape}: must be ({size},), a name each")
    return [{"id": value} for value in arrays[key].tolist()]


def _known() -> str:
    return ", ".join([*SETTINGS, "stimuli_0 ...", "responses_0 ...", "stimuli", "responses", *TABLES])
