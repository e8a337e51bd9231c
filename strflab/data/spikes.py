"""Spike times: read from text, checked, and counted in the frames of a sound.

Frame t of a sound holds the spikes at [t dt, (t + 1) dt) after its onset. Times are in seconds, as in neo
and NWB.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strflab.validation import choice, integer, number

PER_SECOND = {"s": 1, "ms": 1000}
EDGE = 1e-6  # of a frame: a time this close to a boundary is meant to be on it (1.001 s is not 1001 ms in binary)


def frames_of(times: ArrayLike, dt_ms: float) -> np.ndarray:
    """Return the frame floor(t / dt) of each time in seconds; what precedes the onset has a negative one.

    >>> frames_of([0.0, 0.0049, 0.005, 1.001], 1.0).tolist()
    [0, 4, 5, 1001]
    """
    position = np.asarray(times, np.float64) * 1000 / dt_ms
    nearest = np.rint(position)
    return np.where(np.abs(position - nearest) <= EDGE, nearest, np.floor(position)).astype(np.int64)


def count_spikes(trials: Iterable[ArrayLike | None], dt_ms: float, n_frames: int) -> np.ndarray:
    """Return the spikes in each frame, (R, T) float32; a spike outside the `n_frames` frames is left out.

    Parameters
    ----------
    trials : spike times of each trial, s from the onset of the sound, in any order; empty for a trial without spikes,
        None for one that was not recorded, which is NaN
    dt_ms : length of a frame, ms
    n_frames : T

    Raises
    ------
    ValueError : a trial is not a list of finite times

    >>> count_spikes([[0.0, 0.0049, 0.005, 0.099], [], None], 5.0, 3).tolist()
    [[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [nan, nan, nan]]
    """
    number("dt_ms", dt_ms, above=0)
    integer("n_frames", n_frames)
    trials = list(trials)
    counts = np.zeros((len(trials), n_frames), np.float32)
    for r, (row, times) in enumerate(zip(counts, trials)):
        if times is None:
            row[:] = np.nan
            continue
        frames = frames_of(seconds(times, f"trials[{r}]"), dt_ms)
        np.add.at(row, frames[(frames >= 0) & (frames < n_frames)], 1)
    return counts


def seconds(times: Any, where: str) -> np.ndarray:
    """Return the times (n,) of one trial in s; those with a unit of their own (neo, quantities) are converted."""
    if hasattr(times, "rescale"):
        times = times.rescale("s").magnitude
    try:
        array = np.asarray(times, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be the spike times of one trial, in s, got {times!r:.60}") from None
    if array.ndim != 1:
        raise ValueError(f"{where} must be the spike times of one trial, a list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{where} holds NaN or infinity: leave out what pads a rectangular table, and write [] for a trial without "
            "spikes"
        )
    return array


def read_spike_times(path: str | Path, unit: str = "s") -> list[np.ndarray]:
    """Return the spike times of each trial, in s, from a text file with a row a trial.

    Parameters
    ----------
    path : of the file; times are separated by spaces, tabs or commas, and an empty row is a trial without spikes
    unit : "s" or "ms", what the file's times are in

    Raises
    ------
    ValueError : a row holds anything but finite numbers; the message names the file and the row
    """
    per_second = PER_SECOND[choice("unit", unit, tuple(PER_SECOND))]
    rows = Path(path).read_text("utf8").removesuffix("\n").split("\n")
    trials = []
    for row, text in enumerate(rows, start=1):
        try:
            trials.append(np.array(text.replace(",", " ").split(), dtype=float) / per_second)
        except ValueError as error:
            raise ValueError(f"{path}: row {row} must hold spike times in {unit}: {error}") from None
        if not np.isfinite(trials[-1]).all():
            raise ValueError(f"{path}: row {row} has a spike time that is not finite")
    return trials
