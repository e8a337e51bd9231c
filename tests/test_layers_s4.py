"""State spaces: convolution against recurrence, the kernels against their definitions, HiPPO, gradients."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from strflab.layers import S4, S4D
from strflab.layers.s4 import hippo_legs, power_sequence, smooth_length


def by_frames(layer, x):
    """What the recurrence gives, a frame at a time."""
    state, frames = None, []
    for frame in x.split(1, 1):
        y, state = layer.stream(frame, state)
        frames.append(y)
    return torch.cat(frames, 1)


kinds = pytest.mark.parametrize("kind", [S4, S4D], ids=["S4", "S4D"])


@kinds
@pytest.mark.parametrize("n_frames", [1, 2, 3, 31, 64, 65, 500])
def test_convolution_is_recurrence(kind, n_frames):
    layer = kind(5, state_size=16).double()
    x = torch.randn(2, n_frames, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_frames(layer, x), rtol=1e-9, atol=1e-10)


@kinds
def test_convolution_is_recurrence_in_single_precision_at_full_size(kind):
    torch.manual_seed(0)
    layer, x = kind(20), torch.randn(1, 2000, 20)
    torch.testing.assert_close(layer(x), by_frames(layer, x), rtol=1e-5, atol=1e-5)


@kinds
def test_kernels_of_different_lengths_agree(kind):
    layer = kind(4, state_size=8).double()
    longest = layer.kernel(700)
    for n in (1, 5, 64, 333):
        torch.testing.assert_close(layer.kernel(n), longest[:, :n], rtol=1e-9, atol=1e-12)


def dense(layer, channel):
    """The continuous system of a channel, all conjugate states: a (N, N), b (N,), c (N,), delta."""

    def both(z):
        z = np.asarray(z)
        return np.concatenate([z, z.conj()])

    def numbers(name):
        return torch.view_as_complex(getattr(layer, name)[channel].detach())

    a = np.diag(both(-torch.exp(layer.log_a_real[channel].detach()) + 1j * layer.a_imag[channel].detach()))
    b = np.ones(len(a))
    if isinstance(layer, S4):
        p, b = both(numbers("P")), both(numbers("B"))
        a = a - np.outer(p, p.conj())
    return a, b, both(numbers("C")), layer.log_delta[channel].exp().item()


def test_s4_kernel_is_its_definition():
    layer = S4(3, state_size=8).double()
    for channel in range(3):
        a, b, c, delta = dense(layer, channel)
        eye = np.eye(len(a))
        A = np.linalg.solve(eye - delta / 2 * a, eye + delta / 2 * a)
        B = np.linalg.solve(eye - delta / 2 * a, delta * b)
        expected = [(c @ np.linalg.matrix_power(A, l) @ B).real for l in range(90)]
        np.testing.assert_allclose(layer.kernel(90)[channel].detach(), expected, atol=1e-10)


def test_s4d_kernel_is_its_definition():
    layer = S4D(3, state_size=8).double()
    for channel in range(3):
        a, b, c, delta = dense(layer, channel)
        pole = np.diag(a)
        expected = [
            (c * np.exp(l * delta * pole) * (np.exp(delta * pole) - 1) / pole * b).sum().real for l in range(90)
        ]
        np.testing.assert_allclose(layer.kernel(90)[channel].detach(), expected, atol=1e-10)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_hippo_is_diagonal_plus_low_rank(n):
    w, p, b = hippo_legs(n)
    assert (w > 0).all()
    a = np.diag(np.concatenate([-0.5 + 1j * w.numpy(), -0.5 - 1j * w.numpy()]))
    p, b = (np.concatenate([v.numpy(), v.numpy().conj()]) for v in (p, b))
    i = np.arange(n)
    legs = np.where(i[:, None] > i, -np.sqrt(np.outer(2 * i + 1, 2 * i + 1)), 0) - np.diag(i + 1)
    # the same system in other coordinates: the same answer to a pulse, b'a^k b
    ours = [(b.conj() @ np.linalg.matrix_power((a - np.outer(p, p.conj())) / n, k) @ b).real for k in range(6)]
    root = np.sqrt(2 * i + 1)
    theirs = [root @ np.linalg.matrix_power(legs / n, k) @ root for k in range(6)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(a + 0.5 * np.eye(n)).imag)[n // 2 :], np.sort(w), atol=1e-9)


def test_steps_at_the_start_are_log_uniform():
    torch.manual_seed(0)
    log_delta = S4D(4000, state_size=2).log_delta
    assert log_delta.min() >= math.log(1e-3)
    assert log_delta.max() <= math.log(0.1)
    assert log_delta.mean().item() == pytest.approx(math.log(1e-2), abs=0.1)


@kinds
def test_nothing_grows(kind):
    """Whatever the parameters, powers of A do not."""
    torch.manual_seed(1)
    layer = kind(6, state_size=8).double()
    with torch.no_grad():
        for parameter in (layer.log_a_real, layer.a_imag, layer.log_delta, getattr(layer, "P", layer.D)):
            parameter += torch.randn_like(parameter)
    kernel = layer.kernel(20_000)
    assert torch.isfinite(kernel).all()
    assert kernel[:, -2000:].abs().max() <= kernel[:, :2000].abs().max()


@kinds
def test_gradients(kind):
    torch.manual_seed(0)
    layer = kind(2, state_size=4, delta_min=0.05).double()
    x = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*layer.named_parameters())

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights)), (x,))

    assert gradcheck(run, (x, *(w.detach().requires_grad_() for w in weights)))


def test_power_sequence():
    row, matrix = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, 3, dtype=torch.float64) / 3
    rows, last = power_sequence(row, matrix, 6, 3)
    for k in range(6):
        expected = (row[:, None] @ torch.linalg.matrix_power(matrix, k))[:, 0]
        torch.testing.assert_close(rows[:, k], expected)
    torch.testing.assert_close(last, torch.linalg.matrix_power(matrix, 8))


def test_smooth_lengths():
    smooth = sorted(2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(5))
    for n in (*range(1, 300), 1999, 4001):
        assert smooth_length(n) == next(s for s in smooth if s >= n)


@kinds
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"state_size": 7}, "state_size=7"),
        ({"state_size": 0}, "state_size=0"),
        ({"delta_min": 0.0}, "delta_min=0.0"),
        ({"delta_max": 1e-4}, "delta_max=0.0001"),
    ],
)
def test_wrong_arguments(kind, options, named):
    with pytest.raises(ValueError, match=named):
        kind(4, **options)


@kinds
def test_pieces_of_any_length_are_the_frames_one_by_one(kind):
    """Up to a few frames run one by one, more at once, and very many in several parts."""
    torch.manual_seed(0)
    layer = kind(3, state_size=8).double()
    x = torch.randn(2, 1200, 3, dtype=torch.float64, requires_grad=True)
    along = torch.randn(2, 1200, 3, dtype=torch.float64)
    found = []
    for lengths in ([1] * 1200, [5, 600, 2, 593], [1200]):
        state, parts = None, []
        for piece in x.split(lengths, 1):
            y, state = layer.stream(piece, state)
            parts.append(y)
        y = torch.cat(parts, 1)
        found.append([y, state, *torch.autograd.grad((y * along).sum(), [x, *layer.parameters()])])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-9 * float(a.detach().abs().max()))
