"""Receptive fields: one, many on one scale, those of hidden units, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import (
    DIVERGING,
    MODEL,
    REFERENCE,
    SEQUENTIAL,
    as_matrix,
    band_edges,
    frequency_axis,
    midpoints,
    symmetric_colorbar,
)
from strflab.plotting.sounds import rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure


def strf(
    ax: Axes,
    field: ArrayLike,
    dt_ms: float,
    frequencies: ArrayLike | None = None,
    vmax: float | None = None,
    labels: bool = True,
    first_lag: float = 0.0,
) -> QuadMesh:
    """Draw one receptive field.

    Parameters
    ----------
    ax : axes to draw into
    field : (F, T) weights, last tap at lag 0
    dt_ms : frame length, ms
    frequencies : (F,) centre frequencies, Hz; None: the axis shows the band's number
    vmax : the colours span -vmax to vmax; None: the field's largest absolute weight
    labels : write the axes' names
    first_lag : lag of the last tap, ms; negative if the field goes on beyond the present
    """
    field = as_matrix("field", field)
    limit = float(np.abs(field).max()) if vmax is None else vmax
    lags = first_lag + (np.arange(field.shape[1] + 1) - 0.5) * dt_ms
    bands = band_edges(frequencies, len(field))
    mesh = ax.pcolormesh(
        lags, bands, field[:, ::-1], cmap=DIVERGING, vmin=-limit or -1, vmax=limit or 1, rasterized=True
    )
    frequency_axis(ax, frequencies, labels)
    ax.set_xlim(lags[0], lags[-1])
    if labels:
        ax.set_xlabel("lag (ms)")
    return mesh


def strf_grid(
    fields: ArrayLike,
    dt_ms: float,
    frequencies: ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    n_columns: int = 4,
    shared_scale: bool = True,
    width: float = 7.0,
    unit: str = "weight",
) -> Figure:
    """Draw receptive fields side by side, by default on one colour scale.

    Parameters
    ----------
    fields : (n, F, T) weights, last tap at lag 0
    dt_ms, frequencies : see `strf`
    titles : one a field
    n_columns, width : of the grid; width of the figure, inches
    shared_scale : one colour scale for all; else each its own, and no colour bar
    unit : what the colour bar says
    """
    import matplotlib.pyplot as plt

    fields = np.asarray(fields, float)
    n_columns = min(n_columns, len(fields))
    n_rows = -(-len(fields) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(width, 0.6 + 1.45 * n_rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",  # also without the book's style
    )
    limit = np.abs(fields).max() if shared_scale else None
    mesh = None
    for i, ax in enumerate(axes.flat):
        if i >= len(fields):
            ax.set_visible(False)
            continue
        mesh = strf(ax, fields[i], dt_ms, frequencies, limit, labels=False)
        if titles is not None:
            ax.set_title(titles[i])
        if i % n_columns == 0:
            frequency_axis(ax, frequencies, True)
        if i + n_columns >= len(fields):
            ax.set_xlabel("lag (ms)")
            ax.tick_params(labelbottom=True)
    if shared_scale and mesh is not None:
        symmetric_colorbar(figure, mesh, list(axes.flat[: len(fields)]), unit)
    return figure


def hidden_strfs(
    fields: ArrayLike,
    weights: ArrayLike,
    dt_ms: float,
    frequencies: ArrayLike | None = None,
    taus_ms: ArrayLike | None = None,
    n_columns: int = 4,
    width: float = 7.0,
) -> Figure:
    """Draw the receptive fields of a neuron's hidden units, with the sign with which the neuron hears each.

    Parameters
    ----------
    fields : (n, F, T) of the units themselves, not multiplied by their weights
    weights : (n,) with which the neuron sums the units
    dt_ms, frequencies : see `strf`
    taus_ms : (n,) time constants of the units, ms; None: they have none
    n_columns, width : see `strf_grid`
    """
    fields, weights = np.asarray(fields, float), np.asarray(weights, float)
    if fields.ndim != 3 or weights.shape != fields.shape[:1]:
        raise ValueError(
            f"weights of shape {weights.shape}: must be one a field, of which there are {fields.shape[:1]}"
        )
    titles = [f"{'excites' if v > 0 else 'inhibits'}, {abs(v):.2g}" for v in weights]
    if taus_ms is not None:
        titles = [f"{title}\nτ {tau:.3g} ms" for title, tau in zip(titles, np.asarray(taus_ms, float), strict=True)]
    figure = strf_grid(fields, dt_ms, frequencies, titles, n_columns, width=width)
    for ax, v in zip(figure.axes, weights):
        ax.title.set_color(MODEL if v > 0 else REFERENCE)
    return figure


def dynamic_strfs(
    fields: ArrayLike,
    frames: Sequence[int],
    dt_ms: float,
    frequencies: ArrayLike | None = None,
    response: ArrayLike | None = None,
    width: float = 7.0,
) -> Figure:
    """Draw the receptive fields that a neuron has at some moments, on one colour scale, in the order of time.

    Parameters
    ----------
    fields : (k, F, T) last tap at lag 0
    frames : (k,) when
    dt_ms, frequencies : see `strf`
    response : (n_frames,) the neuron's rate, spikes per bin, drawn above with these moments marked; None: not drawn
    width : of the figure, inches
    """
    import matplotlib.pyplot as plt

    fields = np.asarray(fields, float)
    if fields.ndim != 3 or len(fields) != len(frames):
        raise ValueError(f"fields of shape {fields.shape}: must be ({len(frames)}, F, T), one a frame")
    times = (np.asarray(frames) + 0.5) * dt_ms / 1000
    n_rows = 1 if response is None else 2
    figure = plt.figure(figsize=(width, 1.3 + 0.7 * n_rows), layout="constrained")
    grid = figure.add_gridspec(n_rows, len(fields), height_ratios=[1, 1.8][2 - n_rows :])
    if response is not None:
        above = figure.add_subplot(grid[0, :])
        rate(above, response, dt_ms)
        for time in times:
            above.axvline(time, color=MODEL, lw=0.8)
    axes: list[Axes] = []
    limit = float(np.abs(fields).max())
    for i, field in enumerate(fields):
        axes.append(figure.add_subplot(grid[-1, i], sharey=axes[0] if axes else None))
        mesh = strf(axes[i], field, dt_ms, frequencies, limit, labels=i == 0)
        axes[i].set_title(f"{times[i]:.3g} s")
        axes[i].tick_params(labelleft=i == 0)
    symmetric_colorbar(figure, mesh, axes, "gradient")
    return figure


def modulation_transfer(
    ax: Axes, gain: ArrayLike, densities: ArrayLike, rates: ArrayLike, unit: str = "octave"
) -> QuadMesh:
    """Draw a modulation transfer function, as a share of its maximum: rising ripples left, falling ones right.

    Parameters
    ----------
    ax : axes to draw into
    gain : (n_densities, n_rates), see `strflab.receptive_fields.ModulationTransfer`
    densities : (n_densities,) cycles a `unit`
    rates : (n_rates,) Hz
    unit : "octave" or "kHz"
    """
    gain = as_matrix("gain", gain)
    edges = (midpoints(np.asarray(v, float)) for v in (rates, densities))
    mesh = ax.pcolormesh(*edges, gain / (gain.max() or 1), cmap=SEQUENTIAL, vmin=0, vmax=1, rasterized=True)
    ax.axvline(0, color="0.5", lw=0.5)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("rate (Hz)")
    ax.set_ylabel(f"density (cycles/{unit})")
    return mesh


def gradient_energy(
    ax: Axes, energy: ArrayLike, lags: ArrayLike, memory: ArrayLike | None = None, label: str | None = None
) -> None:
    """Draw the energy of gradients against lag: of many neurons the median, and a band from quartile to quartile.

    Parameters
    ----------
    ax : axes to draw into
    energy : (T,) or (n, T) share of a field's energy at each lag, the first lag 0; a neuron of NaN is left out
    lags : (T,) ms
    memory : (...) ms, of which the median is marked; None: not marked
    label : of the curve in a legend
    """
    rows = np.atleast_2d(np.asarray(energy, float))
    rows = rows[np.isfinite(rows).all(-1)]
    if not len(rows):
        raise ValueError("energy: must hold a neuron without NaN")
    low, middle, high = np.percentile(rows, [25, 50, 75], axis=0)
    (line,) = ax.semilogy(np.asarray(lags, float), middle, label=label)
    if len(rows) > 1:
        ax.fill_between(np.asarray(lags, float), low, high, color=line.get_color(), alpha=0.25, lw=0)
    if memory is not None:
        ax.axvline(float(np.nanmedian(np.asarray(memory, float))), color=line.get_color(), lw=0.8, ls=":")
    ax.set_ylim(bottom=max(1e-6 * middle.max(), ax.get_ylim()[0]))
    ax.set_xlabel("lag (ms)")
    ax.set_ylabel("share of gradient energy")
