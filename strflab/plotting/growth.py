"""How the cost of many models grows: logarithmic curves, a panel a family, each labelled where it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import MODEL, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's, dark enough for text on white, each with a marker of its own
HUES = (REFERENCE, MODEL, "#00785a", "#9c5f00", "0.2")
MARKERS = ("o", "s", "^", "D", "v")
OTHERS = "0.88"
LETTERS = 9.5  # height of a label, points

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


def power_curves(ax: Axes, curves: Curves, others: Curves | None = None, slope: float | None = 1.0) -> None:
    """Draw costs on two logarithmic axes, each curve with its name at its end.

    Parameters
    ----------
    ax : axes to draw into
    curves : (x, y) by name, five at most
    others : curves drawn pale behind them, to compare with
    slope : of the dashed line of reference, a power of x; None: not drawn

    Raises
    ------
    ValueError : more curves than colours
    """
    if len(curves) > len(HUES):
        raise ValueError(f"{len(curves)} curves: at most {len(HUES)} in one panel")
    for x, y in (others or {}).values():
        ax.plot(x, y, color=OTHERS, lw=0.9, zorder=1)
    ends = []
    for (name, (x, y)), color, marker in zip(curves.items(), HUES, MARKERS):
        ax.plot(x, y, color=color, marker=marker, ms=3.2, lw=1.1, mew=0, zorder=3)
        ends.append((float(np.asarray(x)[-1]), float(np.asarray(y)[-1]), name, color))
    ax.set(xscale="log", yscale="log")
    ax.margins(x=0.04)
    ax.minorticks_off()
    if slope is not None:
        _reference(ax, slope)
    _label(ax, ends)


def power_grid(
    columns: Mapping[str, Curves],
    families: Mapping[str, Sequence[str]],
    x_label: str,
    short: Mapping[str, str] | None = None,
    width: float = 5.6,
) -> Figure:
    """Draw a row of panels a family of models, a column a cost, all of a column on one scale.

    Parameters
    ----------
    columns : for each cost, by its name and unit, the curves of every model
    families : names of the models of each row
    x_label : what grows
    short : what a model is called in the figure, where its name is long
    width : of the figure, inches
    """
    import matplotlib.pyplot as plt

    short = short or {}
    columns = {label: curves for label, curves in columns.items() if curves}
    figure, axes = plt.subplots(
        len(families),
        len(columns),
        figsize=(width, 0.5 + 1.35 * len(families)),
        sharex=True,
        sharey="col",
        squeeze=False,
        layout="constrained",  # also without the book's style
    )
    for column, (label, curves) in enumerate(columns.items()):
        for row, (family, names) in enumerate(families.items()):
            ax = axes[row, column]
            shown = {short.get(name, name): curves[name] for name in names if name in curves}
            power_curves(ax, shown, {name: xy for name, xy in curves.items() if name not in names})
            ax.set_title(family if column == 0 else "", loc="left", fontsize=9)
            if row == 0:
                ax.annotate(label, (0, 1.28), xycoords="axes fraction", fontsize=9, fontweight="bold")
        axes[-1, column].set_xlabel(x_label)
    figure.draw_without_rendering()  # labels are put apart once the panels have their final size
    for ax in axes.flat:
        _spread(ax)
    return figure


def _reference(ax: Axes, slope: float) -> None:
    """A dashed line of this slope, from the lower left corner of what is drawn."""
    lines = [line for line in ax.get_lines() if len(line.get_xdata())]
    if not lines:
        return
    x = np.concatenate([np.asarray(line.get_xdata(), float) for line in lines])
    y = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    ends = np.array([x.min(), x.max()])
    start = np.exp(np.log(y).mean()) * (ends[0] / np.exp(np.log(x).mean())) ** slope
    ax.plot(ends, start * (ends / ends[0]) ** slope, "--", color="0.55", lw=0.8, zorder=2)


def _label(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    for x, y, name, color in ends:
        label = ax.annotate(
            name,
            (x, y),
            (5, 0),
            textcoords="offset points",
            color=color,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )
        label.set_gid("end")


def _spread(ax: Axes) -> None:
    """Move the labels of a panel apart, up and down, as little as it takes."""
    labels = [text for text in ax.texts if text.get_gid() == "end"]
    if len(labels) < 2:
        return
    points = np.array([ax.transData.transform(text.xy) for text in labels]) * 72 / ax.figure.dpi
    for end in np.unique(points[:, 0].round()):
        beside = [i for i in np.argsort(points[:, 1]) if round(points[i, 0]) == end]
        wanted = points[beside, 1]
        for i, y in zip(beside, _apart(wanted, LETTERS)):
            labels[i].set_position((5, y - points[i, 1]))


def _apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Nearest positions to rising ones that are `gap` apart: those that touch share the mean of what they want."""
    groups: list[tuple[float, int]] = []  # middle, members
    for y in wanted:
        middle, n = float(y), 1
        while groups and middle - groups[-1][0] < gap * (n + groups[-1][1]) / 2:
            before, m = groups.pop()
            middle, n = (before * m + middle * n) / (m + n), m + n
        groups.append((middle, n))
    return np.concatenate([middle + gap * (np.arange(n) - (n - 1) / 2) for middle, n in groups])
