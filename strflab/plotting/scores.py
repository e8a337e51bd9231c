"""Scores of models over a population of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab import metrics
from strflab.plotting.axes import MODEL, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def paired_scores(
    ax: Axes, a: ArrayLike, b: ArrayLike, names: tuple[str, str], limits: tuple[float, float] = (0, 1)
) -> None:
    """Draw the scores of two models against each other, one dot a unit, with the diagonal and the medians.

    Parameters
    ----------
    ax : axes to draw into
    a, b : (N,) scores of the same units
    names : what the two axes are called
    limits : of both axes
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    ax.plot(limits, limits, color="0.7", lw=0.8, zorder=0)
    ax.scatter(a, b, s=11, color=REFERENCE, alpha=0.75, lw=0)
    ax.scatter(np.nanmedian(a), np.nanmedian(b), marker="+", s=90, color=MODEL, label="median")
    ax.set(xlim=limits, ylim=limits, xlabel=names[0], ylabel=names[1], aspect="equal")
    ax.legend(loc="lower right")


def score_rows(
    ax: Axes, scores: Sequence[ArrayLike], names: Sequence[str], colors: Sequence[str], digits: int = 2
) -> None:
    """Draw a row a model: a pale dot a unit, the mean over units with its 95 % bootstrap interval, and its number.

    Parameters
    ----------
    ax : axes to draw into
    scores : (N,) a score a unit for each model; the first is drawn lowest
    names, colors : of the models
    digits : decimals of the mean that is printed beside a row

    Raises
    ------
    ValueError : `names` or `colors` are not as many as `scores`
    """
    if not len(scores) == len(names) == len(colors):
        raise ValueError(f"{len(scores)} scores, {len(names)} names, {len(colors)} colors: must be as many")
    shift = np.random.default_rng(0)  # up and down, so that dots do not hide each other
    for row, (values, color) in enumerate(zip(scores, colors)):
        values = np.asarray(values, float)
        found = metrics.summarize(values)
        ax.plot(values, row + shift.uniform(-0.28, 0.28, len(values)), ".", color=color, ms=3, mew=0, alpha=0.35)
        ax.plot(found.mean_interval, [row, row], color=color, lw=3.5, alpha=0.55, solid_capstyle="butt")
        ax.plot(found.mean, row, "o", color=color, ms=6, mec="white", mew=0.8)
        ax.annotate(
            f"{found.mean:.{digits}f}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4))
    ax.tick_params(axis="y", length=0)
