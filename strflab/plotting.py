"""Figures as a physiologist draws them: ms and kHz, colour scales centred on zero, error bands, nothing else.

Every function draws into the axes it is given and returns what it drew. `style()` sets the type and line widths of
the book. Lag grows away from the present: 0 is at the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

DIVERGING, SEQUENTIAL = "RdBu_r", "Greys"
DATA, MODEL, REFERENCE = "0.25", "#c1272d", "#0072b2"  # colours that the common colour blindnesses tell apart


def style() -> None:
    """Set matplotlib up for the book: small sans type, thin axes on two sides, crisp images in notebooks."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "lines.linewidth": 1.2,
            "legend.frameon": False,
            "legend.fontsize": 8,
        }
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # outside a notebook
        return
    set_matplotlib_formats("retina")


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
    field = _matrix("field", field)
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
        n_rows, n_columns, figsize=(width, 0.6 + 1.45 * n_rows), sharex=True, sharey=True, squeeze=False
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


def spectrogram(
    ax: Axes, sound: ArrayLike, dt_ms: float, frequencies: ArrayLike | None = None, labels: bool = True
) -> QuadMesh:
    """Draw a spectrogram (F, T), dark where the sound is intense; time in s."""
    sound = _matrix("sound", sound)
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


def paired_scores(
    ax: Axes, a: ArrayLike, b: ArrayLike, names: tuple[str, str], limits: tuple[float, float] = (0, 1)
) -> None:
    """Draw the scores of two models against each other, one dot a unit, with the diagonal and the medians."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    ax.plot(limits, limits, color="0.7", lw=0.8, zorder=0)
    ax.scatter(a, b, s=11, color=REFERENCE, alpha=0.75, lw=0)
    ax.scatter(np.nanmedian(a), np.nanmedian(b), marker="+", s=90, color=MODEL, label="median")
    ax.set(xlim=limits, ylim=limits, xlabel=names[0], ylabel=names[1], aspect="equal")
    ax.legend(loc="lower right")


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
    figure = plt.figure(figsize=(width, 1.3 + 0.7 * n_rows))
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


def dream(
    axes: tuple[Axes, Axes],
    stimulus: ArrayLike,
    response: ArrayLike,
    dt_ms: float,
    frequencies: ArrayLike | None = None,
) -> QuadMesh:
    """Draw the stimulus (F, T) that drives a neuron most into one axes, and its rate (T,) along it into another.

    The stimulus has the colours of a field, not of a spectrogram: what is below zero is as telling as what is above.
    """
    stimulus = _matrix("stimulus", stimulus)
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


def modulation_transfer(
    ax: Axes, gain: ArrayLike, densities: ArrayLike, rates: ArrayLike, unit: str = "octave"
) -> QuadMesh:
    """Draw a modulation transfer function, as a share of its maximum: rising ripples left, falling ones right.

    Parameters
    ----------
    gain : (n_densities, n_rates), see `strflab.receptive_fields.ModulationTransfer`
    densities : (n_densities,) cycles a `unit`
    rates : (n_rates,) Hz
    unit : "octave" or "kHz"
    """
    gain = _matrix("gain", gain)
    edges = (_midpoints(np.asarray(v, float)) for v in (rates, densities))
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


def symmetric_colorbar(figure: Figure, mesh: QuadMesh, axes: Any, label: str) -> Colorbar:
    """Add a slim colour bar with ticks at the two ends and zero."""
    bar = figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.02, aspect=25)
    low, high = mesh.get_clim()
    bar.set_ticks([low, 0, high], labels=[f"{low:.2g}", "0", f"{high:.2g}"])
    bar.outline.set_linewidth(0.5)
    bar.set_label(label)
    return bar


def frequency_axis(ax: Axes, frequencies: ArrayLike | None, labels: bool = True) -> None:
    """Make the y axis one of frequency in kHz: logarithmic with a tick an octave where the bands are log-spaced."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if frequencies is None:
        if labels:
            ax.set_ylabel("band")
        return
    f = np.asarray(frequencies, float) / 1000
    ax.set_ylim(*band_edges(frequencies, len(f))[[0, -1]])
    if _log_spaced(f):
        ax.set_yscale("log")
        octaves = 2.0 ** np.arange(np.ceil(np.log2(f[0])), np.floor(np.log2(f[-1])) + 1)
        ax.yaxis.set_major_locator(FixedLocator(octaves[:: 1 if len(octaves) < 5 else 2].tolist()))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    if labels:
        ax.set_ylabel("frequency (kHz)")


def band_edges(frequencies: ArrayLike | None, n: int) -> np.ndarray:
    """Return the (n + 1,) edges, in kHz, of bands with these centres (Hz); without centres, of bands 0 to n - 1."""
    if frequencies is None:
        return np.arange(n + 1) - 0.5
    f = np.asarray(frequencies, float) / 1000
    if f.shape != (n,):
        raise ValueError(f"frequencies of shape {f.shape}: must be ({n},)")
    if _log_spaced(f):
        return np.exp(_midpoints(np.log(f)))
    return _midpoints(f)


def _midpoints(x: np.ndarray) -> np.ndarray:
    inner = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - inner[0]], inner, [2 * x[-1] - inner[-1]]])


def _log_spaced(f: np.ndarray) -> bool:
    """Whether the centres grow by a ratio rather than by a step."""
    if len(f) < 3 or f[0] <= 0:
        return False
    return bool(np.ptp(np.diff(np.log(f))) < np.ptp(np.diff(f)) / f.mean())


def _matrix(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value, float)
    if array.ndim != 2:
        raise ValueError(f"{name} of shape {array.shape}: must be a matrix (bands, frames)")
    return array
