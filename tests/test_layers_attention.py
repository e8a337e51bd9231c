"""Attention: windows against the dense mask, streams, positions, and who hears a bad frame."""

from __future__ import annotations

import math

import pytest
import torch

from strflab.layers.attention import (
    CausalSelfAttention,
    SinusoidalPosition,
    _rotate,
    causal_attention,
    position_angles,
)


def dense_attention(q, k, v, window=None):
    """The definition: every score, a mask, a softmax."""
    lag = torch.arange(q.shape[1])[:, None] - torch.arange(k.shape[1])
    visible = (lag >= 0) & (lag < (window or math.inf))
    scores = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).masked_fill(~visible, -math.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("n_frames", [1, 7, 32, 33, 100, 257])
@pytest.mark.parametrize("window", [1, 2, 5, 32, 150, 400])
def test_window_is_the_dense_mask(n_frames, window):
    q, k, v = torch.randn(3, 2, n_frames, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = dense_attention(q, k, v, window)
    assert torch.allclose(causal_attention(q, k, v, window), expected, atol=1e-12)
    part = n_frames // 2  # the queries of the second half alone
    assert torch.allclose(causal_attention(q[:, part:], k, v, window), expected[:, part:], atol=1e-12)
    first = max(0, part - window + 1)  # and all that they can see
    late = causal_attention(q[:, part:], k[:, first:], v[:, first:], window)
    assert torch.allclose(late, expected[:, part:], atol=1e-12)


def test_the_whole_past_is_the_dense_mask():
    q, k, v = torch.randn(3, 2, 90, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(causal_attention(q, k, v), dense_attention(q, k, v), atol=1e-12)
    assert torch.allclose(causal_attention(q[:, 60:], k, v), dense_attention(q, k, v)[:, 60:], atol=1e-12)


@pytest.mark.parametrize("window", [None, 4])
def test_gradients(window):
    x = torch.randn(3, 1, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k, v = x[0, :, 3:], x[1], x[2]
    assert torch.autograd.gradcheck(
        lambda *x: causal_attention(*x, window), [z.clone().requires_grad_() for z in (q, k, v)]
    )


@pytest.mark.parametrize("window", [None, 10, 70])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_frame_spoils_only_those_who_see_it(window, bad):
    layer = CausalSelfAttention(8, 2, window)
    x = torch.randn(2, 120, 8, generator=torch.Generator().manual_seed(0))
    y = layer(x)
    x[0, 50, 3] = bad
    spoilt = layer(x)
    last = 120 if window is None else min(120, 50 + window)
    assert spoilt[0, 50:last].isnan().all()
    assert torch.equal(spoilt[0, :50], y[0, :50])
    assert torch.equal(spoilt[0, last:], y[0, last:])
    assert torch.equal(spoilt[1], y[1])


def test_a_bad_frame_spoils_a_stream_as_long_as_the_whole():
    layer = CausalSelfAttention(8, 2, 10)
    x = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
    x[0, 12, 0] = math.nan
    state, spoilt = None, []
    for frame in x.split(1, 1):
        y, state = layer.stream(frame, state)
        spoilt.append(bool(y.isnan().any()))
    assert spoilt == [12 <= t < 22 for t in range(40)]


@pytest.mark.parametrize("n_frames", [40, 200])
@pytest.mark.parametrize("window", [None, 1, 25, 60])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_future_changes_no_bit_of_the_past(n_frames, window, rotary):
    layer = CausalSelfAttention(12, 2, window, rotary)
    x = torch.randn(3, n_frames, 12, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 21:] = 1e6 * torch.randn(3, n_frames - 21, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer(x)[:, :21], layer(other)[:, :21])


@pytest.mark.parametrize("chunk", [1, 7, 250])
@pytest.mark.parametrize("window", [None, 1, 20])
@pytest.mark.parametrize("rotary", [False, True])
def test_stream_is_the_whole(chunk, window, rotary):
    layer = CausalSelfAttention(12, 3, window, rotary)
    x = torch.randn(2, 300, 12, generator=torch.Generator().manual_seed(0))
    state, y = None, []
    for frames in x.split(chunk, 1):
        out, state = layer.stream(frames, state)
        y.append(out)
    whole = layer(x)
    assert (torch.cat(y, 1) - whole).abs().max() < 1e-5 * whole.abs().max()
    assert state[0].shape[1] == (300 if window is None else window - 1)


def test_rotary_weights_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = [
        (
            _rotate(q, position_angles(torch.tensor(t + 7), 1, 8)) * _rotate(k, position_angles(torch.tensor(t), 1, 8))
        ).sum()
        for t in (0, 1000, 10**8)
    ]
    assert torch.allclose(torch.stack(scores), scores[0], atol=1e-6)
    # as a rotation of the plane of features i and i + d/2 by t / 10000^(2i/d)
    turned = torch.view_as_complex(torch.stack([q[..., :4], q[..., 4:]], -1)) * torch.exp(
        1j * 5 * 10_000.0 ** (-torch.arange(0, 8, 2) / 8).double()
    )
    assert torch.allclose(
        _rotate(q, position_angles(torch.tensor(5), 1, 8)), torch.cat([turned.real, turned.imag], -1), atol=1e-12
    )


def test_a_windowed_stream_forgets_when_it_began():
    """Rotary attention in a window answers the same sound alike, whatever came before and however long ago it began."""
    layer = CausalSelfAttention(8, 2, 10, rotary=True).double()
    x = torch.randn(1, 30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    long_ago = layer.stream(x[:, :9])[1][:2]
    late, early = (
        layer.stream(torch.cat([x[:, :9], x], 1), (*(torch.zeros_like(z) for z in long_ago), torch.tensor(n)))[0]
        for n in (20_000_000, 9)
    )
    assert torch.allclose(late, early, atol=1e-7)


def test_sinusoidal_positions():
    t, i = torch.arange(5000).double()[:, None], torch.arange(0, 10, 2).double()
    angle = t / 10_000 ** (i / 10)
    y = SinusoidalPosition()(torch.zeros(1, 5000, 10, dtype=torch.float64))[0]
    assert torch.allclose(y[:, 0::2], angle.sin(), atol=1e-12)
    assert torch.allclose(y[:, 1::2], angle.cos(), atol=1e-12)
    far = SinusoidalPosition().stream(torch.zeros(1, 1, 10), torch.tensor(20_000_000))[0][0, 0]
    assert far[0].item() == pytest.approx(math.sin(20_000_000), abs=1e-6)


def test_is_torchs_attention():
    ours, torchs = CausalSelfAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    torchs.load_state_dict(
        {
            "in_proj_weight": ours.in_proj.weight,
            "in_proj_bias": ours.in_proj.bias,
            "out_proj.weight": ours.out_proj.weight,
            "out_proj.bias": ours.out_proj.bias,
        }
    )
    x = torch.randn(2, 50, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(50, 50, dtype=torch.bool).triu(1)
    assert torch.allclose(ours(x), torchs(x, x, x, attn_mask=mask, need_weights=False)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"width": 0}, "width"),
        ({"width": 12, "n_heads": 5}, "n_heads=5"),
        ({"width": 12, "n_heads": 4, "rotary": True}, "n_heads=4"),
        ({"width": 12, "context_window": 0}, "context_window=0"),
        ({"width": 12, "context_window": 2.5}, "context_window=2.5"),
        ({"width": 12, "rotary": 1}, "rotary=1"),
    ],
)
def test_wrong_arguments(arguments, names):
    with pytest.raises(ValueError, match=names):
        CausalSelfAttention(**arguments)
