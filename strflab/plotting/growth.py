"""How the cost of many models grows: logarithmic curves, a panel a family, each labelled where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from strflab.plotting.axes import MODEL, REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# hues that the common colour blindnesses tell apart, dark enough for text on white, and a marker each
HUES = (REFERENCE, MODEL, "#00785a", "#9c5f00", "0.2")
MARKERS = ("o", "s", "^", "D", "v")
RANGE = "0.93"
LINE = 9.5  # height of a label, points

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


def power_curves(ax: Axes, curves: Curves, among: Curves | None = None, slope: float | None = 1.0) -> None:
    """Draw costs on two logarithmic axes, each curve with its name at its end.

    Parameters
    ----------
    ax : axes to draw into
    curves : (x, y) by name, five at most
    among : curves whose range is shaded behind them, to compare with
    slope : of the dashed line of reference, a power of x; None: not drawn

    Raises
    ------
    ValueError : more curves than colours
    """
    if len(curves) > len(HUES):
        raise ValueError(f"{len(curves)} curves: at most {len(HUES)} in one panel")
    ax.set(xscale="log", yscale="log")
    if among:
        ax.fill_between(*_range(among.values()), color=RANGE, lw=0, zorder=1)
    longest = max((float(np.max(x)) for x, _ in (among or curves).values()), default=0.0)
    for (name, (x, y)), color, marker in zip(curves.items(), HUES, MARKERS):
        ax.plot(x, y, color=color, marker=marker, ms=3.2, lw=1.1, mew=0, zorder=3)
        end = float(np.asarray(x)[-1]), float(np.asarray(y)[-1])
        style: dict[str, Any] = {"textcoords": "offset points", "color": color, "fontsize": 8, "annotation_clip": False}
        if end[0] < longest:  # to the right are the lines of others
            ax.annotate(name, end, (2, 3), ha="right", va="bottom", gid="early", **style)
        else:
            ax.annotate(name, end, (5, 0), va="center", gid="end", **style)
    if not (among or curves):
        return
    x, low, high = _range((among or curves).values())
    if slope is not None:
        line = np.sqrt(low[-1] * high[-1]) * (np.geomspace(x[0], x[-1], 200) / x[-1]) ** slope
        line[(line < low.min()) | (line > high.max())] = np.nan  # it must not widen the axes
        ax.plot(np.geomspace(x[0], x[-1], 200), line, "--", color="0.55", lw=0.8, zorder=2)
    ax.set_xticks(x[::2])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    ax.minorticks_off()


def power_grid(
    columns: Mapping[str, Curves],
    families: Mapping[str, Sequence[str]],
    x_label: str,
    short: Mapping[str, str] | None = None,
    width: float = 4.8,
) -> Figure:
    """Draw a row of panels a family of models and a column a cost, all of a column on one scale.

    Parameters
    ----------
    columns : for each cost, by its name and unit, the curves of every model; one without curves is left out
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
        max(1, len(columns)),
        figsize=(width, 0.5 + 1.12 * len(families)),
        sharex=True,
        sharey="col",
        squeeze=False,
        layout="constrained",  # also without the book's style
    )
    for column, (label, curves) in enumerate(columns.items()):
        for ax, (family, names) in zip(axes[:, column], families.items()):
            power_curves(ax, {short.get(name, name): curves[name] for name in names if name in curves}, curves)
            ax.set_title(family if column == 0 else "", loc="left")
        axes[0, column].annotate(label, (0, 1.32), xycoords="axes fraction", fontweight="bold")
        axes[-1, column].set_xlabel(x_label)
    figure.draw_without_rendering()  # a label can be put apart once its panel has its size
    for ax in axes.flat:
        _spread(ax)
    return figure


def _range(curves: Iterable[tuple[ArrayLike, ArrayLike]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every x, and the least and the largest y there."""
    points = np.concatenate([np.array([x, y], float).T for x, y in curves])
    every = np.unique(points[:, 0])
    there = [points[points[:, 0] == x, 1] for x in every]
    return every, np.array([y.min() for y in there]), np.array([y.max() for y in there])


def _spread(ax: Axes) -> None:
    """Move labels whose curves end beside each other apart, up and down, as little as it takes."""
    labels: list[Any] = [label for label in ax.texts if label.get_gid() == "end"]
    scale = 72 / ax.figure.dpi  # points a pixel
    ends = np.array([ax.transData.transform(label.xy) for label in labels]).reshape(-1, 2) * scale
    low, high = ax.bbox.y0 * scale, ax.bbox.y1 * scale
    for x in np.unique(ends[:, 0].round()):
        beside = [i for i in np.argsort(ends[:, 1]) if ends[i, 0].round() == x]
        for i, y in zip(beside, _apart(ends[beside, 1], LINE, low, high)):
            labels[i].set_position((5, y - ends[i, 1]))


def _apart(wanted: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Positions `gap` apart from `low` to `high`, near to rising ones: those that touch share the mean of theirs."""

    def middle(group: list[float]) -> float:
        half = gap * (len(group) - 1) / 2
        return min(max(float(np.mean(group)), low + half), high - half)

    groups: list[list[float]] = []
    for y in wanted:
        group = [float(y)]
        while groups and middle(group) - middle(groups[-1]) < gap * (len(group) + len(groups[-1])) / 2:
            group = groups.pop() + group
        groups.append(group)
    return np.concatenate([middle(group) + gap * (np.arange(len(group)) - (len(group) - 1) / 2) for group in groups])
