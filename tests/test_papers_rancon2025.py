"""The analysis of chapter 5: tiny fits on simulated neurons, and each step of it against a plain reference."""

import numpy as np
import pytest
import torch

from strflab import data, models
from strflab.papers import population
from strflab.papers import rancon2025 as paper

N, SEEDS, SHOWN, T = 3, 2, 2, 120


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=N, n_clips=20, seconds=0.6, n_repeats=4)


@pytest.fixture(scope="module")
def result(ds, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRFLAB_RESULTS", str(tmp_path_factory.mktemp("results")))
        return paper.analyse(
            ds,
            seeds=range(SEEDS),
            n_jobs=1,
            settings={"epochs": 1, "warmup": 0, "batch_size": 16},
            progress=False,
            n_shown=SHOWN,
            reach_ms=300,
            past_ms=(50, 200),
            stride=20,
            n_dreams=1,
            dream_ms=100,
            dream_steps=3,
        )


def test_every_array_of_the_chapter(result):
    n_models, n_kept, lags = len(paper.MODELS), len(paper.KEPT), 40
    probe = round(sum(paper.PROBE_MS) / 5)
    shapes = {
        "seeds": (SEEDS,),
        "units": (N,),
        "shown": (SHOWN,),
        "scores": (n_models, SEEDS, N),
        "ensemble": (n_models, N),
        "adaptrans_scores": (len(paper.ADAPTED), SEEDS, N),
        "noise_ratio": (N,),
        "mean_rate": (N,),
        "depth": (N,),
        "frequencies": (34,),
        "shown_psth": (4, SHOWN, T),
        "shown_predictions": (n_kept, 4, SHOWN, T),
        "parameters": (n_models + len(paper.ADAPTED),),
        "seconds": (n_models + len(paper.ADAPTED), SEEDS),
        "ln_fields": (SHOWN, 34, lags),
        "gru_fields": (SHOWN, 34, lags),
        "best_frequency": (2, N),
        "latency": (2, N),
        "moving_rate": (T,),
        "memory": (len(paper.REMEMBERING), len(paper.FRACTIONS), N),
        "still_memory": (len(paper.REMEMBERING), len(paper.FRACTIONS), N),
        "gru_memory": (SEEDS, len(paper.FRACTIONS), N),
        "reach_ms": (),
        "past_ms": (2,),
        "past_scores": (len(paper.REMEMBERING), 3, N),
        "dream_units": (1,),
        "dreams": (1, 34, 20),
        "dream_rates": (1, 20),
        "dream_history": (3, 1),
        "natural_peaks": (1,),
        "adaptrans_tau": (1 + SEEDS, 2, 34),
        "adaptrans_w": (1 + SEEDS, 34),
        "probe_band": (),
        **{f"{kind}_levels": (6, probe) for kind in ("ramp", "tone")},
        **{f"{kind}_channels": (6, 2, probe) for kind in ("ramp", "tone")},
        **{f"{kind}_rates": (3, 6, probe) for kind in ("ramp", "tone")},
    }
    for name, shape in shapes.items():
        assert np.shape(result[name]) == shape, name
    moments, bins = len(result["moving_frames"]), len(result["energy_lags"])
    assert result["moving_fields"].shape == (moments, 34, lags)
    assert result["energy"].shape == (len(paper.REMEMBERING), N, bins)
    assert set(result) == {*shapes, "moving_frames", "moving_fields", "energy", "energy_lags"}
    np.testing.assert_array_equal(
        np.argsort(-result["scores"][paper.MODELS.index("gru")].mean(0))[:SHOWN], result["shown"]
    )


def test_a_result_is_checked_against_its_predictions(result, ds):
    paper.verify(result, ds)
    spoilt = result["shown_predictions"].copy()
    spoilt[1, ..., ::2] *= 2
    with pytest.raises(ValueError, match="'cnn2d' do not give their stored scores"):
        paper.verify({**result, "shown_predictions": spoilt}, ds)


@pytest.mark.parametrize("name", ["gru", "s4", "transformer"])
def test_gradients_are_those_of_the_model_at_each_moment(name):
    torch.manual_seed(0)
    model = population.build(name, 34, 4).eval()
    sounds, frames = torch.randn(2, 34, 60), np.array([[59, 40], [45, 31]])
    found = paper.gradients(model, sounds, frames, [3, 1], n_lags=30)
    assert found.shape == (2, 2, 34, 30)
    for i, neuron in enumerate((3, 1)):
        for k in range(2):
            expected = model.STRF_gradmap(sounds[k, :, : frames[i, k] + 1], 30)[neuron, 0]
            torch.testing.assert_close(found[i, k], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["gru", "mamba", "transformer"])
def test_a_network_that_heard_the_last_frames_only(name):
    torch.manual_seed(0)
    model = population.build(name, 34, 3).eval()
    sounds, frames = torch.randn(2, 34, 50), [20, 35, 49]
    found = paper.heard_for(model, sounds, 15, frames)
    assert found.shape == (2, 3, 3)
    with torch.no_grad():
        for k, sound in enumerate(sounds):
            for j, t in enumerate(frames):
                expected = model(sound[None, None, :, t - 14 : t + 1])[0, :, 0, -1]
                np.testing.assert_allclose(found[k, :, j], expected, rtol=1e-4, atol=1e-6)


def test_a_window_as_long_as_the_filter_is_all_the_past():
    torch.manual_seed(0)
    model = models.LinearNonlinear(34, 9, 3).eval()
    sounds = torch.randn(1, 34, 40)
    with torch.no_grad():
        whole = model(sounds[:, None])[0, :, 0, [20, 39]]
    np.testing.assert_allclose(paper.heard_for(model, sounds, 9, [20, 39])[0], whole, rtol=1e-5, atol=1e-6)


def test_peaks_lie_apart_in_the_order_of_time():
    rate = np.array([9.0, 0, 5, 6, 5, 0, 0, 8, 7, 0, 1])
    assert paper._peaks(rate, 2, 3, apart=3) == [3, 7, 10]
    assert paper._peaks(rate, 0, 1, apart=3) == [0]


def test_probes():
    ramps, tones = paper.probes(5.0)
    onset = round(paper.PROBE_MS[0] / 5)
    for levels in (ramps, tones):
        assert (levels[:, :onset] == paper.QUIET).all()
    reached = (ramps == paper.LOUD).argmax(1) - onset + 1
    np.testing.assert_array_equal(reached * 5, paper.RISES_MS)
    np.testing.assert_array_equal((tones == paper.LOUD).sum(1) * 5, paper.TONES_MS)
