"""Locally connected layer: against its sum written out, its scale, what it refuses."""

import pytest
import torch

from strflab.layers import LocallyConnected1d


@pytest.mark.parametrize(("n_bands", "kernel_size", "stride", "n_in"), [(34, 7, 3, 1), (20, 5, 4, 2), (6, 6, 1, 3)])
def test_it_is_the_sum(n_bands, kernel_size, stride, n_in):
    layer = LocallyConnected1d(n_bands, kernel_size, stride, n_in, 4).double()
    x = torch.randn(2, n_in, n_bands, 9, dtype=torch.float64)
    expected = torch.stack(
        [
            torch.einsum("bckt,ock->bot", x[:, :, p * stride : p * stride + kernel_size], layer.weight[..., p])
            + layer.bias[:, p, None]
            for p in range((n_bands - kernel_size) // stride + 1)
        ],
        2,
    )
    torch.testing.assert_close(layer(x), expected)


def test_shared_weights_make_it_a_convolution():
    layer, conv = LocallyConnected1d(20, 5, 3, 2, 4), torch.nn.Conv2d(2, 4, (5, 1), (3, 1))
    with torch.no_grad():
        layer.weight.copy_(conv.weight)
        layer.bias.copy_(conv.bias[:, None])
    x = torch.randn(2, 2, 20, 9)
    torch.testing.assert_close(layer(x), conv(x))


def test_the_start_is_scaled_by_fan_in():
    torch.manual_seed(0)
    for n_in, kernel_size in [(1, 4), (2, 16)]:
        y = LocallyConnected1d(64, kernel_size, 1, n_in, 32)(torch.randn(1, n_in, 64, 200))
        assert y.var().item() == pytest.approx(1 / 3 + 1 / (3 * n_in * kernel_size), rel=0.1)


def test_frames_do_not_mix():
    layer, x = LocallyConnected1d(12, 3, 2, 1, 2), torch.randn(1, 1, 12, 8)
    changed = x.clone()
    changed[..., 5] += 1
    same = [t for t in range(8) if torch.equal(layer(x)[..., t], layer(changed)[..., t])]
    assert same == [0, 1, 2, 3, 4, 6, 7]
    assert layer.memory == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((5, 6, 1, 1, 1), "kernel_size=6"),
        ((5, 0, 1, 1, 1), "kernel_size=0"),
        ((5, 2, 0, 1, 1), "stride=0"),
        ((5, 2, 1, 1.5, 1), "n_in=1.5"),
        ((True, 2, 1, 1, 1), "n_bands=True"),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        LocallyConnected1d(*arguments)
