"""Convolutional models: over bands and frames, and Pennington & David's over frames alone."""

import pytest
import torch
import torch.nn.functional as F

from strflab.models import ConvNet1D, ConvNet2D
from strflab.papers import count_parameters


def test_parameter_counts():
    assert count_parameters(ConvNet2D()) == 11_403
    assert count_parameters(ConvNet2D(out_neurons=119)) == 14_117


def test_convnet2d_hidden_layer():
    model = ConvNet2D(12, out_neurons=3, kernel_size=(3, 4), c_hidden=2, n_hidden=5, output_activation="identity")
    x = torch.randn(2, 1, 12, 20)
    features = model.core(x).flatten(1, 2).mT  # (B, T, channels x bands)
    expected = model.readout.last(F.leaky_relu(model.readout.fc[0](features), 0.1)).mT
    torch.testing.assert_close(model(x)[:, :, 0], expected)
    assert features.shape[-1] == 2 * (12 - 6)
    assert model.memory == 3 * 3 + 1


def test_convnet2d_frames_by_either_argument():
    assert ConvNet2D(temporal_window_size=5).memory == ConvNet2D(kernel_size=(3, 5)).memory == 13
    assert ConvNet2D(34, 5, 2, kernel_size=(3, 5)).memory == 13
    assert ConvNet2D(34, 9, 2).memory == ConvNet2D().memory == 25
    with pytest.raises(ValueError, match=r"temporal_window_size=7: contradicts kernel_size=\(3, 5\)"):
        ConvNet2D(temporal_window_size=7, kernel_size=(3, 5))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_frequency_bands": 6}, r"kernel_size=\(3, 9\).*n_frequency_bands=6"),
        ({"kernel_size": 3}, "kernel_size=3"),
        ({"kernel_size": (3, 0)}, r"kernel_size\[1\]=0"),
        ({"temporal_window_size": 2.5}, r"temporal_window_size=2\.5"),
        ({"c_hidden": 0}, "c_hidden=0"),
        ({"n_hidden": None}, "n_hidden=None"),
        ({"padding": "full"}, "padding='full'"),
        ({"norm": "batch"}, "norm='batch'"),
        ({"hidden_activation": "sine"}, "hidden_activation='sine'"),
    ],
)
def test_convnet2d_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        ConvNet2D(**arguments)


def test_convnet1d_is_the_equation():
    """Two stages and a dense layer, written out with explicit sums over lags."""
    model = ConvNet1D(6, (4, 3), 2, n_channels=(5, 7), n_hidden=4, output_activation="identity").double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "threshold" in name:
                parameter.normal_()
    x = torch.randn(1, 1, 6, 15, dtype=torch.float64)
    _, theta1, w, h, theta2, v, theta3 = model.core
    u1 = F.conv2d(F.pad(x, (3, 0)), model.core[0].STRF_weight())[0, :, 0]
    u1 = (u1 - theta1.threshold[:, None]).clamp(min=0)
    u2 = torch.zeros(7, 15, dtype=torch.float64)
    for t in range(15):
        for lag in range(min(3, t + 1)):
            u2[:, t] += h.weight[:, 2 - lag] * (w.weight @ u1[:, t - lag])
    u2 = (u2 - theta2.threshold[:, None]).clamp(min=0)
    u3 = (v.weight @ u2 - theta3.threshold[:, None]).clamp(min=0)
    torch.testing.assert_close(model(x)[0, :, 0], model.readout.weight @ u3 + model.readout.fc.bias[:, None])
    assert model.memory == 4 + 3 - 1


def test_convnet1d_spectral_weights_are_gaussian_unless_asked_otherwise():
    model = ConvNet1D(18, 5, n_channels=4)
    assert torch.linalg.matrix_rank(model.core[0].STRF_weight()).eq(1).all()
    assert model.core[0].kernel.mu.shape == (4, 1, 1)
    assert ConvNet1D(18, 5, n_channels=4, kernel="full").core[0].STRF_weight().shape == (4, 1, 18, 5)


def test_linear_convnet1d_has_one_filter_a_neuron():
    model = ConvNet1D(6, 4, 3, n_channels=5, n_hidden=None, rectify=False, output_activation="identity").double()
    x = torch.randn(2, 1, 6, 15, dtype=torch.float64)
    torch.testing.assert_close(model(x), F.conv2d(F.pad(x, (3, 0)), model.STRF_weight(), model.readout.fc.bias))
    torch.testing.assert_close(model.STRF_gradmap(), model.STRF_weight())
    with pytest.raises(ValueError, match="STRF_gradmap"):
        ConvNet1D(6, 4).STRF_weight()


def test_one_window_for_all_stages():
    assert ConvNet1D(6, 4, n_channels=[5, 7, 3]).memory == 3 * 3 + 1


def test_config_holds_several_sizes(tmp_path):
    model = ConvNet1D(6, (4, 3), 2, n_channels=(5, 7), n_hidden=[4, 3])
    model.save_pretrained(tmp_path)
    again = ConvNet1D.from_pretrained(tmp_path)
    x = torch.randn(1, 1, 6, 15)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"temporal_window_size": (4, 3)}, "temporal_window_size="),
        ({"temporal_window_size": ()}, "temporal_window_size="),
        ({"n_channels": 0}, "n_channels=0"),
        ({"n_channels": [5, 2.5]}, r"n_channels\[1\]=2\.5"),
        ({"n_hidden": [0]}, r"n_hidden\[0\]=0"),
        ({"rectify": None}, "rectify=None"),
        ({"rectify": False}, "rectify=False"),
    ],
)
def test_convnet1d_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        ConvNet1D(**arguments)
