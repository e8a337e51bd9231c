"""What a chapter computed from a recording, kept with how it came about.

A result is a set of named arrays in one safetensors file of results/, whose header holds the provenance. It is enough
to redraw every figure and judge every claim of its chapter where the recording is not at hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from strflab.results.folder import folder

if TYPE_CHECKING:
    from strflab.data import NeuralDataset
    from strflab.report import Run

VERSION = 1  # of the file's form


@dataclass(frozen=True)
class Result:
    """Arrays by name, and how they came about; `stored` tells whether they were read rather than just computed."""

    name: str
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]
    stored: bool

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise KeyError(f"{name!r} is not in the result {self.name!r}: it holds {', '.join(self.arrays)}")
        return self.arrays[name]


def available() -> list[str]:
    """Names of the results that are here."""
    return sorted(path.stem for path in folder().glob("*.safetensors"))


def save(name: str, arrays: Mapping[str, ArrayLike], provenance: Mapping[str, Any]) -> Path:
    """Write a result, whole or not at all.

    Parameters
    ----------
    name : one result a name; a former one is replaced
    arrays : numbers of any shape, by name
    provenance : JSON values: data set, device, date, seed ...
    """
    from safetensors.numpy import save_file

    path = folder() / f"{_checked(name)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"version": str(VERSION), "provenance": json.dumps(dict(provenance))}
    partial = path.with_suffix(".partial")
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, partial, metadata=header)
    os.replace(partial, path)
    return path


def load(name: str) -> Result:
    """Read a result.

    Raises
    ------
    FileNotFoundError : no result of that name
    ValueError : the file was written in another form, or is damaged
    """
    from safetensors import SafetensorError, safe_open

    path = folder() / f"{_checked(name)}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no result {name!r} in {folder()}: there are {', '.join(available()) or 'none'}")
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it from version control, or run its chapter") from None
    if header.get("version") != str(VERSION):
        raise ValueError(f"{path} has version {header.get('version')!r}, must be {VERSION}: run its chapter again")
    return Result(name, arrays, json.loads(header["provenance"]), stored=True)


def recorded(name: str, arrays: Mapping[str, ArrayLike], dataset: NeuralDataset, run: Run) -> Result:
    """Return what a chapter shows: `arrays` if they come from the recording, else the stored result of one that did.

    A full run on the recording is stored. Where the data set is simulated for want of the recording, the stored
    result takes the place of `arrays`, and a banner says so.

    Parameters
    ----------
    name : of the result
    arrays : what this run computed from `dataset`
    dataset : a recording, or the simulated set that stands in for it
    run : of `strflab.report.setup`
    """
    from strflab import report

    if dataset.name != "simulated":
        provenance = report.record(run, dataset)
        fresh = {key: np.asarray(value) for key, value in arrays.items()}
        if run.full:
            save(name, fresh, provenance)
        return Result(name, fresh, provenance, stored=False)
    result = load(name)
    came = result.provenance
    data = ", ".join(d["name"] for d in came["datasets"])
    report.banner(
        f"The recording is not here. What follows is drawn from the stored result of a run on {data} "
        f"({came['date']}, {came['device']}, commit {came['commit'] or 'unknown'})."
    )
    return result


def _checked(name: str) -> str:
    if not isinstance(name, str) or not name or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"name={name!r}: must be made of letters, digits, '_' and '-'")
    return name
