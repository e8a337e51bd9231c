"""What all models share: streaming, gradient maps, files, checks. The rules over the whole zoo are tested elsewhere."""

import json

import pytest
import torch
from torch import nn

from strflab import models
from strflab.layers import ICAdaptation
from strflab.models.base import Model


def test_gradient_map_of_a_recurrent_model_against_finite_differences():
    torch.manual_seed(0)
    model = models.DNet(5, 3, 2, n_hidden=3, init_tau=6.0).double()
    stimulus = torch.randn(1, 5, 30, dtype=torch.float64)
    field, step = model.STRF_gradmap(stimulus, n_lags=30), 1e-6
    assert field.shape == (2, 1, 5, 30)
    with torch.no_grad():
        for band, frame in [(0, 29), (3, 20), (4, 1), (2, 0)]:
            up, down = stimulus.clone(), stimulus.clone()
            up[0, band, frame] += step
            down[0, band, frame] -= step
            slope = (model(up[None]) - model(down[None]))[0, :, 0, -1] / (2 * step)
            torch.testing.assert_close(field[:, 0, band, frame], slope, rtol=1e-5, atol=1e-9)


def test_gradient_map_has_the_right_sign():
    """The lesson of a map with the sign turned: more sound where the field is positive gives more spikes."""
    torch.manual_seed(0)
    model = models.NetworkReceptiveField(5, 4, 1).double()
    field = model.STRF_gradmap()
    with torch.no_grad():
        silent, driven = torch.zeros(1, 1, 5, 4, dtype=torch.float64), 1e-4 * field
        assert model(driven)[0, 0, 0, -1] > model(silent)[0, 0, 0, -1]


def test_a_short_gradient_map_is_the_end_of_a_long_one():
    """Of a model that starts in the steady state of its first frame, that frame must not stand for the past."""
    torch.manual_seed(0)
    model = models.DNet(5, 3, 1, n_hidden=3, init_tau=20.0).double()
    torch.testing.assert_close(model.STRF_gradmap(n_lags=4), model.STRF_gradmap(n_lags=400)[..., -4:])


def test_gradient_map_reaches_as_far_as_the_memory():
    model = models.DNet(5, 3, 1, n_hidden=2, init_tau=40.0)
    field = model.STRF_gradmap()
    energy = field.square().sum((0, 1, 2))
    assert energy[: len(energy) // 2].sum() <= 1e-6 * energy.sum()
    assert len(energy) >= 40
    assert models.Linear(5, 7).STRF_gradmap().shape[-1] == 7


def test_gradient_map_leaves_no_trace():
    model = models.Linear(5, 4, 2, norm="batch").train()
    model.readout.activation.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.STRF_gradmap(torch.randn(5, 9))
    assert model.training
    assert model.readout.norm.training
    assert not model.readout.activation.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_gradient_map_of_every_input_channel():
    model = models.Linear(5, 4, 2, prefiltering="adaptrans").double()
    assert model.STRF_gradmap().shape == (2, 2, 5, 4)
    torch.testing.assert_close(model.STRF_gradmap(), model.STRF_weight())


@pytest.mark.parametrize("shape", [(4, 9), (2, 5, 9), (5, 0), (9,)])
def test_gradient_map_refuses_a_stimulus_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match="stimulus of shape"):
        models.Linear(5, 4).STRF_gradmap(torch.zeros(shape))


def test_no_frames_yet():
    model = models.DNet(5, 3, 2, prefiltering="adaptrans")
    y, state = model.stream(torch.zeros(1, 1, 5, 0))
    assert y.shape == (1, 2, 1, 0)
    x = torch.randn(1, 1, 5, 8)
    y, state = model.stream(x, state)
    torch.testing.assert_close(y, model(x))
    again, after = model.stream(torch.zeros(1, 1, 5, 0), state)
    assert again.shape[-1] == 0
    torch.testing.assert_close(model.stream(x, after)[0], model.stream(x, state)[0])


def test_streaming_does_not_change_the_state_it_is_given():
    model, x = models.DNet(5, 3), torch.randn(1, 1, 5, 8)
    _, state = model.stream(x)
    first, _ = model.stream(x, state)
    second, _ = model.stream(x, state)
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(1, 5, 9), (1, 2, 5, 9), (1, 1, 6, 9), (5, 9)])
def test_wrong_input_shapes(shape):
    with pytest.raises(ValueError, match=r"input of shape .* must be a spectrogram \(B, 1, 5, T\)"):
        models.Linear(5)(torch.zeros(shape))


def test_files_round_trip(tmp_path):
    model = models.LinearNonlinear(
        5,
        4,
        2,
        kernel={"type": "separable", "rank": 2},
        prefiltering=ICAdaptation(5, [200.0, 400.0, 800.0, 1600.0, 3200.0], dt_ms=10.0),
        output_activation="double_exponential",
    )
    model.save_pretrained(tmp_path)
    again = Model.from_pretrained(tmp_path)
    x = torch.randn(1, 1, 5, 30)
    assert type(again) is models.LinearNonlinear
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again(x), model.eval()(x))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("activation", ["sigmoid", nn.Sigmoid()], ids=["name", "module"])
def test_a_saved_model_keeps_its_nonlinearity_and_its_precision(activation, tmp_path):
    """The lesson of saved models that came back without their nonlinearity."""
    model = models.Linear(5, 4, 2, output_activation=activation).double()
    model.save_pretrained(tmp_path)
    again = models.from_pretrained(tmp_path)
    x = torch.randn(1, 1, 5, 30, dtype=torch.float64)
    assert torch.equal(again(x), model(x))
    assert (again(x) > 0).all()


def test_what_cannot_be_saved_raises_and_writes_nothing(tmp_path):
    class Squared(nn.Module):
        def forward(self, x):
            return x**2

    model = models.Linear(5, output_activation=Squared())
    with pytest.raises(ValueError, match="output_activation="):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_loading_refuses_what_it_does_not_understand(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        Model.from_pretrained(tmp_path)
    models.Linear(5, 4).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'Linear', not a DNet"):
        models.DNet.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["temporal_window_size"] = 6
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit"):
        Model.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "Linear"}))
    with pytest.raises(ValueError, match="from_deepstrf"):
        Model.from_pretrained(tmp_path)


def test_build():
    assert set(models.available()) >= {"Linear", "LinearNonlinear", "NetworkReceptiveField", "DNet", "ConvNet2D"}
    assert models.build("DNet", n_hidden=3).n_hidden == 3
    with pytest.raises(ValueError, match="name='Perceptron'"):
        models.build("Perceptron")
    with pytest.raises(ValueError, match="n_layers=3: DNet takes"):
        models.build("DNet", n_layers=3)


def test_a_model_without_one_filter_a_neuron_says_so():
    with pytest.raises(ValueError, match="STRF_gradmap"):
        models.DNet(5).STRF_weight()
