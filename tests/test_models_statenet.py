"""StateNet: parameter counts, the encoder's connectivities, streaming, saving, what it refuses."""

import pytest
import torch
from torch import nn

from strflab.layers import GRU, LMU
from strflab.models import StateNet, available, from_pretrained

BACKBONES = ["GRU", "LSTM", "RNN", "LMU", "Mamba", "S4", "S4D"]
SMALL = {"n_frequency_bands": 20, "kernel_size": 5, "stride": 3, "hidden_channels": 3, "out_neurons": 4}


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("rnn_type", "one", "all_119"),
    [
        ("GRU", 30_467, 39_081),
        ("LSTM", 40_407, 49_021),
        ("RNN", 10_587, 19_201),
        ("vanilla", 10_587, 19_201),
        ("LMU", 19_675, 28_289),
        ("Mamba", 39_147, 47_761),
    ],
)
def test_parameter_counts(rnn_type, one, all_119):
    assert n_parameters(StateNet(rnn_type=rnn_type)) == one
    assert n_parameters(StateNet(rnn_type=rnn_type, out_neurons=119)) == all_119


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({"n_frequency_bands": 34, "rnn_type": "GRU"}, 30_465),  # NS1
        ({"n_frequency_bands": 32, "rnn_type": "Mamba"}, 32_334),  # AA1, MLd
        (
            {"n_frequency_bands": 18, "rnn_type": "LSTM", "kernel_size": 5, "stride": 2, "hidden_channels": 10},
            40_271,
        ),  # NAT4
    ],
)
def test_published_parameter_counts(options, published):
    assert n_parameters(StateNet(norm="batch", output_activation="sigmoid", **options)) == published


@pytest.mark.parametrize("rnn_type", BACKBONES)
@pytest.mark.parametrize("n", [1, 7, 250])
def test_chunks_give_the_whole(rnn_type, n):
    torch.manual_seed(0)
    model, x = StateNet(rnn_type=rnn_type, **SMALL), torch.randn(2, 1, 20, 260)
    state, parts = None, []
    for chunk in x.split(n, -1):
        y, state = model.stream(chunk, state)
        parts.append(y)
    expected = model(x).detach()
    torch.testing.assert_close(torch.cat(parts, -1), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("connectivity", ["LC", "FC", "CONV"])
def test_connectivity_says_which_bands_a_place_reads(connectivity):
    model = StateNet(connectivity=connectivity, prefiltering="adaptrans", norm=None, **SMALL)
    x = torch.randn(1, 2, 20, 1, requires_grad=True)
    z = model.core.encoder(x)  # (1, 3, 6, 1)
    assert z.shape == (1, 3, 6, 1)
    (g,) = torch.autograd.grad(z[0, :, 2].sum(), x)
    read = (g[0, :, :, 0] != 0).all(0).nonzero().flatten().tolist()
    assert read == (list(range(20)) if connectivity == "FC" else [6, 7, 8, 9, 10])
    places = model.core.encoder(torch.ones(1, 2, 20, 1))[0, 0, :, 0]
    assert places.allclose(places[0]) == (connectivity == "CONV")


def test_the_encoder_is_squashed_frame_by_frame():
    model = StateNet(rnn_type="RNN", **SMALL)
    x = torch.randn(2, 1, 20, 30)
    z = model.core.sigmoid(model.core.norm(model.core.encoder(x)))
    expected = torch.sigmoid(nn.functional.layer_norm(model.core.encoder(x).movedim(1, -1), (3,)).movedim(-1, 1))
    torch.testing.assert_close(z, expected)
    h = model.core.recurrence.backbone(z.reshape(2, 18, 30).transpose(1, 2))  # channel by channel, then places
    r = model.readout.activation((h @ model.readout.fc.weight.T + model.readout.fc.bias).transpose(1, 2)[:, :, None])
    torch.testing.assert_close(model(x), r)


def test_batch_norm_lets_the_future_in_only_when_training():
    """The lesson of BatchNorm that let the future and the other clips in: not the default, and gone in evaluation."""
    x = torch.randn(2, 1, 20, 30)
    later = x.clone()
    later[..., 20:] += 5
    for norm, training, leaks in [("layer", True, False), ("batch", True, True), ("batch", False, False)]:
        model = StateNet(norm=norm, **SMALL).train(training)
        assert torch.equal(model(x)[..., :20], model(later)[..., :20]) != leaks


@pytest.mark.parametrize(
    "rnn_type",
    [*BACKBONES, "vanilla", {"type": "LMU", "theta": 30, "memory_size": 16}, {"type": "s4", "state_size": 8}],
    ids=str,
)
def test_saved_models_come_back_bit_for_bit(rnn_type, tmp_path):
    model, x = StateNet(rnn_type=rnn_type, **SMALL).eval(), torch.randn(1, 1, 20, 40)
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(again(x), model(x))
    assert again.config == model.config


def test_a_backbone_of_ones_own_making_is_saved_with_its_options(tmp_path):
    StateNet(rnn_type=LMU(18, memory_size=9, theta=12.5), norm=None, connectivity="FC", **SMALL).save_pretrained(
        tmp_path
    )
    again = from_pretrained(tmp_path)
    backbone = again.core.recurrence.backbone
    assert (backbone.memory_size, backbone.theta) == (9, 12.5)
    assert isinstance(again.core.norm, nn.Identity)


def test_gradient_map_reaches_as_far_as_the_memory():
    model = StateNet(rnn_type="RNN", **SMALL)
    field = model.STRF_gradmap()
    assert field.shape[:3] == (4, 1, 20)
    assert field[..., -1].abs().max() > 0
    assert model.memory == float("inf")


def test_it_is_in_the_zoo():
    assert "StateNet" in available()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_frequency_bands": 6}, "kernel_size=7"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"stride": 0}, "stride=0"),
        ({"hidden_channels": -1}, "hidden_channels=-1"),
        ({"hidden_channels": 100_000}, "hidden_channels=100000"),
        ({"connectivity": "lc"}, "connectivity='lc'"),
        ({"rnn_type": "gru3"}, "rnn_type="),
        ({"rnn_type": GRU(3)}, "made for width 3, must be 70"),
        ({"norm": "instance"}, "norm='instance'"),
        ({"temporal_window_size": 0}, "temporal_window_size=0"),
    ],
)
def test_wrong_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        StateNet(**options)
