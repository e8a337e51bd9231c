import numpy as np
import pytest

from strflab import plotting
from strflab.plotting.growth import LINE, _apart

plt = pytest.importorskip("matplotlib.pyplot")

X = np.array([250.0, 1000.0, 4000.0, 16_000.0])
COSTS = {name: (X, factor * X) for name, factor in zip("abcde", (1.0, 1.1, 1.2, 5.0, 0.1))}


def test_curves_are_named_where_they_end(ax):
    plotting.power_curves(ax, {"a": COSTS["a"], "short": (X[:2], X[:2])}, COSTS)
    assert [(text.get_text(), text.xy) for text in ax.texts] == [("a", (16_000, 16_000)), ("short", (1000, 1000))]
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_the_line_of_reference_has_its_slope_and_stays_within_the_curves(ax):
    plotting.power_curves(ax, {"a": COSTS["a"]}, COSTS, slope=2.0)
    x, y = ax.lines[-1].get_data()
    shown = np.isfinite(y)
    assert np.polyfit(np.log(x[shown]), np.log(y[shown]), 1)[0] == pytest.approx(2)
    assert y[shown].min() >= 25
    assert y[shown].max() <= 80_000


def test_more_curves_than_colours_are_refused(ax):
    with pytest.raises(ValueError, match="6 curves"):
        plotting.power_curves(ax, {str(i): (X, X) for i in range(6)})


def test_labels_do_not_touch_and_stay_beside_their_panel():
    placed = _apart(np.array([0.0, 1.0, 2.0, 50.0]), 10, -5, 100)
    np.testing.assert_allclose(placed, [-5, 5, 15, 50])
    np.testing.assert_allclose(_apart(np.array([98.0, 99.0]), 10, 0, 100), [90, 100])
    figure = plotting.power_grid({"seconds": COSTS, "MB": {}}, {"all": list("abcde"), "two": ["a", "b"]}, "frames")
    above, below = figure.axes
    for panel in (above, below):
        heights = sorted(text.get_window_extent().y0 for text in panel.texts if text.get_gid() == "end")
        assert np.diff(heights).min() > 0.95 * LINE * figure.dpi / 72
    assert below.get_xlabel() == "frames"
    plt.close(figure)
