"""What all figures share: the book's style and colours, frequency axes, colour bars."""

from __future__ import annotations

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


def symmetric_colorbar(figure: Figure, mesh: QuadMesh, axes: Any, label: str) -> Colorbar:
    """Add a slim colour bar with ticks at the two ends and zero.

    Parameters
    ----------
    figure : that it goes into
    mesh : whose colours it explains
    axes : beside which it stands
    label : what is coloured, with its unit
    """
    bar = figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.02, aspect=25)
    low, high = mesh.get_clim()
    bar.set_ticks([low, 0, high], labels=[f"{low:.2g}", "0", f"{high:.2g}"])
    bar.outline.set_linewidth(0.5)
    bar.set_label(label)
    return bar


def frequency_axis(ax: Axes, frequencies: ArrayLike | None, labels: bool = True) -> None:
    """Make the y axis one of frequency in kHz: logarithmic with a tick an octave where the bands are log-spaced.

    Parameters
    ----------
    ax : axes to change
    frequencies : (F,) centres in Hz; None: bands are counted
    labels : name the axis
    """
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
    """Return the (n + 1,) edges, in kHz, of bands with these centres (Hz); without centres, of bands 0 to n - 1.

    Parameters
    ----------
    frequencies : (n,) centres in Hz, or None
    n : number of bands
    """
    if frequencies is None:
        return np.arange(n + 1) - 0.5
    f = np.asarray(frequencies, float) / 1000
    if f.shape != (n,):
        raise ValueError(f"frequencies of shape {f.shape}: must be ({n},)")
    if _log_spaced(f):
        return np.exp(midpoints(np.log(f)))
    return midpoints(f)


def midpoints(x: np.ndarray) -> np.ndarray:
    inner = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - inner[0]], inner, [2 * x[-1] - inner[-1]]])


def _log_spaced(f: np.ndarray) -> bool:
    """Whether the centres grow by a ratio rather than by a step."""
    if len(f) < 3 or f[0] <= 0:
        return False
    return bool(np.ptp(np.diff(np.log(f))) < np.ptp(np.diff(f)) / f.mean())


def as_matrix(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(value, float)
    if array.ndim != 2:
        raise ValueError(f"{name} of shape {array.shape}: must be a matrix (bands, frames)")
    return array
