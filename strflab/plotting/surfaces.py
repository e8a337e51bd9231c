"""Rates as a function of two drives at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import MODEL, SEQUENTIAL, as_matrix, midpoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

ENCLOSED = (0.5, 0.9)  # shares of the visits that the lines go round


def response_surface(
    ax: Axes,
    drives: tuple[ArrayLike, ArrayLike],
    rates: ArrayLike,
    dt_ms: float,
    visits: ArrayLike | None = None,
    vmax: float | None = None,
) -> QuadMesh:
    """Draw the rate of a neuron over two drives, with lines of equal rate and lines round where the sound takes it.

    Parameters
    ----------
    ax : axes to draw into
    drives : (P,) and (Q,) evenly spaced values of the first drive, along x, and of the second
    rates : (P, Q) spikes per bin
    dt_ms : bin, ms
    visits : (P, Q) how often the sound is there; lines enclose half and nine tenths of it. None: not drawn
    vmax : the greys span 0 to vmax, Hz; None: the largest rate

    Raises
    ------
    ValueError : shapes disagree
    """
    x, y = (np.asarray(d, float) for d in drives)
    hz = as_matrix("rates", rates) * 1000 / dt_ms
    if hz.shape != (len(x), len(y)):
        raise ValueError(f"rates of shape {hz.shape}: must be ({len(x)}, {len(y)}), one a pair of drives")
    top = float(hz.max()) if vmax is None else vmax
    mesh = ax.pcolormesh(midpoints(x), midpoints(y), hz.T, cmap=SEQUENTIAL, vmin=0, vmax=top or 1, rasterized=True)
    if hz.max() > hz.min():
        ax.contour(x, y, hz.T, levels=np.linspace(0, top, 7)[1:-1], colors="0.4", linewidths=0.5)
    if visits is not None:
        counts = as_matrix("visits", visits)
        if counts.shape != hz.shape:
            raise ValueError(f"visits of shape {counts.shape}: must be {hz.shape}, as the rates")
        seen = _smoothed(counts)
        levels = sorted({_level(seen, share) for share in ENCLOSED})
        ax.contour(x, y, seen.T, levels=levels, colors=MODEL, linewidths=1)
    return mesh


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Counts spread over neighbours by a binomial kernel, twice, so that their contours are lines."""
    for axis in (0, 1, 0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, np.array([1, 4, 6, 4, 1]) / 16, mode="same")
    return counts


def _level(density: np.ndarray, share: float) -> float:
    """The density above which lies `share` of the whole."""
    ranked = np.sort(density, axis=None)[::-1]
    return float(ranked[np.searchsorted(np.cumsum(ranked), share * ranked.sum())])
