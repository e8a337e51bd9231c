"""Readouts: BatchNorm folded into the filter, dense layers, streaming through an activation with a memory."""

import pytest
import torch
import torch.nn.functional as F

from strflab.layers import CausalSTRFConv, Chain, LearnableExponentialDecay, LinearReadout, Pointwise, STRFReadout


def shaken_batchnorm(readout):
    """The readout in evaluation mode, its normalisation far from its first values."""
    with torch.no_grad():
        readout.norm.running_mean.normal_()
        readout.norm.running_var.uniform_(0.2, 3)
        readout.norm.weight.normal_()
        readout.norm.bias.normal_()
    return readout.eval()


@pytest.mark.parametrize("kernel", [None, "separable"])
def test_batchnorm_is_folded_into_the_filter(kernel):
    readout = shaken_batchnorm(STRFReadout(6, 4, 2, 3, kernel, norm="batch").double())
    x = torch.randn(2, 2, 6, 20, dtype=torch.float64)
    expected = F.conv2d(F.pad(x, (3, 0)), readout.STRF_weight(), readout.STRF_bias())
    torch.testing.assert_close(readout(x), expected)


def test_without_batchnorm_the_filter_is_the_kernel():
    readout = STRFReadout(6, 4, 1, 3)
    assert torch.equal(readout.STRF_weight(), readout.strf.kernel.weight)
    assert torch.equal(readout.STRF_bias(), readout.strf.bias)


def test_batchnorm_in_training_mode_lets_other_clips_in():
    """The lesson that makes it optional: a clip's prediction changes with its neighbours in the batch."""
    x = torch.randn(3, 1, 6, 20)
    batch, plain = STRFReadout(6, 4, 1, 2, norm="batch").train(), STRFReadout(6, 4, 1, 2).train()
    assert not torch.allclose(batch(x)[:1], batch(x[:1]))
    torch.testing.assert_close(plain(x)[:1], plain(x[:1]))
    with pytest.raises(ValueError, match="norm='layer'"):
        STRFReadout(6, 4, 1, 2, norm="layer")


def test_linear_readout_flattens_channels_then_bands():
    readout = LinearReadout(6, 4).double()
    x = torch.randn(2, 3, 2, 5, dtype=torch.float64)
    expected = torch.einsum("ncf,bcft->bnt", readout.weight.reshape(4, 3, 2), x) + readout.fc.bias[:, None]
    torch.testing.assert_close(readout(x)[:, :, 0], expected)


@pytest.mark.parametrize("hidden", [None, 5])
def test_readout_is_dense_layers_however_the_input_lies_in_memory(hidden):
    readout = LinearReadout(6, 4, hidden, activation=Pointwise("tanh")).double()
    by_channel = torch.randn(2, 6, 1, 7, dtype=torch.float64, requires_grad=True)
    by_frame = by_channel.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    expected = torch.tanh(readout.fc(by_channel[:, :, 0].mT).mT)[:, :, None]
    wanted = torch.autograd.grad(expected.square().sum(), [by_channel, *readout.parameters()])
    for x in (by_channel, by_frame):
        torch.testing.assert_close(readout(x), expected)
        found = torch.autograd.grad(readout(x).square().sum(), [x, *readout.parameters()])
        torch.testing.assert_close(found, wanted)


def test_hidden_layer():
    readout = LinearReadout(6, 4, hidden=5, hidden_activation="tanh").double()
    x = torch.randn(2, 6, 1, 5, dtype=torch.float64)
    hidden = torch.tanh(readout.fc[0](x[:, :, 0].mT))
    torch.testing.assert_close(readout(x)[:, :, 0], readout.last(hidden).mT)
    assert readout.weight.shape == (4, 5)


def test_an_activation_with_a_memory_is_streamed():
    readout = LinearReadout(6, 4, activation=Chain(Pointwise("sigmoid"), LearnableExponentialDecay(4, 20.0)))
    x, state, pieces = torch.randn(2, 6, 1, 90), None, []
    for piece in x.split(7, -1):
        y, state = readout.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), readout(x))
    assert readout.memory == float("inf")


def test_memory_adds_up_along_a_chain():
    chain = Chain(CausalSTRFConv(6, 4, 1, 3), torch.nn.ReLU(), CausalSTRFConv(1, 5, 3, 2))
    assert chain.memory == 4 + 5 - 1
    x, state, pieces = torch.randn(2, 1, 6, 30), None, []
    for piece in x.split(4, -1):
        y, state = chain.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), chain(x))


@pytest.mark.parametrize("arguments", [{"n_in": 0}, {"n_neurons": 1.5}, {"hidden": 0}, {"hidden_activation": "none"}])
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="="):
        LinearReadout(**{"n_in": 3, "n_neurons": 2, "hidden": 4} | arguments)
