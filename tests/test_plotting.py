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


def test_moments_of_a_dynamic_field_share_a_scale_and_are_marked():
    fields = np.stack([np.full((6, 4), 1.0), np.full((6, 4), -5.0)])
    figure = plotting.dynamic_strfs(fields, [9, 99], 5.0, FREQUENCIES, response=np.ones(200))
    above, *axes = figure.axes[:3]
    assert [line.get_xdata()[0] for line in above.lines] == pytest.approx([0.0475, 0.4975])  # s
    assert {ax.collections[0].get_clim() for ax in axes} == {(-5.0, 5.0)}
    assert [ax.get_title() for ax in axes] == ["0.0475 s", "0.497 s"]
    assert len(plotting.dynamic_strfs(fields, [9, 99], 5.0).axes) == 3  # two fields and a colour bar
    with pytest.raises(ValueError, match="one a frame"):
        plotting.dynamic_strfs(fields, [9], 5.0)


def test_dream_stands_above_its_response_on_one_time_axis():
    stimulus = np.zeros((6, 40))
    stimulus[2, -1], stimulus[0, 0] = 2.0, -3.0
    _, axes = plt.subplots(2, 1)
    mesh = plotting.dream(axes, stimulus, np.full(40, 0.1), 5.0, FREQUENCIES)
    assert mesh.get_clim() == (-3.0, 3.0)
    assert mesh.get_array().reshape(6, 40)[2, -1] == 2.0  # time runs to the right
    assert axes[0].get_xlim() == axes[1].get_xlim() == (0.0, 0.2)
    assert axes[1].get_ylim()[0] == 0


def test_hidden_fields_carry_sign_and_time_constant():
    fields = np.random.default_rng(0).normal(size=(3, 6, 4))
    figure = plotting.hidden_strfs(fields, [0.5, -0.25, 0.1], 5.0, FREQUENCIES, taus_ms=[5.0, 12.34, 100.0])
    titles = [ax.get_title() for ax in figure.axes[:3]]
    assert titles == ["excites, 0.5\nτ 5 ms", "inhibits, 0.25\nτ 12.3 ms", "excites, 0.1\nτ 100 ms"]
    with pytest.raises(ValueError, match="weights of shape"):
        plotting.hidden_strfs(fields, [0.5], 5.0)


def test_transfer_function_is_drawn_over_rate_and_density():
    gain = np.zeros((3, 5))
    gain[1, 4] = 7.0
    _, ax = plt.subplots()
    mesh = plotting.modulation_transfer(ax, gain, [0.0, 0.5, 1.0], [-20.0, -10.0, 0.0, 10.0, 20.0], "kHz")
    assert mesh.get_array().reshape(3, 5)[1, 4] == 1.0
    assert ax.get_xlim() == (-25.0, 25.0)
    assert ax.get_ylabel() == "density (cycles/kHz)"


def test_gradient_energy_is_a_median_over_neurons():
    energy = np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.9, 0.1, 0.0], [np.nan] * 3])
    _, ax = plt.subplots()
    plotting.gradient_energy(ax, energy, [0.0, 5.0, 10.0], memory=[15.0, 10.0, 5.0, np.nan])
    assert ax.lines[0].get_ydata() == pytest.approx([0.7, 0.2, 0.1])
    assert ax.lines[1].get_xdata()[0] == 10.0
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="energy"):
        plotting.gradient_energy(ax, energy[3], [0.0, 5.0, 10.0])


def test_raster_has_a_tick_a_spike_and_marks_what_was_not_recorded():
    counts = np.zeros((3, 40))
    counts[0, 4] = counts[0, 39] = 1
    counts[1, 10:] = np.nan
    counts[2, [3, 4, 8]] = np.nan
    _, ax = plt.subplots()
    plotting.raster(ax, counts, dt_ms=5.0)
    ticks = [segment for lines in ax.collections[:1] for segment in lines.get_segments()]
    assert [t[0][0] for t in ticks] == pytest.approx([0.0225, 0.1975])  # s, middles of the bins
    assert [t[:, 1].mean() for t in ticks] == pytest.approx([1, 1])
    grey = [path.get_extents() for c in ax.collections for path in c.get_paths() if np.ptp(path.vertices[:, 0]) > 0]
    assert [(g.x0, g.x1) for g in grey] == [
        pytest.approx(span) for span in ((0.05, 0.2), (0.015, 0.025), (0.04, 0.045))
    ]
    assert ax.get_xlim() == (0, 0.2)


def test_trials_share_one_time_axis_and_the_rate_is_a_mean_over_those_recorded():
    counts = np.zeros((2, 100))
    counts[0, 50] = 1
    counts[1, 20:] = np.nan
    figure = plotting.trials(np.ones((6, 100)), counts, 5.0, FREQUENCIES)
    top, middle, bottom = figure.axes
    assert top.get_xlim() == middle.get_xlim() == bottom.get_xlim() == (0, 0.5)
    filled = bottom.collections[0].get_paths()[0].vertices
    assert filled[:, 1].max() == 200.0  # one spike in one trial of 5 ms
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "time (s)"]


def test_score_rows_draw_the_units_the_mean_and_its_interval():
    _, ax = plt.subplots()
    scores = [np.array([0.2, 0.4, np.nan]), np.array([0.6, 0.7, 0.8])]
    plotting.score_rows(ax, scores, ["LN", "GRU"], ["0.5", "red"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["LN", "GRU"]
    assert [text.get_text() for text in ax.texts] == ["0.30", "0.70"]
    dots, interval, mean = ax.lines[3:]
    assert dots.get_xdata().tolist() == [0.6, 0.7, 0.8]
    assert interval.get_xdata()[0] < mean.get_xdata()[0] < interval.get_xdata()[1]
    with pytest.raises(ValueError, match="colors"):
        plotting.score_rows(ax, scores, ["LN", "GRU"], ["red"])
