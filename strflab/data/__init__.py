"""Recordings and simulated populations, all as one container, `NeuralDataset`.

>>> from strflab import data
>>> ds = data.load("simulated", n_neurons=2, n_clips=3)
>>> ds.n_neurons, ds.n_clips, ds.dt_ms
(2, 3, 5.0)

A recording of your own comes from `from_spike_times`, `from_nwb` or arrays. Published ones are looked for in
$STRFLAB_DATA, then in the user's cache, then fetched: see `strflab.data.fetch`.
"""

from __future__ import annotations

import html
import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strflab.cache import cache_root
from strflab.data import fetch, nat4, ns1, parsed, simulate, zebra_finch
from strflab.data.arrays import read_arrays
from strflab.data.dataset import Batch, NeuralDataset
from strflab.data.example import write_example
from strflab.data.fetch import RecordingUnavailable
from strflab.data.nwb import from_nwb
from strflab.data.recording import from_spike_times
from strflab.data.sound_files import read_wav
from strflab.data.spectrogram import cochleagram, gaussian_spectrogram, log_band_spectrogram
from strflab.data.spikes import count_spikes, read_spike_times

__all__ = [
    "Batch",
    "NeuralDataset",
    "RecordingUnavailable",
    "available",
    "cochleagram",
    "count_spikes",
    "from_nwb",
    "from_spike_times",
    "gaussian_spectrogram",
    "is_here",
    "load",
    "load_or_simulate",
    "log_band_spectrogram",
    "read",
    "read_spike_times",
    "read_wav",
    "verify",
    "where",
    "write_example",
]


@dataclass(frozen=True)
class _Source:
    load: Callable[..., NeuralDataset]
    what: str
    size: str
    licence: str
    citation: str
    remote: fetch.Remote | None = None
    stand_in: Callable[..., NeuralDataset] | None = None
    here: Callable[[], bool] | None = None  # where committed hashes do not say which files it takes


_SOURCES = {
    "zebra_finch": _Source(
        zebra_finch.load,
        zebra_finch.WHAT,
        "2.5 MB",
        zebra_finch.LICENCE,
        zebra_finch.CITATION,
        zebra_finch.REMOTE,
        zebra_finch.stand_in,
    ),
    "ns1": _Source(
        ns1.load, ns1.WHAT, "155 MB to fetch, 100 MB kept", ns1.LICENCE, ns1.CITATION, ns1.REMOTE, ns1.stand_in
    ),
    "nat4": _Source(
        nat4.load,
        nat4.WHAT,
        "an archive an area; the parsed form takes 0.3 GB (A1)",
        nat4.LICENCE,
        nat4.CITATION,
        nat4.REMOTE,
        nat4.stand_in,
        nat4.is_here,
    ),
    "simulated": _Source(
        simulate.simulate,
        "neurons with known receptive fields and nonlinearities, synthetic sound",
        "nothing to fetch",
        simulate.LICENCE,
        simulate.CITATION,
    ),
}


class Table(list[dict[str, str]]):
    """A list of records, all with the same keys, that prints as a table."""

    def __repr__(self) -> str:
        return "\n\n".join("\n".join(f"{key:<9} {value}" for key, value in row.items()) for row in self)

    def _repr_html_(self) -> str:
        def cells(tag: str, values: Any) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(str(v))}</{tag}>" for v in values) + "</tr>"

        head = cells("th", self[0]) if self else ""
        return f"<table><thead>{head}</thead><tbody>{''.join(cells('td', r.values()) for r in self)}</tbody></table>"


def available() -> Table:
    """Return what `load` knows: name, what, size, licence, citation, and whether it is on this machine.

    >>> [row["name"] for row in available()]
    ['zebra_finch', 'ns1', 'nat4', 'simulated']
    """
    return Table(
        {
            "name": name,
            "what": source.what,
            "size": source.size,
            "licence": source.licence,
            "citation": source.citation,
            "here": "yes" if is_here(name) else "no",
        }
        for name, source in _SOURCES.items()
    )


def is_here(name: str) -> bool:
    """Return whether `load(name)` needs no network.

    >>> is_here("simulated")
    True
    """
    source = _source(name)
    if source.here is not None:
        return source.here()
    cached = name == "ns1" and ns1.parsed_path().is_file()
    return source.remote is None or cached or fetch.locate(name, source.remote.hashes) is not None


def where(name: str) -> Path | None:
    """Return the folder that holds a recording, as published or as parsed; None if it is not here or needs no files.

    Parameters
    ----------
    name : a name that `available` lists

    >>> where("simulated") is None
    True
    """
    source = _source(name)
    if source.remote is None or not is_here(name):
        return None
    for folder in fetch.data_folders(name):
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    return cache_root() / "parsed"


def verify(name: str) -> int:
    """Check the files of a recording against their published SHA-256; return how many there are.

    It is 0 where nothing can be checked: `simulated` has no files, the sums of `nat4` are not known.

    Parameters
    ----------
    name : a name that `available` lists

    Raises
    ------
    RecordingUnavailable
        If its published files are not here.
    ValueError
        If a file is damaged; the message says which and what to do.
    """
    remote = _source(name).remote
    if remote is None or not remote.pinned:
        return 0
    folder = fetch.locate(name, remote.hashes)
    if folder is None:
        raise fetch.unavailable(remote, "a check fetches nothing")
    fetch.verify(folder, remote.hashes)
    return len(remote.hashes)


def load(name: str, **options: Any) -> NeuralDataset:
    """Return a recording or a simulated set, fetching the recording if it is not here.

    Parameters
    ----------
    name : {"zebra_finch", "ns1", "nat4", "simulated"}
    **options
        Those of `zebra_finch.load` (dt_ms, spectrogram), `ns1.load` (units), `nat4.load` (area, normalized) or
        `simulate.simulate`.

    Raises
    ------
    RecordingUnavailable
        If the recording is neither here nor to be had; the message says what to do.
    ValueError
        If the name or an option is unknown or wrong.

    >>> load("simulated", n_neurons=1, n_clips=1).responses[0].shape
    torch.Size([1, 10, 1000])
    """
    source = _source(name)
    allowed = list(inspect.signature(source.load).parameters)
    if unknown := [option for option in options if option not in allowed]:
        raise ValueError(f"{unknown[0]!r} is not an option of {name!r}: use {', '.join(allowed)}")
    return source.load(**options)


def read(path: str | Path) -> NeuralDataset:
    """Return the data set that `NeuralDataset.save` wrote to a file, or that numpy.savez did.

    Parameters
    ----------
    path : of a file in the safetensors format, or a .npz file with the arrays ``dt_ms`` (), ms; ``frequencies`` (F,),
        Hz; ``stimuli_k`` (F, T_k) and ``responses_k`` (N, R_k, T_k) or (N, T_k), k = 0, 1, ..., one pair a sound, or
        ``stimuli`` (K, F, T) and ``responses`` (K, N, R, T) or (K, N, T) for sounds of one length; optional
        ``neurons`` (N,) and ``clips`` (K,) with names

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or another kind of file; of a .npz file the key that is wrong is named.
    """
    path = Path(path)
    return read_arrays(path) if path.suffix == ".npz" else parsed.load(path)


def load_or_simulate(name: str, **options: Any) -> NeuralDataset:
    """Return a recording, or, if it cannot be had, a simulated set of its shape under a visible banner.

    Parameters and errors are those of `load`, less RecordingUnavailable. The name of the set says which it is.
    """
    try:
        return load(name, **options)
    except RecordingUnavailable as error:
        stand_in = _source(name).stand_in
        if stand_in is None:
            raise
        _show_banner(name, str(error))
        return stand_in(**options)


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise ValueError(f"name={name!r}: must be one of {', '.join(map(repr, _SOURCES))}")
    return _SOURCES[name]


def _show_banner(name: str, why: str) -> None:
    """Say that what follows is simulated: as a box in a notebook, as a warning elsewhere."""
    heading = f"SIMULATED DATA, not the recording {name!r}: what follows says nothing about real neurons."
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        from IPython.display import HTML, display

        if getattr(shell, "kernel", None) is not None:
            style = "border:3px solid #b00;padding:0.6em 1em;margin:0.6em 0;color:#600;background:#fff4f0"
            box = f'<div role="note" style="{style}"><b>{html.escape(heading)}</b><br>{html.escape(why)}</div>'
            display(HTML(box))
            return
    warnings.warn(f"{heading} {why}", stacklevel=3)
