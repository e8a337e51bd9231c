"""Sounds, spikes and firing rates over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import DATA, DIVERGING, MODEL, SEQUENTIAL, as_matrix, band_edges, frequency_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure


def spectrogram(
    ax: Axes, sound: ArrayLike, dt_ms: float, frequencies: ArrayLike | None = None, labels: bool = True
) -> QuadMesh:
    """Draw a spectrogram (F, T), dark where the sound is intense; time in s.

    Parameters
    ----------
    ax : axes to draw into
    sound : (F, T)
    dt_ms : length of a frame, ms
    frequencies : (F,) centres in Hz; None: bands are counted
    labels : name the axes
    """
    sound = as_matrix("sound", sound)
    times = np.arange(sound.shape[1] + 1) * dt_ms / 1000
    mesh = ax.pcolormesh(times, band_edges(frequencies, len(sound)), sound, cmap=SEQUENTIAL, rasterized=True)
    frequency_axis(ax, frequencies, labels)
    if labels:
        ax.set_xlabel("time (s)")
    return mesh


def rate(
    ax: Axes,
    response: ArrayLike,
    dt_ms: float,
    prediction: ArrayLike | None = None,
    error: ArrayLike | None = None,
    names: tuple[str, str] = ("recorded", "predicted"),
) -> None:
    """Draw a firing rate over time, in Hz, and over it the prediction.

    Parameters
    ----------
    ax : axes to draw into
    response : (T,) spikes per bin, a mean over repeats
    dt_ms : bin, ms
    prediction : (T,) spikes per bin
    error : (T,) half-width of the band around the response, spikes per bin (a standard error, say)
    names : what the legend calls the two
    """
    per_second = 1000 / dt_ms
    y = np.asarray(response, float) * per_second
    times = (np.arange(len(y)) + 0.5) * dt_ms / 1000
    if error is None:
        ax.fill_between(times, 0, y, color="0.8", lw=0, label=names[0])
    else:
        band = np.asarray(error, float) * per_second
        ax.fill_between(times, y - band, y + band, color="0.8", lw=0)
        ax.plot(times, y, color=DATA, lw=0.8, label=names[0])
    if prediction is not None:
        ax.plot(times, np.asarray(prediction, float) * per_second, color=MODEL, label=names[1])
        ax.legend(loc="upper right", ncols=2)
    ax.set_xlim(times[0], times[-1])
    ax.set_xlabel("time (s)")
    ax.set_ylabel("rate (Hz)")


def raster(ax: Axes, response: ArrayLike, dt_ms: float) -> None:
    """Draw the spikes of each trial as ticks, the first trial at the bottom; a trial that was not recorded is grey.

    Parameters
    ----------
    ax : to draw in
    response : (R, T) spikes per bin, NaN where nothing was recorded
    dt_ms : bin, ms
    """
    counts = as_matrix("response", response)
    for trial, row in enumerate(counts):
        frames = np.flatnonzero(np.nan_to_num(row) > 0)
        ax.vlines((frames + 0.5) * dt_ms / 1000, trial + 0.6, trial + 1.4, color=DATA, lw=0.8)
        missing = np.flatnonzero(np.isnan(row))
        runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if len(missing) else []
        spans = [(run[0] * dt_ms / 1000, len(run) * dt_ms / 1000) for run in runs]
        if spans:
            ax.broken_barh(spans, (trial + 0.6, 0.8), color="0.9", lw=0)
    ax.set_xlim(0, counts.shape[1] * dt_ms / 1000)
    ax.set_ylim(0.4, len(counts) + 0.6)
    ax.set_yticks([1, len(counts)] if len(counts) > 1 else [1])
    ax.set_xlabel("time (s)")
    ax.set_ylabel("trial")


def trials(
    sound: ArrayLike, response: ArrayLike, dt_ms: float, frequencies: ArrayLike | None = None, width: float = 7.0
) -> Figure:
    """Draw a sound, the spikes of each trial and the rate of one neuron under each other: what to look at first.

    Parameters
    ----------
    sound : (F, T) spectrogram
    response : (R, T) spikes per bin of each trial
    dt_ms, frequencies : see `spectrogram`
    width : of the figure, inches
    """
    import matplotlib.pyplot as plt

    counts = as_matrix("response", response)
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(width, 4.2), sharex=True, layout="constrained")
    spectrogram(top, sound, dt_ms, frequencies)
    raster(middle, counts, dt_ms)
    n_trials = (~np.isnan(counts)).sum(0)
    rate(bottom, np.nansum(counts, 0) / np.where(n_trials > 0, n_trials, np.nan), dt_ms)
    bottom.set_ylim(bottom=0)
    for ax in (top, middle):
        ax.set_xlabel("")
    bottom.set_xlim(0, counts.shape[1] * dt_ms / 1000)
    return figure


def dream(
    axes: tuple[Axes, Axes],
    stimulus: ArrayLike,
    response: ArrayLike,
    dt_ms: float,
    frequencies: ArrayLike | None = None,
) -> QuadMesh:
    """Draw the stimulus (F, T) that drives a neuron most into one axes, and its rate (T,) along it into another.

    The stimulus has the colours of a field, not of a spectrogram: what is below zero is as telling as what is above.

    Parameters
    ----------
    axes : of the stimulus and of the rate
    stimulus : (F, T)
    response : (T,) spikes per bin
    dt_ms : length of a frame, ms
    frequencies : (F,) centres in Hz; None: bands are counted
    """
    stimulus = as_matrix("stimulus", stimulus)
    limit = float(np.abs(stimulus).max()) or 1.0
    times = np.arange(stimulus.shape[1] + 1) * dt_ms / 1000
    bands = band_edges(frequencies, len(stimulus))
    mesh = axes[0].pcolormesh(times, bands, stimulus, cmap=DIVERGING, vmin=-limit, vmax=limit, rasterized=True)
    frequency_axis(axes[0], frequencies)
    rate(axes[1], response, dt_ms)
    for ax in axes:
        ax.set_xlim(times[0], times[-1])
    axes[1].set_ylim(bottom=min(0.0, float(np.asarray(response, float).min()) * 1000 / dt_ms))
    return mesh
