"""Output nonlinearities: their formulae, increasing and non-negative whatever the parameters, round trips."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.func import hessian, jacfwd, jacrev, vmap

from strflab.layers import (
    ParametricDoubleExponential,
    ParametricSigmoid,
    ParametricSoftplus,
    Pointwise,
    make_activation,
)
from strflab.layers.activations import FUNCTIONS, lecun_tanh
from strflab.layers.config import from_config

CLASSES = [ParametricSoftplus, ParametricSigmoid, ParametricDoubleExponential]
raw = st.floats(-20, 20, width=32)


@given(values=st.lists(raw, min_size=4, max_size=4), cls=st.sampled_from(CLASSES), signed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_increasing_and_non_negative_whatever_the_parameters(values, cls, signed):
    activation = cls(2, signed=signed).double()
    with torch.no_grad():
        for parameter, value in zip(activation.parameters(), values):
            parameter.fill_(value)
        y = activation(torch.linspace(-200, 200, 401, dtype=torch.float64).expand(1, 2, 1, -1))
    assert torch.isfinite(y).all()
    assert (y.diff(dim=-1) >= -1e-12 * (1 + y[..., 1:].abs())).all()
    if not signed:
        assert (y >= 0).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_strictly_increasing_where_it_responds(cls):
    y = cls(1).double()(torch.linspace(-2, 2, 50, dtype=torch.float64).reshape(1, 1, 1, -1))
    assert (y.diff(dim=-1) > 0).all()


def test_formulae():
    x = torch.linspace(-3, 4, 20, dtype=torch.float64).reshape(1, 1, 1, -1)
    softplus = ParametricSoftplus(slope=2.5, baseline=0.3).double()
    torch.testing.assert_close(softplus(x), torch.log(1 + torch.exp(2.5 * x)) / 2.5 + 0.3, rtol=1e-6, atol=1e-6)
    sigmoid = ParametricSigmoid(amplitude=3.0, midpoint=0.5, width=0.7, baseline=0.2).double()
    torch.testing.assert_close(sigmoid(x), 0.2 + 3 / (1 + torch.exp(-(x - 0.5) / 0.7)), rtol=1e-6, atol=1e-6)
    double = ParametricDoubleExponential(amplitude=3.0, slope=2.0, shift=0.5, baseline=0.2).double()
    expected = 0.2 + 3 * torch.exp(-torch.exp(-2.0 * (x - 0.5)))
    torch.testing.assert_close(double(x), expected, rtol=1e-6, atol=1e-6)


def test_signed_baseline():
    assert ParametricSoftplus(signed=True, baseline=-2.0)(torch.tensor([[[[-50.0]]]])).item() == pytest.approx(-2.0)
    with pytest.raises(ValueError, match=r"baseline=-2\.0"):
        ParametricSoftplus(baseline=-2.0)


@pytest.mark.parametrize("cls", CLASSES)
def test_gradients(cls):
    activation = cls(2).double()
    names = [n for n, _ in activation.named_parameters()]
    x = torch.randn(1, 2, 1, 5, dtype=torch.float64, requires_grad=True)
    values = tuple(p.detach().clone().requires_grad_() for p in activation.parameters())
    assert gradcheck(
        lambda x, *values: torch.func.functional_call(activation, dict(zip(names, values)), (x,)), (x, *values)
    )


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("value", [-1e6, -1e3, 1e3, 1e6])
def test_gradients_stay_finite_far_from_threshold(cls, value):
    activation, x = cls(1), torch.full((1, 1, 1, 1), value, requires_grad=True)
    activation(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in activation.parameters())


@pytest.mark.parametrize("cls", CLASSES)
def test_each_neuron_has_its_own(cls):
    activation = cls(3)
    with torch.no_grad():
        activation.raw_baseline[1] = 4.0
    y = activation(torch.zeros(2, 3, 1, 4))
    assert torch.equal(y[:, 0], y[:, 2])
    assert (y[:, 1] > y[:, 0] + 1).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_config_round_trip(cls):
    activation = cls(3, signed=True, baseline=-0.25)
    again = from_config(activation.config)
    assert type(again) is cls
    assert again.config == activation.config
    assert {n: p.tolist() for n, p in again.state_dict().items()} == {
        n: p.tolist() for n, p in activation.state_dict().items()
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pointwise_by_name(name):
    activation = make_activation("output_activation", name, 3)
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(from_config(activation.config)(x), activation(x))
    torch.testing.assert_close(make_activation("output_activation", {"type": name}, 3)(x), activation(x))


def test_lecun_tanh():
    assert Pointwise("lecun_tanh")(torch.tensor(1.0)).item() == pytest.approx(1.7159 * math.tanh(2 / 3))


def test_lecun_tanh_has_the_derivatives_of_its_formula():
    def formula(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    x = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    torch.testing.assert_close(lecun_tanh(x), formula(x))
    for derivative in (jacrev, jacfwd, hessian):
        torch.testing.assert_close(
            vmap(derivative(lambda v: lecun_tanh(v).prod()))(x), vmap(derivative(lambda v: formula(v).prod()))(x)
        )
    kept = x.clone()
    lecun_tanh(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("module", [nn.Identity(), nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU()])
def test_torch_modules_become_ones_that_can_be_saved(module):
    activation, x = make_activation("output_activation", module, 3), torch.linspace(-2, 2, 9)
    torch.testing.assert_close(activation(x), module(x))
    assert activation.config["type"] == "Pointwise"


@pytest.mark.parametrize(
    "spec",
    [
        "swish-9",
        5,
        [],
        {},
        {"type": []},
        {"type": "relu", "slope": 2},
        {"type": "parametric_softplus", "knee": 1},
        {"type": "parametric_softplus", "n_neurons": 4},
        ParametricSoftplus(2),
        nn.ReLU,
    ],
    ids=str,
)
def test_wrong_specifications(spec):
    with pytest.raises(ValueError, match="output_activation="):
        make_activation("output_activation", spec, 3)


@pytest.mark.parametrize("slope", [0, -1, float("nan"), "1", None])
def test_wrong_parameters(slope):
    with pytest.raises(ValueError, match="slope="):
        ParametricSoftplus(slope=slope)
