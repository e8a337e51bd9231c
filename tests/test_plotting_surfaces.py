import numpy as np
import pytest

from strflab import plotting
from strflab.plotting.surfaces import _level

pytest.importorskip("matplotlib.pyplot")


def test_the_first_drive_lies_along_x_and_rates_are_in_hz(ax):
    x, y = np.linspace(0, 1, 5), np.linspace(-2, 2, 7)
    rates = 0.1 * np.add.outer(np.arange(5.0), np.zeros(7))  # grows with the first drive only
    mesh = plotting.response_surface(ax, (x, y), rates, dt_ms=5.0, visits=np.ones((5, 7)))
    drawn = mesh.get_array().reshape(7, 5)
    np.testing.assert_allclose(drawn, np.broadcast_to(np.arange(5) * 20.0, (7, 5)))
    assert ax.get_xlim() == pytest.approx((-0.125, 1.125))


def test_lines_enclose_their_share():
    density = np.zeros((10, 10))
    density[:3, :3], density[5, 5] = 1.0, 9.0
    assert _level(density, 0.5) == 9.0
    assert _level(density, 0.9) == 1.0


@pytest.mark.parametrize("shapes", [((4, 5), (5, 5)), ((5, 5), (4, 5))])
def test_shapes_must_agree(ax, shapes):
    rates, visits = map(np.ones, shapes)
    with pytest.raises(ValueError, match="of shape"):
        plotting.response_surface(ax, (np.arange(5), np.arange(5)), rates, 5.0, visits)
