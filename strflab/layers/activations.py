"""Static output nonlinearities with one set of parameters a neuron.

    softplus            a + log(1 + exp(b x)) / b
    sigmoid             a + b / (1 + exp(-(x - c) / d))
    double exponential  a + b exp(-exp(-k (x - s)))

The last is of Thorson, Lienard & David 2015, doi 10.1371/journal.pcbi.1004628.

Slopes and amplitudes are positive, so each is increasing. A rate cannot be negative: the baseline a is kept >= 0
unless ``signed=True``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers import native
from strflab.layers.config import SHORT_NAMES, Configurable, make_part, registered
from strflab.validation import boolean, integer, number


class NeuronActivation(nn.Module, Configurable):
    """Base of the output nonlinearities: parameters are (N,), applied to (B, N, 1, T).

    Parameters
    ----------
    n_neurons : N
    signed : let the baseline go below zero
    """

    raw_baseline: nn.Parameter

    def __init__(self, n_neurons: int = 1, signed: bool = False):
        super().__init__()
        self.n_neurons = integer("n_neurons", n_neurons)
        self.signed = boolean("signed", signed)

    def _constant(self, value: float) -> nn.Parameter:
        return nn.Parameter(torch.full((self.n_neurons,), float(value)))

    def _baseline_parameter(self, baseline: float) -> nn.Parameter:
        if self.signed:
            return self._constant(number("baseline", baseline))
        return self._constant(_inverse_softplus(number("baseline", baseline, above=0)))

    @property
    def baseline(self) -> Tensor:
        """The rate a that a neuron falls to, (N,)."""
        return self.raw_baseline if self.signed else F.softplus(self.raw_baseline)

    def initialize(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """Set the parameters to suit neurons of these rates, and return the mean and sd that the input should have.

        Parameters
        ----------
        mean, sd : (N,) of the responses over time, spikes per bin
        """
        raise NotImplementedError

    def _set_baseline(self, value: Tensor, mean: Tensor) -> None:
        if self.signed:
            self.raw_baseline.copy_(value)
        else:  # a rate of zero cannot be reached, only approached
            self.raw_baseline.copy_(_inverse(torch.maximum(value, 0.05 * mean + 1e-4)))


class ParametricSoftplus(NeuronActivation):
    """``softplus(b x) / b + a``: zero or a baseline below threshold, linear above.

    Parameters
    ----------
    n_neurons : N
    signed : let the baseline go below zero
    slope, baseline : b and a at the start

    Examples
    --------
    >>> ParametricSoftplus(3)(torch.zeros(1, 3, 1, 5)).shape
    torch.Size([1, 3, 1, 5])
    """

    def __init__(self, n_neurons: int = 1, signed: bool = False, slope: float = 1.0, baseline: float = 0.01):
        super().__init__(n_neurons, signed)
        self.raw_slope = self._constant(_inverse_softplus(number("slope", slope, above=0)))
        self.raw_baseline = self._baseline_parameter(baseline)

    @property
    def slope(self) -> Tensor:
        """Sharpness b of the knee, (N,)."""
        return F.softplus(self.raw_slope)

    @torch.no_grad()
    def initialize(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        self.raw_slope.copy_(_inverse(2 / sd))
        self._set_baseline(torch.zeros_like(mean), mean)
        return mean, sd

    def forward(self, x: Tensor) -> Tensor:
        if native.usable(x, self.raw_slope) and x.shape[1:3] == (self.n_neurons, 1):
            return _Softplus.apply(x, self.slope, self.baseline)
        return _softplus(x, self.slope, self.baseline)


def _softplus(x: Tensor, slope: Tensor, baseline: Tensor) -> Tensor:
    slope = _per_neuron(slope)
    return F.softplus(slope * x) / slope + _per_neuron(baseline)


class _Softplus(torch.autograd.Function):
    """`_softplus` in one pass each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, baseline: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope, baseline)  # not a copy, which would lead to no derivative of its own
        x = x.contiguous()
        y = torch.empty_like(x)
        native.run("softplus_forward", x, slope, baseline, y, len(slope), x.shape[-1], over=x[..., 0].numel())
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, baseline = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return tuple(native.gradients(_softplus, (x, slope, baseline), ctx.needs_input_grad, grad))
        x = x.contiguous()
        dx, parts = torch.empty_like(x), x.new_empty(len(x), len(slope), 2)
        rows = parts.shape[0] * parts.shape[1]
        native.run("softplus_backward", grad.contiguous(), x, slope, dx, parts, len(slope), x.shape[-1], over=rows)
        return dx, *parts.sum(0).unbind(-1)


class ParametricSigmoid(NeuronActivation):
    """``b sigmoid((x - c) / d) + a``: baseline a, amplitude b > 0, midpoint c, width d > 0.

    Parameters
    ----------
    n_neurons : N
    signed : let the baseline go below zero
    amplitude, midpoint, width, baseline : b, c, d and a at the start
    """

    def __init__(
        self,
        n_neurons: int = 1,
        signed: bool = False,
        amplitude: float = 1.0,
        midpoint: float = 0.0,
        width: float = 1.0,
        baseline: float = 0.01,
    ):
        super().__init__(n_neurons, signed)
        self.raw_amplitude = self._constant(_inverse_softplus(number("amplitude", amplitude, above=0)))
        self.midpoint = self._constant(number("midpoint", midpoint))
        self.raw_width = self._constant(_inverse_softplus(number("width", width, above=0)))
        self.raw_baseline = self._baseline_parameter(baseline)

    @torch.no_grad()
    def initialize(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        self._set_baseline(mean - sd, mean)
        self.raw_amplitude.copy_(_inverse(4 * sd))
        self.midpoint.fill_(math.log(3))  # an input of 0 gives a quarter of the amplitude
        self.raw_width.fill_(_inverse_softplus(1.0))
        return torch.zeros_like(mean), torch.ones_like(sd)

    def forward(self, x: Tensor) -> Tensor:
        amplitude, width = F.softplus(self.raw_amplitude), F.softplus(self.raw_width)
        z = (x - _per_neuron(self.midpoint)) / _per_neuron(width)
        return _per_neuron(amplitude) * torch.sigmoid(z) + _per_neuron(self.baseline)


class ParametricDoubleExponential(NeuronActivation):
    """``a + b exp(-exp(-k (x - s)))``: baseline a, amplitude b > 0, slope k > 0, shift s.

    Parameters
    ----------
    n_neurons : N
    signed : let the baseline go below zero
    amplitude, slope, shift, baseline : b, k, s and a at the start
    """

    def __init__(
        self,
        n_neurons: int = 1,
        signed: bool = False,
        amplitude: float = 1.0,
        slope: float = 1.0,
        shift: float = 0.0,
        baseline: float = 0.01,
    ):
        super().__init__(n_neurons, signed)
        self.raw_amplitude = self._constant(_inverse_softplus(number("amplitude", amplitude, above=0)))
        self.log_slope = self._constant(math.log(number("slope", slope, above=0)))
        self.shift = self._constant(number("shift", shift))
        self.raw_baseline = self._baseline_parameter(baseline)

    @torch.no_grad()
    def initialize(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        self._set_baseline(mean - sd, mean)
        self.raw_amplitude.copy_(_inverse(4 * sd))
        self.log_slope.zero_()
        self.shift.fill_(math.log(math.log(4)))  # an input of 0 gives a quarter of the amplitude
        return torch.zeros_like(mean), torch.ones_like(sd)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.exp(_per_neuron(self.log_slope)) * (x - _per_neuron(self.shift))
        # far below threshold exp(-z) overflows to infinity, whose gradient is 0 * inf: stop short of it
        gate = torch.exp(-torch.exp(-z.clamp(min=-30.0)))
        return _per_neuron(F.softplus(self.raw_amplitude)) * gate + _per_neuron(self.baseline)


class _LecunTanh(torch.autograd.Function):
    """``a tanh(b x)`` from its own output y: the slope ``a b - b y^2 / a`` needs no other array and one pass."""

    a, b = 1.7159, 2 / 3
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return (_LecunTanh.b * x).tanh_().mul_(_LecunTanh.a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _LecunTanh.slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * _LecunTanh.slope(*ctx.saved_tensors)

    @staticmethod
    def slope(y: Tensor) -> Tensor:
        a, b = _LecunTanh.a, _LecunTanh.b
        return torch.addcmul(y.new_tensor(a * b), y, y, value=-b / a)


def lecun_tanh(x: Tensor) -> Tensor:
    """``1.7159 tanh(2 x / 3)`` (LeCun et al. 1998, doi 10.1007/3-540-49430-8_2), in half of the time of the formula.

    Examples
    --------
    >>> lecun_tanh(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 1.0000])
    """
    if torch.compiler.is_compiling():  # which fuses by itself
        return _LecunTanh.a * torch.tanh(_LecunTanh.b * x)
    return _LecunTanh.apply(x)


class Pointwise(nn.Module, Configurable):
    """A nonlinearity without parameters, by its name.

    Parameters
    ----------
    name : "identity", "relu", "leaky_relu" (slope 0.1), "tanh", "lecun_tanh" (1.7159 tanh(2x/3), LeCun et al. 1998,
        doi 10.1007/3-540-49430-8_2), "sigmoid", "softplus", "gelu", "silu" or "exp"
    """

    def __init__(self, name: str = "identity"):
        super().__init__()
        if not isinstance(name, str) or name not in FUNCTIONS:
            raise ValueError(f"name={name!r}: must be one of {', '.join(map(repr, FUNCTIONS))}")
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Return the nonlinearity of `x`, value by value."""
        return FUNCTIONS[self.name](x)

    def initialize(self, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and sd (N,) that the input should have for an output of this mean and sd.

        Parameters
        ----------
        mean, sd : (N,) of the output
        """
        if self.name == "exp":
            return torch.log(mean.clamp(min=1e-4)), sd / mean.clamp(min=1e-4)
        if self.name == "softplus":
            return _inverse(mean.clamp(min=1e-4)), torch.ones_like(sd)
        if self.name == "sigmoid":
            return torch.logit(mean.clamp(1e-3, 1 - 1e-3)), torch.ones_like(sd)
        return mean, sd

    def extra_repr(self) -> str:
        return self.name


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "lecun_tanh": lecun_tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "silu": F.silu,
    "exp": torch.exp,
}

PARAMETRIC: dict[str, type] = {
    "parametric_softplus": ParametricSoftplus,
    "parametric_sigmoid": ParametricSigmoid,
    "double_exponential": ParametricDoubleExponential,
}

SHORT_NAMES |= {
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
}


def make_activation(name: str, spec: Any, n_neurons: int) -> nn.Module:
    """Return the nonlinearity that `spec` asks for, with parameters for `n_neurons` where it has some.

    Parameters
    ----------
    name : the argument's name, for errors
    spec : a function of `Pointwise` by name; "parametric_softplus", "parametric_sigmoid" or "double_exponential"; a
        dict with such a name as "type" and its options; or a module that acts on each value by itself
    n_neurons : N

    Raises
    ------
    ValueError : what `spec` says is not known, or a parametric one was made for another number of neurons
    """
    if type(spec) in SHORT_NAMES:
        return Pointwise(SHORT_NAMES[type(spec)])
    if isinstance(spec, (str, dict)):
        options = {"type": spec} if isinstance(spec, str) else spec
        kind = str(options.get("type"))
        if kind in FUNCTIONS and len(options) == 1:
            return Pointwise(kind)
        if kind in PARAMETRIC or registered(kind, NeuronActivation):
            spec = make_part(name, {"n_neurons": n_neurons} | options, NeuronActivation, PARAMETRIC)
    if isinstance(spec, nn.Module):
        made_for = getattr(spec, "n_neurons", n_neurons)
        if made_for != n_neurons:
            raise ValueError(f"{name}={spec!r}: made for {made_for} neurons, must be {n_neurons}")
        return spec
    allowed = ", ".join(map(repr, [*FUNCTIONS, *PARAMETRIC]))
    raise ValueError(f"{name}={spec!r}: must be one of {allowed}, a dict with such a name as 'type', or a module")


def _per_neuron(parameter: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1), to meet (B, N, 1, T)."""
    return parameter[:, None, None]


def _inverse(y: Tensor) -> Tensor:
    """The inverse of softplus, elementwise."""
    return y + torch.log(-torch.expm1(-y))


def _inverse_softplus(y: float) -> float:
    return y + math.log(-math.expm1(-y))
