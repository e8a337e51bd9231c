"""Recordings as parsed: named arrays and a table of neurons in one safetensors file, whole or not at all."""

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


def read(path: Path) -> Parsed:
    """Return the arrays and the neurons of a file that `write` made.

    Raises
    ------
    ValueError : its content is not what was written
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        facts = file.metadata()
    if facts["sha256"] != _digest(arrays):
        raise ValueError("its content does not match its SHA-256")
    return arrays, json.loads(facts["neurons"])


def write(path: Path, arrays: dict[str, np.ndarray], neurons: list[dict[str, Any]]) -> None:
    """Write arrays by name and a record a neuron to `path`; its folder is made if need be."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".parsed-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        save_file(arrays, staged, metadata={"neurons": json.dumps(neurons), "sha256": _digest(arrays)})
        os.replace(staged, path)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
