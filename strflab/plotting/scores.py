"""Scores of models over a population of neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import MODEL, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
