"""Chapter 2's analysis on a small simulated set, and each of its measures against a plain one."""

import numpy as np
import pytest
import torch

from strflab import data, papers
from strflab.data import ns1
from strflab.papers import harper2016, population

N, S, H, SHOWN = 2, 2, 4, 2
P, G = len(harper2016.PERCENTILES), harper2016.GRID


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=N, n_clips=20, seconds=1.2, n_bands=12)


@pytest.fixture(scope="module")
def result(ds):
    return harper2016.analyse(
        ds,
        strengths=(1e-3, 4e-3),
        folds=2,
        seeds=(0, 1),
        epochs=2,
        longer={"epochs": 3, "patience": 3},
        n_hidden=H,
        n_shown=SHOWN,
    )


@pytest.fixture(scope="module")
def network(ds):
    torch.manual_seed(1)
    net = papers.harper2016_nrf(ds.n_bands, 6, n_hidden=3)
    with torch.no_grad():
        net.readout.weight.copy_(torch.tensor([[1.5, -0.7, 0.2]]))
        net.STRFs().mul_(4.0)
        net.readout.fc.bias.fill_(-1.0)
    return net


def test_every_array_that_the_chapter_shows(ds, result):
    bands, lags, test_clips, frames = ds.n_bands, 20, len(ns1.TEST_CLIPS), ds.n_frames[0]
    shapes = {
        "ln_histories_ms": (2,),
        "ln": (2, N),
        "ccmax": (N,),
        "frequencies": (bands,),
        "dt_ms": (),
        "strengths": (2,),
        "seeds": (S,),
        "nrf": (S, N),
        "nrf_average": (N,),
        "nrf_chosen": (N,),
        "nrf_inner": (2, N),
        "nrf_epochs": (N,),
        "pruned": (N,),
        "pruned_effective": (N,),
        "effective": (S, N),
        "ie_scores": (S, N, H),
        "surface_rates": (2, N, P, P),
        "cell_rates": (3, N, 2, 2),
        "shown": (SHOWN,),
        "shown_psth": (SHOWN, test_clips, frames),
        "shown_nrf": (SHOWN, test_clips, frames),
        "shown_ln": (SHOWN, test_clips, frames),
        "shown_strfs": (SHOWN, bands, lags),
        "shown_fields": (SHOWN, H, bands, lags),
        "shown_weights": (SHOWN, H),
        "shown_pair": (SHOWN, 2),
        "shown_drives": (SHOWN, 2, G),
        "shown_surfaces": (SHOWN, 2, G, G),
        "shown_visits": (SHOWN, G, G),
    }
    assert {name: np.shape(value) for name, value in result.items()} == shapes
    assert (result["effective"] >= 1).all()
    assert (np.isfinite(result["ie_scores"]).sum(-1) == result["effective"]).all()
    assert (np.diff(result["surface_rates"], axis=-1) >= 0).all()  # signed drives never lower the rate
    assert (np.diff(result["nrf_average"][result["shown"]]) <= 0).all()


def test_stored_scores_are_those_of_the_stored_predictions(ds, result):
    harper2016.verify(result, ds)
    tampered = result | {"nrf_average": result["nrf_average"] + 0.01}
    with pytest.raises(ValueError, match="'nrf' do not give their stored scores"):
        harper2016.verify(tampered, ds)
    with pytest.raises(ValueError, match="'ln' do not"):
        harper2016.verify(result | {"shown_ln": result["shown_psth"]}, ds)


def test_networks_of_one_seed_are_the_same_again(ds):
    options = {"strengths": (1e-3,), "folds": 2, "n_hidden": 2, "progress": False}
    recipe = harper2016.replace(harper2016.RECIPE, epochs=1, patience=1)
    one, both = (harper2016.fit(ds, recipe, seeds=seeds, **options)[1] for seeds in ((3,), (3, 4)))
    assert [len(networks) for networks in both] == [N, N]
    assert torch.equal(one[0][0].STRFs(), both[0][0].STRFs())
    assert not torch.equal(both[0][0].STRFs(), both[1][0].STRFs())


def test_a_fit_that_fails_is_reported(ds):
    silent = ds.select(neurons=[0])
    silent = data.NeuralDataset(
        silent.stimuli, [torch.zeros_like(r) for r in silent.responses], ds.dt_ms, ds.frequencies
    )
    with pytest.raises(RuntimeError, match=r"1 of 1 fits failed: members \[0\]: corrcoef was never"):
        harper2016.fit(silent, harper2016.replace(harper2016.RECIPE, epochs=1), (1e-3,), 2, (0,), 2, progress=False)


def test_signed_drives_make_the_network_rate(ds, network):
    drive = harper2016.drives(network, ds)
    fields, weight = harper2016.signed_fields(network)
    assert (weight > 0).all()
    np.testing.assert_allclose(fields[1], -network.STRFs()[1, 0].detach(), rtol=1e-6)
    rate = 1 / (1 + np.exp(1.0 - weight @ harper2016.hidden(drive)))
    expected = np.concatenate([p[0, 5:] for p in population.predict(network, ds)])
    np.testing.assert_allclose(rate, expected, atol=1e-5)


def test_surface_is_the_network_with_the_other_units_at_their_mean(ds, network):
    drive = harper2016.drives(network, ds)
    _, weight = harper2016.signed_fields(network)
    pair = harper2016.strongest_pair(network, drive)
    assert set(pair) == set(np.argsort(-weight * harper2016.hidden(drive).std(1))[:2])
    points = np.array([[-1.0, 0.0, 2.0], [-0.5, 0.5, 1.0]])
    curved, straight = harper2016.surfaces(network, drive, pair, points)
    (rest,) = set(range(3)) - set(pair)
    for i, first in enumerate(points[0]):
        for j, second in enumerate(points[1]):
            total = -1.0 + weight[rest] * harper2016.hidden(drive[rest]).mean()
            total += weight[pair[0]] * harper2016.hidden(first) + weight[pair[1]] * harper2016.hidden(second)
            assert curved[i, j] == pytest.approx(1 / (1 + np.exp(-total)))
    logit = np.log(straight / (1 - straight))
    np.testing.assert_allclose(np.diff(logit[0]), np.diff(logit[2]))  # drives add up before the sigmoid
    assert np.diff(logit, axis=0)[0] / 1.0 == pytest.approx(np.diff(logit, axis=0)[1] / 2.0)  # along straight lines


@pytest.mark.parametrize(
    ("corners", "expected"),
    [([[0, 0], [0, 1]], 1), ([[0, 1], [1, 1]], -1), ([[1, 2], [3, 4]], 0), ([[1, 1], [1, 1]], np.nan)],
)
def test_interaction(corners, expected):
    np.testing.assert_equal(harper2016.interaction(corners), float(expected))


@pytest.mark.parametrize("measure", [harper2016.interaction, harper2016.substitution])
def test_measures_of_a_surface_need_one(measure):
    with pytest.raises(ValueError, match="rates of shape"):
        measure([0.0, 1.0])


def test_substitution_sees_saturation_but_not_the_output():
    d = np.array(harper2016.PERCENTILES) / 50 - 1

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    added = np.add.outer(d, d)
    saturated = np.add.outer(*2 * [np.minimum(d, 0.2)])
    flat, steep, bent = (harper2016.substitution(sigmoid(z)) for z in (added, 3 * added - 2, saturated))
    assert flat == pytest.approx((99 - 5) / (2 * (75 - 5)))
    assert steep == pytest.approx(flat)
    assert bent == pytest.approx(0.5)
    assert np.isnan(harper2016.substitution(sigmoid(0 * added)))
