"""Legendre memory unit: its matrices, its scalar recurrence, the delay line it is built on."""

import math

import numpy as np
import pytest
import torch

from strflab.layers import LMU
from strflab.layers.lmu import legendre_delay
from strflab.layers.loops import loop


def legendre(order, x):
    """P_0 .. P_(order-1) at x, by the three-term recurrence."""
    p = [np.ones_like(x), x]
    for i in range(1, order - 1):
        p.append(((2 * i + 1) * x * p[i] - i * p[i - 1]) / (i + 1))
    return np.array(p[:order])


@pytest.mark.parametrize(("order", "theta"), [(1, 5.0), (6, 20.0), (128, 99.0)])
def test_matrices_are_the_zero_order_hold(order, theta):
    from scipy.signal import cont2discrete

    a = np.empty((order, order))
    for i in range(order):
        for j in range(order):
            a[i, j] = (2 * i + 1) / theta * (-1 if i < j else (-1.0) ** (i - j + 1))
    b = np.array([[(2 * i + 1) * (-1.0) ** i / theta] for i in range(order)])
    expected_a, expected_b, *_ = cont2discrete((a, b, np.eye(order), np.zeros((order, 1))), 1.0, "zoh")
    A, B = legendre_delay(order, theta)
    np.testing.assert_allclose(A, expected_a, atol=1e-9)
    np.testing.assert_allclose(B, expected_b[:, 0], atol=1e-9)


def test_it_is_the_scalar_recurrence():
    torch.manual_seed(0)
    lmu = LMU(3, memory_size=4, theta=6.0).double()
    with torch.no_grad():
        lmu.e_m.normal_()
    x = torch.randn(25, 3, dtype=torch.float64)
    p = {name: value.detach().tolist() for name, value in lmu.state_dict().items()}
    h, m, expected = [0.0] * 3, [0.0] * 4, []
    for frame in x.tolist():
        u = sum(a * b for a, b in zip(p["e_x"] + p["e_h"] + p["e_m"], frame + h + m))
        m = [sum(p["A"][i][j] * m[j] for j in range(4)) + p["B"][i] * u for i in range(4)]
        h = [
            math.tanh(sum(a * b for a, b in zip(p["W_x"][i] + p["W_h"][i] + p["W_m"][i], frame + h + m)))
            for i in range(3)
        ]
        expected.append(h)
    torch.testing.assert_close(lmu(x[None])[0], torch.tensor(expected, dtype=torch.float64))


def test_one_product_a_frame_gives_the_steps_and_their_gradients():
    lmu = LMU(5, memory_size=16, theta=10.0).double()
    x = torch.randn(2, 40, 5, dtype=torch.float64)
    state = (torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, 16, dtype=torch.float64))
    expected = loop(lmu.step, state, (x.transpose(0, 1),))[0].transpose(0, 1)
    torch.testing.assert_close(lmu(x), expected)
    weights = list(lmu.parameters())
    expected_gradients = torch.autograd.grad(expected.square().sum(), weights)
    torch.testing.assert_close(torch.autograd.grad(lmu(x).square().sum(), weights), expected_gradients)


@pytest.mark.parametrize(("order", "theta"), [(24, 60.0), (128, 99.0)])
def test_the_memory_is_a_delay_line(order, theta):
    """A pulse that went in comes back theta frames later, and s < theta frames later from the same coefficients."""
    n = 300
    t = np.arange(n)
    pulse = np.exp(-0.5 * ((t - 100) / 9.0) ** 2)
    A, B = (v.numpy() for v in legendre_delay(order, theta))
    m, memory = np.zeros(order), []
    for u in pulse:
        m = A @ m + B * u
        memory.append(m)
    memory = np.array(memory)  # (T, order)
    for s in (0.3 * theta, 0.75 * theta, theta):
        back = memory @ legendre(order, np.array(2 * s / theta - 1))
        # a frame's value is held until the next: half a frame late on average
        expected = np.exp(-0.5 * ((t + 0.5 - 100 - s) / 9.0) ** 2)
        np.testing.assert_allclose(back, expected, atol=2e-2)
    assert abs(np.argmax(memory @ legendre(order, np.array(1.0))) - (100 + theta)) <= 1


@pytest.mark.parametrize(
    ("options", "named"),
    [({"memory_size": 0}, "memory_size=0"), ({"theta": -1}, "theta=-1"), ({"theta": float("nan")}, "theta=nan")],
)
def test_wrong_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        LMU(4, **options)
