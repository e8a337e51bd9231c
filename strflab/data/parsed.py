"""Recordings as parsed: named arrays and a table of neurons in one safetensors file, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def read(path: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
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
