"""Spectro-temporal filters: the convolution against an explicit sum, and what each parametrisation promises."""

import pytest
import torch
from torch.autograd import gradcheck

from strflab.layers import CausalSTRFConv, FullSTRF, ParametricSTRF, SeparableSTRF

KERNELS = [
    None,
    "separable",
    "parametric",
    {"type": "separable", "rank": 3},
    {"type": "separable", "spectral": "gaussian", "rank": 2},
    {"type": "parametric", "num_gaussians": 4},
]


def explicit_sum(x, weight, bias):
    """y[b, n, t] = bias[n] + sum_{c, f, k} weight[n, c, f, k] x[b, c, f, t - (T - 1) + k], zero before the sound."""
    n_lags, n_frames = weight.shape[-1], x.shape[-1]
    y = torch.zeros(len(x), len(weight), n_frames, dtype=x.dtype)
    for t in range(n_frames):
        for k in range(n_lags):
            if t - (n_lags - 1) + k >= 0:
                y[..., t] += torch.einsum("ncf,bcf->bn", weight[..., k], x[..., t - (n_lags - 1) + k])
    return (y + bias[:, None]).unsqueeze(2)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_convolution_is_the_explicit_sum(kernel):
    conv = CausalSTRFConv(5, 4, 2, 3, kernel).double()
    x = torch.randn(2, 2, 5, 9, dtype=torch.float64)
    torch.testing.assert_close(conv(x), explicit_sum(x, conv.STRF_weight(), conv.bias))


def test_last_tap_is_lag_zero():
    conv = CausalSTRFConv(3, 4, 1, 1, bias=False)
    with torch.no_grad():
        conv.kernel.weight.zero_()
        conv.kernel.weight[0, 0, 1, -1] = 2.0
    x = torch.randn(1, 1, 3, 10)
    torch.testing.assert_close(conv(x)[0, 0, 0], 2 * x[0, 0, 1])


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_streaming_equals_the_whole(chunk):
    conv = CausalSTRFConv(5, 6, 2, 3)
    x, state, pieces = torch.randn(2, 2, 5, 15), None, []
    for piece in x.split(chunk, -1):
        y, state = conv.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), conv(x))
    assert state.shape[-1] == conv.memory - 1


def test_one_lag_needs_no_past():
    conv = CausalSTRFConv(5, 1, 1, 2)
    y, state = conv.stream(torch.randn(1, 1, 5, 3))
    assert y.shape == (1, 2, 1, 3)
    assert state.shape[-1] == 0


@pytest.mark.parametrize("spectral", ["full", "gaussian"])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_separable_filters_have_their_rank(rank, spectral):
    conv = CausalSTRFConv(12, 9, 2, 3, SeparableSTRF(rank, spectral)).double()
    assert (torch.linalg.matrix_rank(conv.STRF_weight()) == rank).all()


def test_gaussian_spectra_are_the_published_formula():
    """exp(-((i/F - mu) / (s/10))^2 / 2), normalised to sum 1."""
    conv = CausalSTRFConv(18, 5, 1, 7, SeparableSTRF(spectral="gaussian")).double()
    kernel = conv.kernel
    with torch.no_grad():
        kernel.s.uniform_(0.5, 3.0)
    i = torch.arange(18, dtype=torch.float64) / 18
    g = torch.exp(-(((i - kernel.mu.unsqueeze(-1)) / (kernel.s.unsqueeze(-1) / 10)) ** 2) / 2)
    expected = torch.einsum("oirf,oirt->oift", g / g.sum(-1, keepdim=True), kernel.temporal)
    torch.testing.assert_close(conv.STRF_weight(), expected)


@pytest.mark.parametrize("s", [0.0, 1e-12, -2.0, 1e6])
def test_gaussian_spectra_stay_finite(s):
    kernel = SeparableSTRF(spectral="gaussian").bind(18, 5, 1, 4)
    with torch.no_grad():
        kernel.s.fill_(s)
        kernel.mu.copy_(torch.tensor([-3.0, 0.0, 0.5, 40.0]).reshape(4, 1, 1))
    kernel().sum().backward()
    profiles = kernel._gaussians()
    torch.testing.assert_close(profiles.sum(-1), torch.ones(4, 1, 1))
    assert all(torch.isfinite(p.grad).all() for p in kernel.parameters())


@pytest.mark.parametrize("width", [0.0, 0.5, 3.0, 200.0])
@pytest.mark.parametrize("centre", [-4.0, 0.0, 2.3, 50.0])
def test_parametric_gaussians_have_unit_mass(centre, width):
    kernel = ParametricSTRF(3).bind(8, 6, 2, 4)
    with torch.no_grad():
        kernel.weight.copy_(torch.randn_like(kernel.weight))
        kernel.centre.fill_(centre)
        kernel.width.fill_(width)
    torch.testing.assert_close(kernel().sum((-2, -1)), kernel.weight.sum(-1))


def test_parametric_standard_deviation():
    """A Gaussian far from the edges has standard deviation |s| + 0.27 in grid steps."""
    kernel = ParametricSTRF(1).bind(41, 41, 1, 1).double()
    with torch.no_grad():
        kernel.weight.fill_(1.0)
        kernel.centre.fill_(20.0)
        kernel.width[0], kernel.width[1] = 2.0, -3.0
    grid = torch.arange(41, dtype=torch.float64) - 20
    w = kernel()[0, 0]
    assert (w.sum(1) * grid**2).sum().sqrt().item() == pytest.approx(2.27, rel=1e-6)
    assert (w.sum(0) * grid**2).sum().sqrt().item() == pytest.approx(3.27, rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS[1:], ids=str)
def test_kernel_gradients(kernel):
    conv = CausalSTRFConv(6, 5, 1, 2, kernel).double()
    names = [n for n, _ in conv.named_parameters()]
    x = torch.randn(1, 1, 6, 4, dtype=torch.float64)
    assert gradcheck(
        lambda *values: torch.func.functional_call(conv, dict(zip(names, values)), (x,)),
        tuple(p.detach().clone().requires_grad_() for p in conv.parameters()),
    )


def test_a_kernel_object_is_a_description():
    """Two layers given one kernel object share no weights, and the object stays empty."""
    kernel = SeparableSTRF(2)
    a, b = CausalSTRFConv(5, 4, 1, 1, kernel), CausalSTRFConv(7, 3, 1, 1, kernel)
    assert a.STRF_weight().shape[-2:] == (5, 4)
    assert b.STRF_weight().shape[-2:] == (7, 3)
    assert not list(kernel.parameters())


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_steady_sound_is_answered_at_order_one(kernel):
    torch.manual_seed(0)
    y = CausalSTRFConv(34, 20, 1, 200, kernel, bias=False)(torch.ones(1, 1, 34, 20))
    assert 0.3 < y[..., -1].std() < 1.5


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kernel": "cubic"}, "kernel='cubic'"),
        ({"kernel": {"type": "separable", "rank": 9}}, "rank=9"),
        ({"kernel": {"type": "separable", "spectral": "box"}}, "spectral='box'"),
        ({"kernel": {"type": "parametric", "gaussians": 2}}, "gaussians"),
        ({"kernel": {"rank": 2}}, "kernel="),
        ({"kernel": {"type": []}}, "kernel="),
        ({"kernel": torch.nn.Conv2d(1, 1, 1)}, "kernel="),
        ({"n_lags": 0}, "n_lags=0"),
        ({"n_lags": 2.0}, "n_lags=2.0"),
        ({"bias": 1}, "bias=1"),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(ValueError, match=named.replace("[", r"\[")):
        CausalSTRFConv(**{"n_bands": 5, "n_lags": 4, "n_in": 1, "n_out": 2} | arguments)


def test_an_unbound_kernel_has_no_filters():
    assert FullSTRF().shape is None
    assert not list(ParametricSTRF(2).parameters())
