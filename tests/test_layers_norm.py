"""LayerNorm over channels or bands, never over time."""

import pytest
import torch

from strflab.layers import CausalLayerNorm


@pytest.mark.parametrize("dim", [1, 2])
def test_each_frame_is_normalised_by_itself(dim):
    x = torch.randn(2, 6, 6, 10, dtype=torch.float64) * 5 + 3
    y = CausalLayerNorm(6, dim).double()(x)
    torch.testing.assert_close(y.mean(dim), torch.zeros_like(y.mean(dim)))
    torch.testing.assert_close(y.var(dim, unbiased=False), torch.ones_like(y.mean(dim)), rtol=1e-4, atol=1e-4)


def test_other_frames_do_not_matter():
    layer, x = CausalLayerNorm(6), torch.randn(2, 6, 3, 10)
    changed = x.clone()
    changed[..., 4:] = 100 * torch.randn(2, 6, 3, 6)
    assert torch.equal(layer(x)[..., :4], layer(changed)[..., :4])
    assert torch.equal(layer(x[:1]), layer(x)[:1])


def test_over_time_is_refused():
    with pytest.raises(ValueError, match="dim=3"):
        CausalLayerNorm(6, dim=3)
