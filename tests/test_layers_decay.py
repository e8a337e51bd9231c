"""Leaky integration: the block form against the recursion, gain, gradients, streaming."""

import pytest
import torch
from torch.autograd import gradcheck

from strflab.layers import LearnableExponentialDecay, exponential_scan
from strflab.layers.decay import BLOCK, recursive_scan, scan

DECAYS = torch.tensor([0.0, 0.5, 0.9, 1 - 1 / 200, 1 - 1e-5], dtype=torch.float64)


@pytest.mark.parametrize("n_frames", [1, 9, BLOCK - 1, BLOCK, BLOCK + 1, 300, BLOCK * BLOCK + BLOCK + 3])
def test_blocks_equal_the_recursion(n_frames):
    x, initial = torch.randn(2, 5, n_frames, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    expected = recursive_scan(x, DECAYS, initial)
    torch.testing.assert_close(exponential_scan(x, DECAYS, initial), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scan(x, DECAYS, initial), expected, rtol=1e-9, atol=1e-9)


def test_long_recordings_take_memory_in_proportion():
    """200,000 frames are 3125 blocks: a matrix of all pairs of them would take 300 MB here."""
    x = torch.ones(1, 4, 200_000)
    y = exponential_scan(x, torch.full((4,), 0.99), torch.zeros(1, 4))
    torch.testing.assert_close(y[..., -1], torch.full((1, 4), 100.0), rtol=1e-4, atol=0)


def test_scan_gradients():
    x = torch.randn(1, 3, 70, dtype=torch.float64, requires_grad=True)
    a = torch.tensor([0.0, 0.5, 0.97], dtype=torch.float64, requires_grad=True)
    initial = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(exponential_scan, (x, a, initial))
    assert gradcheck(recursive_scan, (x[..., :9].detach().requires_grad_(), a, initial))


@pytest.mark.parametrize("tau", [1.0, 1.5, 2.0, 14.0, 50.0, 200.0])
def test_gain_at_dc_is_one(tau):
    """The lesson of a decay kernel cut at a fixed length while its time constant grew."""
    decay = LearnableExponentialDecay(1, init_tau=tau).double()
    n_frames = int(40 * tau) + 2
    x = torch.zeros(1, 1, 1, n_frames, dtype=torch.float64)
    x[..., 1:] = 1.0  # a step after one frame of silence
    y = decay(x)[0, 0, 0]
    assert y[0] == 0
    assert y[-1].item() == pytest.approx(1.0, abs=1e-12)
    expected = 1 - (1 - 1 / tau) ** torch.arange(n_frames, dtype=torch.float64)
    torch.testing.assert_close(y, expected)


def test_without_decay_input_the_gain_is_tau():
    decay = LearnableExponentialDecay(2, init_tau=5.0, decay_input=False).double()
    y = decay(torch.ones(1, 2, 1, 30, dtype=torch.float64))
    torch.testing.assert_close(y, torch.full_like(y, 5.0))


@pytest.mark.parametrize("tau", [1.0, 3.0, 200.0])
def test_a_constant_sound_gives_a_constant_answer(tau):
    y = LearnableExponentialDecay(3, init_tau=tau)(torch.full((1, 3, 1, 150), 0.7))
    torch.testing.assert_close(y, torch.full_like(y, 0.7), rtol=1e-5, atol=0)


def test_it_is_the_equation():
    decay = LearnableExponentialDecay(3).double()
    with torch.no_grad():
        decay.d.copy_(torch.tensor([0.3, 2.0, 9.0]))
    x = torch.randn(2, 3, 1, 100, dtype=torch.float64)
    alpha = 1 / (1 + decay.d**2)
    y = [x[:, :, 0, 0]]
    for t in range(1, 100):
        y.append((1 - alpha) * y[-1] + alpha * x[:, :, 0, t])
    torch.testing.assert_close(decay(x)[:, :, 0], torch.stack(y, -1))


def test_layer_gradients():
    decay = LearnableExponentialDecay(2).double()
    x = torch.randn(1, 2, 1, 70, dtype=torch.float64, requires_grad=True)
    d = torch.tensor([0.5, 4.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, d: torch.func.functional_call(decay, {"d": d}, (x,)), (x, d))


@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_streaming_equals_the_whole(chunk):
    decay = LearnableExponentialDecay(4, init_tau=30.0)
    x, state, pieces = torch.randn(2, 4, 1, 500), None, []
    for piece in x.split(chunk, -1):
        y, state = decay.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), decay(x), rtol=1e-5, atol=1e-5)


def test_the_future_does_not_matter():
    decay, x = LearnableExponentialDecay(4, init_tau=30.0), torch.randn(2, 4, 1, 200)
    changed = x.clone()
    changed[..., 101:] = torch.randn(2, 4, 1, 99)
    assert torch.equal(decay(x)[..., :101], decay(changed)[..., :101])


def test_autocast_does_not_shorten_the_memory():
    decay = LearnableExponentialDecay(1, init_tau=200.0)
    x = torch.zeros(1, 1, 1, 1000)
    x[..., 0] = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        y = decay(x)
    torch.testing.assert_close(y, decay(x))


@pytest.mark.parametrize("tau", [0.99, 0, -1, float("nan"), float("inf"), "2", True])
def test_wrong_time_constants(tau):
    with pytest.raises(ValueError, match="init_tau="):
        LearnableExponentialDecay(3, init_tau=tau)
