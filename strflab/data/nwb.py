"""Recordings in the NWB format (Neurodata Without Borders; Ruebel et al. 2022, doi:10.7554/eLife.78362), through pynwb.

What is used of a file: `units`, whose spike times are seconds of the session; a table of trials, whose rows say when a
sound began and which it was; and the sounds, which lie in the file or beside it. All trials of one sound are a clip, in
the order of time.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strflab.data.dataset import NeuralDataset, Record
from strflab.data.recording import from_spike_times
from strflab.data.sound_files import one_channel, read_wav
from strflab.validation import number


def from_nwb(
    path: str | Path,
    sounds: Mapping[str, Any] | str | Path | None = None,
    dt_ms: float = 5.0,
    *,
    series: str | None = None,
    intervals: str = "trials",
    stimulus_column: str = "stimulus",
    onset_column: str = "start_time",
    trials: Callable[[Record], bool] | None = None,
    sample_rate: float | None = None,
    channel: int | None = None,
    pre_s: float = 0.0,
    post_s: float = 0.0,
    **options: Any,
) -> NeuralDataset:
    """Return the data set of an NWB file: a clip a sound, its trials as repeats, a neuron a unit.

    Parameters
    ----------
    path : of the file
    sounds : where the sounds are. A folder, in which the trials' names of sounds are files (with or without ".wav"); a
        mapping from these names to paths or waveforms (samples,) at `sample_rate`; None: in the file, as time series
        of these names among its stimulus templates or stimuli, or in one long `series`
    dt_ms : length of a frame, ms
    series : name of a time series among the file's stimuli or acquisitions that holds the sound of the whole session;
        a clip is cut from it from the onset to the end (`stop_time`) of the sound's shortest trial
    intervals : name of the table of trials
    stimulus_column, onset_column : its columns that say which sound was heard, and when it began, s
    trials : function of a record of that table that says whether to use it; None: all
    sample_rate, channel, pre_s, post_s, **options : see `from_spike_times`

    Units with `obs_intervals` have only the trials that lie in these as a whole; others are NaN. Columns of `units`
    with a number or a text a unit become the table `neurons`.

    Raises
    ------
    ImportError : pynwb is not installed
    FileNotFoundError : the file, or a sound, is not there
    ValueError : the file lacks units, trials, a column or a sound; the message names it and says what there is
    """
    with _opened(path) as nwb:
        if nwb.units is None or "spike_times" not in nwb.units.colnames or not len(nwb.units):
            raise ValueError(f"{path}: has no units with spike_times")
        heard = _trials(nwb, path, intervals, (stimulus_column, onset_column), trials)
        rows: dict[str, list[Record]] = {}  # by sound, in the order in which they were first heard
        for record in sorted(heard, key=lambda r: r[onset_column]):
            rows.setdefault(str(record[stimulus_column]), []).append(record)
        if series is not None:
            waveforms, rate = _cut(nwb, path, series, rows, onset_column, channel)
        else:
            waveforms, rate = _separate(nwb, path, sounds, list(rows), sample_rate, channel)
        pre, post = number("pre_s", pre_s, at_least=0), number("post_s", post_s, at_least=0)
        units = [_unit(nwb.units, i) for i in range(len(nwb.units))]
        spike_times = [
            [[_window(*unit, float(r[onset_column]), pre, len(x) / rate + post) for r in records] for unit in units]
            for records, x in zip(rows.values(), waveforms)
        ]
        if not any(len(t) for clip in spike_times for unit in clip for t in unit if t is not None):
            raise ValueError(
                f"{path}: no unit has a spike in any trial; are {onset_column} and spike_times on one clock?"
            )
        about = {"description": str(nwb.session_description or ""), "name": str(nwb.identifier)}
        return from_spike_times(
            waveforms,
            spike_times,
            dt_ms,
            sample_rate=rate,
            pre_s=pre_s,
            post_s=post_s,
            neurons=_records(nwb.units, {"spike_times", "obs_intervals"}),
            clips=[{"sound": name} for name in rows],
            **(about | options),
        )


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        from pynwb import NWBHDF5IO
    except ImportError:
        raise ImportError('reading NWB files needs pynwb: pip install "strflab[nwb]"') from None
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="hdmf|pynwb")  # of namespaces that the file brings along
        with NWBHDF5IO(str(path), "r") as io:
            yield io.read()


def _trials(
    nwb: Any, path: str | Path, name: str, columns: tuple[str, ...], keep: Callable[[Record], bool] | None
) -> list[Record]:
    there = [*(nwb.intervals or {}).values(), nwb.trials, nwb.epochs]
    tables = {table.name: table for table in there if table is not None}
    if name not in tables:
        raise ValueError(f"intervals={name!r}: {path} has {', '.join(map(repr, tables)) or 'no table of trials'}")
    for column in columns:
        if column not in tables[name].colnames:
            raise ValueError(
                f"{column!r} is no column of {name!r} in {path}: it has {', '.join(tables[name].colnames)}"
            )
    records = [r for r in _records(tables[name], set()) if keep is None or keep(r)]
    if not records:
        raise ValueError(f"{path}: no trial is left of {len(tables[name])}")
    for column in columns:
        if column not in records[0]:
            raise ValueError(f"{column!r} of {name!r} in {path}: must hold one name or number a row")
    return records


def _records(table: Any, without: set[str]) -> list[Record]:
    """Return the rows of a table, their columns with one number or text a row."""
    records: list[Record] = [{"id": int(i)} for i in table.id[:]]
    for name in table.colnames:
        if name in without or hasattr(table, f"{name}_index"):  # a ragged column
            continue
        values = table[name].data[:]
        if len(values) == len(records) and all(np.ndim(v) == 0 for v in values):
            for record, value in zip(records, values):
                value = value.item() if hasattr(value, "item") else value
                if isinstance(value, bytes):
                    value = value.decode("utf8")
                if isinstance(value, bool | int | float | str):  # not a reference to another part of the file
                    record[name] = value
    return records


def _separate(
    nwb: Any, path: str | Path, sounds: Any, names: list[str], sample_rate: float | None, channel: int | None
) -> tuple[list[np.ndarray], float]:
    """Return the waveform of each named sound, and their rate."""
    inside = {**(nwb.stimulus or {}), **(nwb.stimulus_template or {})}
    found = []
    for name in names:
        if isinstance(sounds, str | Path):
            file = Path(sounds) / name
            found.append(read_wav(file if file.is_file() else file.with_name(file.name + ".wav"), channel))
            continue
        known = inside if sounds is None else {str(key): sound for key, sound in sounds.items()}
        if name not in known:
            where = f"the stimuli and templates of {path}" if sounds is None else "sounds"
            raise ValueError(
                f"sounds: {name!r}, a sound of the trials, is not in {where} ({', '.join(known) or 'which are none'})"
            )
        sound = known[name]
        if isinstance(sound, str | Path):
            found.append(read_wav(sound, channel))
        elif sounds is None:
            found.append(_signal(sound, channel))
        else:
            rate = number("sample_rate", sample_rate, above=0)
            found.append((one_channel(np.asarray(sound), channel, f"sounds[{name!r}]"), rate))
    for name, (_, rate) in zip(names, found):
        if rate != found[0][1]:
            raise ValueError(
                f"sounds: {name!r} is at {rate:g} Hz, {names[0]!r} at {found[0][1]:g} Hz: bring all to one rate first"
            )
    return [x for x, _ in found], found[0][1]


def _cut(
    nwb: Any, path: str | Path, name: str, rows: dict[str, list[Record]], onset_column: str, channel: int | None
) -> tuple[list[np.ndarray], float]:
    """Return the waveform of each sound, cut from the sound of the session, and its rate."""
    known = {**(nwb.acquisition or {}), **(nwb.stimulus or {})}
    if name not in known:
        raise ValueError(f"series={name!r}: {path} has {', '.join(map(repr, known)) or 'none'}")
    signal, rate = _signal(known[name], channel)
    began = (
        float(known[name].starting_time or 0.0) if known[name].rate is not None else float(known[name].timestamps[0])
    )
    waveforms = []
    for sound, records in rows.items():
        shortest = min(float(r["stop_time"]) - float(r[onset_column]) for r in records)
        first = round((float(records[0][onset_column]) - began) * rate)
        last = first + int(shortest * rate + 1e-6)
        if not 0 <= first < last <= len(signal):
            raise ValueError(
                f"series={name!r}: does not cover the first trial of {sound!r}, at {records[0][onset_column]} s"
            )
        waveforms.append(signal[first:last])
    return waveforms, rate


def _signal(series: Any, channel: int | None) -> tuple[np.ndarray, float]:
    """Return the samples of a time series, float32, and its rate in Hz."""
    where = f"time series {series.name!r}"
    samples = one_channel(np.asarray(series.data[:], np.float64), channel, where)
    if series.rate is not None:
        rate = float(series.rate)
    else:
        steps = np.diff(series.timestamps[:])
        if not len(steps) or np.ptp(steps) > 0.01 * steps.mean():
            raise ValueError(f"{where}: its timestamps are not regular, so it has no sample rate")
        rate = float(1 / steps.mean())
    return (samples * (series.conversion or 1.0) + (series.offset or 0.0)).astype(np.float32), rate


def _unit(units: Any, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the sorted spike times of a unit, s of the session, and when it was observed, (n, 2) or None."""
    observed = np.asarray(units["obs_intervals"][i]) if "obs_intervals" in units.colnames else None
    return np.sort(np.asarray(units["spike_times"][i], np.float64)), observed


def _window(
    spikes: np.ndarray, observed: np.ndarray | None, onset: float, pre: float, after: float
) -> np.ndarray | None:
    """Return the spikes from `pre` before to `after` the onset, s from it; None if that was not observed as a whole."""
    start, stop = onset - pre, onset + after
    if observed is not None and not ((observed[:, 0] <= start) & (stop <= observed[:, 1])).any():
        return None
    first, last = np.searchsorted(spikes, [start - 1e-9, stop])
    return spikes[first:last] - onset
