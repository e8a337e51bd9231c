"""Building blocks of population models, against explicit sums."""

import pytest
import torch

from strflab.layers import ChannelWeights, TemporalFIR, ThresholdReLU


def test_channel_weights():
    layer = ChannelWeights(4, 3).double()
    x = torch.randn(2, 4, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.einsum("ji,bift->bjft", layer.weight, x))


def test_temporal_fir_is_the_explicit_sum():
    layer = TemporalFIR(3, 4).double()
    x = torch.randn(2, 3, 1, 9, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for t in range(9):
        for lag in range(min(4, t + 1)):
            expected[..., t] += layer.weight[:, 3 - lag, None] * x[..., t - lag]
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_temporal_fir_streams(chunk):
    layer = TemporalFIR(3, 5)
    x, state, pieces = torch.randn(2, 3, 1, 15), None, []
    for piece in x.split(chunk, -1):
        y, state = layer.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), layer(x))
    assert layer.memory == 5


def test_threshold():
    layer = ThresholdReLU(2)
    with torch.no_grad():
        layer.threshold.copy_(torch.tensor([0.5, -1.0]))
    x = torch.tensor([[0.0, 0.5, 2.0], [-2.0, -0.5, 1.0]]).reshape(1, 2, 1, 3)
    expected = torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.5, 2.0]]).reshape(1, 2, 1, 3)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("make", [lambda: ChannelWeights(0, 2), lambda: TemporalFIR(2, 0), lambda: ThresholdReLU(-1)])
def test_wrong_sizes(make):
    with pytest.raises(ValueError, match="must be an integer"):
        make()
