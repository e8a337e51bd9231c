"""Convolutions over bands and frames: causal, against torch's own on an explicitly padded sound, streamed."""

import pytest
import torch
import torch.nn.functional as F

from strflab.layers import CausalConv2dStack


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("height", [2, 3])
def test_it_is_the_padded_convolutions(height, padding):
    stack = CausalConv2dStack(12, 2, 4, (height, 5), padding=padding).double()
    x = torch.randn(2, 2, 12, 20, dtype=torch.float64)
    y = F.pad(x, (12, 0))  # silence, long enough for all three layers
    for conv, norm in zip(stack.convs, stack.norms):
        if padding == "same":
            y = F.pad(y, (0, 0, (height - 1) // 2, height // 2))
        y = F.leaky_relu(norm(F.conv2d(y, conv.weight, conv.bias)), 0.1)
    torch.testing.assert_close(stack(x), y)
    assert y.shape == (2, 4, stack.n_bands, 20)
    assert stack.n_bands == (12 if padding == "same" else 12 - 3 * (height - 1))


@pytest.mark.parametrize("chunk", [1, 7, 250])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("n_lags", [1, 9])
def test_streaming_equals_the_whole(chunk, padding, n_lags):
    # in float64: a LayerNorm over three channels that are nearly alike makes much of float32's round-off
    stack = CausalConv2dStack(10, 1, 3, (3, n_lags), padding=padding).double()
    x, state, pieces = torch.randn(2, 1, 10, 300 if chunk > 1 else 40, dtype=torch.float64), None, []
    for piece in x.split(chunk, -1):
        y, state = stack.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), stack(x), rtol=1e-9, atol=1e-9)
    assert all(past.shape[-1] == n_lags - 1 for past in state)


def test_it_remembers_what_it_says():
    stack = CausalConv2dStack(10, 1, 3, (3, 4)).double()
    x = torch.randn(1, 1, 10, 30, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[..., -1].square().sum(), x)
    reached = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    assert 30 - reached[0] == stack.memory == 10


def test_too_few_bands():
    with pytest.raises(ValueError, match=r"kernel_size=\(3, 9\).*n_frequency_bands=6"):
        CausalConv2dStack(6, 1, 3, (3, 9))
    assert CausalConv2dStack(7, 1, 3, (3, 9)).n_bands == 1
    assert CausalConv2dStack(6, 1, 3, (3, 9), padding="same").n_bands == 6
