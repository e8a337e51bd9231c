"""The network receptive field."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strflab.models import NetworkReceptiveField
from strflab.papers import count_parameters


def test_parameter_counts():
    assert count_parameters(NetworkReceptiveField()) == 6203
    assert count_parameters(NetworkReceptiveField(out_neurons=119)) == 8917


def test_it_is_the_equation():
    model = NetworkReceptiveField(
        6, 4, 3, n_hidden=5, norm=False, hidden_activation="lecun_tanh", output_activation="sigmoid"
    ).double()
    x = torch.randn(2, 1, 6, 20, dtype=torch.float64)
    u = 1.7159 * torch.tanh(2 / 3 * F.conv2d(F.pad(x, (3, 0)), model.STRFs(), model.core[0].bias))
    y = torch.sigmoid(torch.einsum("nh,bhft->bnft", model.readout.weight, u) + model.readout.fc.bias[:, None, None])
    torch.testing.assert_close(model(x), y)


def test_layernorm_stands_before_the_hidden_nonlinearity():
    model = NetworkReceptiveField(6, 4, 3, n_hidden=5).double()
    x = torch.randn(2, 1, 6, 20, dtype=torch.float64)
    u = F.layer_norm(model.core[0](x).movedim(1, -1), (5,)).movedim(-1, 1).tanh()
    torch.testing.assert_close(model(x), model.readout(u))


def test_strfs():
    model = NetworkReceptiveField(6, 4, n_hidden=5, prefiltering="adaptrans")
    fields = model.STRFs()
    assert fields.shape == (5, 2, 6, 4)
    assert torch.equal(model.STRFs(3), fields[3])
    assert torch.equal(model.STRFs(-1, "ON"), fields[-1, 0])
    assert torch.equal(model.STRFs(np.int64(2), "OFF"), fields[2, 1])
    assert torch.equal(model.STRFs([3, 0], 1), fields[[3, 0], 1])
    assert torch.equal(model.STRFs(torch.tensor([1, 2])), fields[1:3])
    assert model.STRFs([]).shape == (0, 2, 6, 4)
    assert torch.equal(model.STRFs(polarity=0), fields[:, 0])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"hidden_idx": 5}, "hidden_idx=5"),
        ({"hidden_idx": [0, 9]}, "hidden_idx=9"),
        ({"hidden_idx": np.array([True] * 5)}, "hidden_idx=True"),
        ({"polarity": "OFF"}, "polarity='OFF'"),
        ({"polarity": "on"}, "polarity='on'"),
        ({"polarity": [0]}, "polarity="),
    ],
)
def test_strfs_that_are_not_there(arguments, named):
    with pytest.raises(ValueError, match=named):
        NetworkReceptiveField(6, 4, n_hidden=5).STRFs(**arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_hidden": 0}, "n_hidden=0"),
        ({"temporal_window_size": -1}, "temporal_window_size=-1"),
        ({"norm": "layer"}, "norm='layer'"),
        ({"hidden_activation": "sine"}, "hidden_activation='sine'"),
        ({"kernel": "sine"}, "kernel='sine'"),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        NetworkReceptiveField(**arguments)
