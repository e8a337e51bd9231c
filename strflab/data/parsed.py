"""Recordings as parsed: named arrays and a table of neurons in one safetensors file, whole or not at all.

`save` and `load` keep a whole `NeuralDataset` in such a file: nothing is pickled, and a damaged file is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from strflab.data.dataset import NeuralDataset

FORMAT = "strflab dataset 1"
Parsed = tuple[dict[str, np.ndarray], list[dict[str, Any]]]


def kept(path: Path, parse: Callable[[], Parsed]) -> Parsed:
    """Return what `parse` returns, from `path` if it is there and whole; else it is parsed and kept there.

    A file that is damaged, or that cannot be written, is a warning.
    """
    if path.is_file():
        try:
            return read(path)
        except Exception as error:  # a truncated file fails in many ways; all mean: parse again
            warnings.warn(f"{path} is damaged ({error}): parsing the recording again", stacklevel=4)
    arrays, neurons = parse()
    try:
        write(path, arrays, neurons)
    except OSError as error:
        warnings.warn(f"cannot keep the parsed recording ({error}): set STRFLAB_CACHE", stacklevel=4)
    return arrays, neurons


def save(ds: NeuralDataset, path: Path) -> None:
    """Write a data set to `path`: see `NeuralDataset.save`."""
    if ds.truth is not None:
        raise ValueError("the set is simulated, and its truth cannot be saved: make it again from its seed")
    arrays = {"frequencies": ds.frequencies}
    for k in range(ds.n_clips):
        arrays |= {f"stimuli.{k}": ds.stimuli[k].numpy(), f"responses.{k}": ds.responses[k].numpy()}
        if ds.waveforms is not None:
            arrays[f"waveforms.{k}"] = ds.waveforms[k].numpy()
    facts = {"dt_ms": ds.dt_ms, "sample_rate": ds.sample_rate, "clips": ds.clips}
    facts |= {name: getattr(ds, name) for name in ("name", "licence", "citation", "description")}
    try:
        text = json.dumps(facts)
        json.dumps(ds.neurons)
    except TypeError as error:
        raise ValueError(f"neurons and clips: only numbers and text can be saved ({error})") from None
    write(path, {name: np.ascontiguousarray(a) for name, a in arrays.items()}, ds.neurons, format=FORMAT, facts=text)


def load(path: Path) -> NeuralDataset:
    """Return the data set that `save` wrote: see `strflab.data.read`."""
    from safetensors import SafetensorError

    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        arrays, metadata = _read(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, or not written by NeuralDataset.save ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: format {metadata.get('format')!r} is not {FORMAT!r}")
    facts = json.loads(metadata["facts"])
    n_clips = len(facts["clips"])
    return NeuralDataset(
        [arrays[f"stimuli.{k}"] for k in range(n_clips)],
        [arrays[f"responses.{k}"] for k in range(n_clips)],
        frequencies=arrays["frequencies"],
        neurons=json.loads(metadata["neurons"]),
        waveforms=None if facts["sample_rate"] is None else [arrays[f"waveforms.{k}"] for k in range(n_clips)],
        **facts,
    )


def read(path: Path) -> Parsed:
    """Return the arrays and the neurons of a file that `write` made.

    Raises
    ------
    ValueError : its content is not what was written
    """
    arrays, metadata = _read(path)
    return arrays, json.loads(metadata["neurons"])


def write(path: Path, arrays: dict[str, np.ndarray], neurons: list[dict[str, Any]], **metadata: str) -> None:
    """Write arrays by name, a record a neuron and further text to `path`; its folder is made if need be."""
    from safetensors.numpy import save_file

    metadata |= {"neurons": json.dumps(neurons), "sha256": _digest(arrays)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".parsed-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        save_file(arrays, staged, metadata=metadata)
        os.replace(staged, path)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        metadata = file.metadata()
    if metadata["sha256"] != _digest(arrays):
        raise ValueError("its content does not match its SHA-256")
    return arrays, metadata


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
