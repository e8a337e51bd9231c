"""Chapter 3's first analysis on a small simulated set, and each of its parts against a plain one."""

import numpy as np
import pytest
import torch

from strflab import data
from strflab.data import ns1
from strflab.papers import forms, population, rahman2019
from strflab.receptive_fields import effective_units

N, S, H, SHOWN = 2, 2, 20, 2
SPANS, LN_SPANS = (25, 50), (25, 100, 200)


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=N, n_clips=20, seconds=1.2, n_bands=12)


@pytest.fixture(scope="module")
def result(ds):
    return rahman2019.analyse(
        ds,
        spans_ms=SPANS,
        ln_spans_ms=LN_SPANS,
        strengths=(3e-4, 1e-3),
        nrf_strengths=(1e-3,),
        seeds=(0, 1),
        epochs=2,
        nrf_epochs=2,
        n_shown=SHOWN,
    )


@pytest.fixture(scope="module")
def network(ds):
    torch.manual_seed(1)
    net = rahman2019.dnet_builder(ds, 25)()
    with torch.no_grad():
        for decay, tau in zip(net.decays(), (torch.linspace(1, 12, H), torch.tensor([3.0])), strict=True):
            decay.d.copy_((tau - 1).sqrt())
        net.readout.weight.zero_()
        net.readout.weight[0, :3] = torch.tensor([2.0, -1.0, 0.05])
    return net


def test_every_array_that_the_chapter_shows(ds, result):
    bands, test_clips, frames = ds.n_bands, len(ns1.TEST_CLIPS), ds.n_frames[0]
    shapes = {
        "ln": (len(LN_SPANS), N),
        "nrf": (len(SPANS), N),
        "dnet": (len(SPANS), N),
        "dnet_seeds": (S, N),
        "dnet_average": (N,),
        "dnet_one": (N,),
        "dnet_before": (N,),
        "spans_ms": (len(SPANS),),
        "ln_spans_ms": (len(LN_SPANS),),
        "strengths": (2,),
        "nrf_strengths": (1,),
        "chosen": (N,),
        "nrf_chosen": (N,),
        "held_out": (2, N),
        "nrf_held_out": (1, N),
        "seeds": (S,),
        "epochs": (2,),
        "ccmax": (N,),
        "frequencies": (bands,),
        "dt_ms": (),
        "stages": (4,),
        "ln_parameters": (len(LN_SPANS),),
        "nrf_parameters": (len(SPANS),),
        "dnet_parameters": (len(SPANS),),
        "output_weights": (N, H),
        "ie_scores": (N, H),
        "tau_ms": (N, H),
        "output_tau_ms": (N,),
        "effective": (N, H),
        "decayed_correlation": (N,),
        "shown": (SHOWN,),
        "shown_fields": (SHOWN, H, bands, 5),
        "shown_strfs": (SHOWN, bands, 40),
        "shown_decayed": (SHOWN, bands, 40),
        "shown_psth": (test_clips, SHOWN, frames),
        "shown_dnet": (test_clips, SHOWN, frames),
        "shown_nrf": (test_clips, SHOWN, frames),
        "shown_ln": (test_clips, SHOWN, frames),
    }
    assert {name: array.shape for name, array in result.items()} == shapes
    assert np.isfinite(result["dnet"]).all()
    assert set(result["chosen"]) <= set(result["strengths"])
    assert (result["tau_ms"] >= 2 * float(result["dt_ms"])).all()
    np.testing.assert_array_equal(result["dnet_seeds"][0], result["dnet"][0])
    assert result["dnet"][0][result["shown"]].argmax() == 0
    # the network's 21 leaks are what it has beyond a network receptive field
    np.testing.assert_array_equal(result["dnet_parameters"] - result["nrf_parameters"], H + 1)


def test_verify_accepts_its_own_result_and_refuses_another(ds, result):
    rahman2019.verify(result, ds)
    for name in ("shown_dnet", "shown_nrf", "shown_ln"):
        with pytest.raises(ValueError, match=name.removeprefix("shown_")):
            rahman2019.verify(result | {name: result[name][..., ::-1]}, ds)
    with pytest.raises(ValueError, match="'dnet'"):
        rahman2019.verify(result | {"dnet": result["dnet"] + 0.01}, ds)


def test_analysis_needs_the_papers_clips(ds):
    with pytest.raises(ValueError, match="20"):
        rahman2019.analyse(ds.select(clips=range(8)))


def test_builders_have_the_span_and_the_papers_form(ds):
    net = rahman2019.dnet_builder(ds, 50)()
    assert net.STRFs().shape == (H, 1, ds.n_bands, 10)
    hidden, output = net.decays()
    assert output.tau.item() == pytest.approx(rahman2019.OUTPUT_TAU)
    assert hidden.tau.std() > 1
    assert len(rahman2019.dnet_builder(ds, 25, output_decay=False)().decays()) == 1
    assert rahman2019.nrf_builder(ds, 25)().STRFs().shape == (H, 1, ds.n_bands, 5)


def test_chosen_strength_is_the_one_that_does_best_on_held_out_clips(ds):
    train, _ = ns1.paper_split(ds)
    recipe = rahman2019.replace(rahman2019.NRF_RECIPE, epochs=3, patience=3)
    chosen, scores = rahman2019.choose(rahman2019.nrf_builder(ds, 25), train, recipe, (1e-3, 30.0), progress=False)
    assert scores.shape == (2, N)
    np.testing.assert_array_equal(chosen, 1e-3)  # the other leaves nothing of the network


def test_fit_says_how_it_failed(ds):
    train, _ = ns1.paper_split(ds)
    recipe = rahman2019.replace(rahman2019.NRF_RECIPE, epochs=2, patience=2, learning_rate=3e38, gradient_clip=None)
    with pytest.raises(RuntimeError, match=rf"of {N} fits failed: members \[.*\]: "):
        rahman2019.fit(rahman2019.nrf_builder(ds, 25), train, recipe, [1e-3] * N, progress=False)


def test_decayed_field_is_the_response_of_the_linear_network(network):
    """A click in one band through filters and leaks, without the sigmoids, one frame after another."""
    n_lags, band = 60, 4
    click = torch.zeros(1, 1, network.n_frequency_bands, n_lags)
    click[..., band, 0] = 1
    drive = (network.core[0](click) - network.core[0](torch.zeros_like(click)))[0, :, 0].detach().double().numpy()
    hidden, output = (decay.tau.detach().double().numpy() for decay in network.decays())
    weight = network.readout.weight.detach()[0].double().numpy()
    weight = np.where(np.isin(np.arange(H), effective_units(network)), weight, 0)
    u, y, answer = np.zeros(H), 0.0, []
    for frame in drive.T:
        u = (1 - 1 / hidden) * u + frame / hidden
        y = (1 - 1 / output[0]) * y + weight @ u / output[0]
        answer.append(y)
    field = rahman2019.decayed_field(network, n_lags)
    np.testing.assert_allclose(field[band, ::-1], answer, atol=1e-7)
    assert list(effective_units(network)) == [0, 1]  # the third is too weak


def test_decayed_field_of_a_network_with_one_leak(ds):
    torch.manual_seed(0)
    net = rahman2019.dnet_builder(ds, 25, output_decay=False)()
    with torch.no_grad():
        net.decays()[0].d.zero_()  # no memory: the field is the weighted sum of the filters
        kept = effective_units(net)
        expected = (net.readout.weight[0, kept.tolist(), None, None] * net.STRFs()[kept.tolist(), 0]).sum(0)
    np.testing.assert_allclose(rahman2019.decayed_field(net, 8)[:, -5:], expected.numpy(), atol=1e-6)
    assert not rahman2019.decayed_field(net, 8)[:, :3].any()


def test_predictions_of_one_network_a_neuron(ds, network):
    other = forms.harper2016_nrf(ds.n_bands, 5)
    rates = rahman2019.predict([network, other], ds)
    np.testing.assert_array_equal(rates[:, 0], population.predict(network, ds)[:, 0])
    np.testing.assert_array_equal(rates[:, 1], population.predict(other, ds)[:, 0])
