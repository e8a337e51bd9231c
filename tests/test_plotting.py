import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strflab import plotting


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


FREQUENCIES = np.geomspace(500, 16000, 6)


def test_strf_puts_lag_zero_at_the_left_and_centres_colours_on_zero():
    field = np.zeros((6, 4))
    field[2, -1] = 3.0  # band 2, lag 0
    field[5, 0] = -1.0  # band 5, the longest lag
    _, ax = plt.subplots()
    mesh = plotting.strf(ax, field, dt_ms=5.0, frequencies=FREQUENCIES)
    drawn = mesh.get_array().reshape(6, 4)
    assert drawn[2, 0] == 3.0
    assert drawn[5, 3] == -1.0
    assert mesh.get_clim() == (-3.0, 3.0)
    assert ax.get_xlim() == (-2.5, 17.5)  # ms
    assert ax.get_ylabel() == "frequency (kHz)"
    assert ax.get_ylim()[0] < 0.5 < 16 < ax.get_ylim()[1]


def test_empty_field_still_has_a_scale():
    _, ax = plt.subplots()
    assert plotting.strf(ax, np.zeros((3, 4)), 5.0).get_clim() == (-1, 1)


def test_grid_shares_one_scale():
    fields = np.stack([np.full((6, 4), 1.0), np.full((6, 4), -5.0)])
    figure = plotting.strf_grid(fields, 5.0, FREQUENCIES, titles=["a", "b"])
    clims = {ax.collections[0].get_clim() for ax in figure.axes[:2]}
    assert clims == {(-5.0, 5.0)}


def test_bands_lie_between_their_edges():
    for frequencies in (FREQUENCIES, np.linspace(250, 8000, 20)):
        edges = plotting.band_edges(frequencies, len(frequencies))
        assert (edges[:-1] < frequencies / 1000).all()
        assert (frequencies / 1000 < edges[1:]).all()
    with pytest.raises(ValueError, match="frequencies"):
        plotting.band_edges(FREQUENCIES, 5)


def test_rates_are_drawn_in_hertz():
    _, ax = plt.subplots()
    plotting.rate(ax, np.full(10, 0.5), dt_ms=5.0, prediction=np.full(10, 0.25))
    assert ax.lines[0].get_ydata()[0] == 50.0
    assert ax.get_ylabel() == "rate (Hz)"


def test_a_vector_is_no_field():
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="field"):
        plotting.strf(ax, np.zeros(5), 5.0)
