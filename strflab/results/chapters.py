"""What a chapter computed from a recording, kept with how it came about.

A result is a set of named arrays in one safetensors file of results/, whose header holds the provenance. It is enough
to redraw every figure and judge every claim of its chapter where the recording is not at hand. A chapter that is quick
computes anew and calls `recorded`; one whose fits take long calls `computed`, which runs them once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    """Arrays by name, and how they came about.

    stored : they were read rather than just computed
    absent : and that because the recording is not here

    Parameters
    ----------
    name : of the result
    arrays : by name
    provenance : how they came about, as `strflab.report.record` tells it
    """

    name: str
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]
    stored: bool
    absent: bool = False

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
    save_file({key: np.asarray(value, order="C") for key, value in arrays.items()}, partial, metadata=header)
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
        raise FileNotFoundError(
            f"no result {name!r} in {folder()}, which holds {', '.join(available()) or 'none'}: name the folder "
            "results/ of a clone in STRFLAB_RESULTS"
        )
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
    return _stand_in(name)


def computed(
    name: str,
    compute: Callable[[], Mapping[str, ArrayLike]],
    dataset: NeuralDataset,
    run: Run,
    *,
    version: int = 1,
    refit: bool = False,
    verify: Callable[[Result, NeuralDataset], None] | None = None,
) -> Result:
    """Return what a chapter shows of fits that take long: computed once, in a full run on the recording, then read.

    The key of a result is its name, its version and the recording's fingerprint. Where the recording is not at hand
    the stored result is shown, and a banner says so.

    Parameters
    ----------
    name : of the result
    compute : runs the fits and returns the arrays
    dataset : a recording, or the simulated set that stands in for it
    run : of `strflab.report.setup`
    version : of what `compute` does; a stored result of another version is not shown
    refit : compute it again, and store it, in any profile
    verify : is given the stored result and the recording, and raises ValueError if the one does not follow from the
        other

    Raises
    ------
    ValueError : this is no full run, and the stored result is of another version or of other data
    FileNotFoundError : this is no full run, and there is no stored result
    """
    from strflab import report

    if dataset.name == "simulated":
        return _stand_in(name)
    key = hashlib.sha256(json.dumps([name, version, dataset.fingerprint()]).encode()).hexdigest()[:16]
    if not refit and (name in available() or not run.full):
        kept = load(name)
        if kept.provenance.get("key") == key:
            if verify is not None:
                verify(kept, dataset)
            return kept
        if not run.full:
            raise ValueError(
                f"the stored result {name!r} is of other data or of another version of the analysis: run the chapter "
                "with profile='full', or with refit=True"
            )
    started = time.perf_counter()
    arrays = {label: np.asarray(value) for label, value in compute().items()}
    told = report.record(run, dataset)
    told |= {"key": key, "profile": "full", "seconds": round(time.perf_counter() - started, 1)}
    save(name, arrays, told)
    return Result(name, arrays, told, stored=False)


def _stand_in(name: str) -> Result:
    """The stored result, under a banner that says why."""
    from strflab import report

    result = load(name)
    came = result.provenance
    data = ", ".join(d["name"] for d in came["datasets"])
    report.banner(
        f"The recording is not here. What follows is drawn from the stored result of a run on {data} "
        f"({came['date']}, {came['device']}, commit {came['commit'] or 'unknown'})."
    )
    return replace(result, absent=True)


def _checked(name: str) -> str:
    if not isinstance(name, str) or not name or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"name={name!r}: must be made of letters, digits, '_' and '-'")
    return name
