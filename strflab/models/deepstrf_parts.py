"""The parts of a deepSTRF checkpoint that its config.json does not describe: kernels, prefilters and nonlinearities.

What a part was shows in the names of its weights. Each function moves those weights to where they are in our models and
returns the option with which to make such a model. `strflab.models.deepstrf` reads the rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.layers.strf import ParametricSTRF
from strflab.models.base import Model
from strflab.validation import choice, integer


class Weights:
    """The tensors of a checkpoint, to be taken one by one, and those made of them, by our names."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.left = tensors
        self.ours: dict[str, Tensor] = {}

    def under(self, prefix: str) -> set[str]:
        """The names that begin with `prefix`, without it."""
        return {name.removeprefix(prefix) for name in self.left if name.startswith(prefix)}

    def take(self, name: str) -> Tensor:
        """Return a tensor, which is then used."""
        if name not in self.left:
            raise ValueError(f"model.safetensors has no {name!r}")
        return self.left.pop(name)

    def move(self, theirs: str, ours: str, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """Use a tensor as our weight `ours`."""
        tensor = self.take(theirs)
        try:
            self.ours[ours] = change(tensor)
        except (RuntimeError, IndexError):
            raise ValueError(f"{theirs} of shape {tuple(tensor.shape)} does not fit config.json") from None

    def move_all(self, theirs: str, ours: str) -> None:
        """Use all tensors under the prefix `theirs`, under the prefix `ours`."""
        for name in self.under(theirs):
            self.move(theirs + name, ours + name)

    def load_into(self, model: Model) -> None:
        """Load our weights, which must be all that `model` has, and leave nothing over."""
        if self.left:
            raise ValueError(f"weights that do not fit config.json: {', '.join(sorted(self.left))}")
        expected = model.state_dict()
        if missing := sorted(expected.keys() - self.ours.keys()):
            raise ValueError(f"model.safetensors has nothing for {', '.join(missing)}")
        for name, tensor in self.ours.items():
            if name not in expected:
                raise ValueError(f"{type(model).__name__} has no {name} for a weight of shape {tuple(tensor.shape)}")
            if tensor.shape != expected[name].shape:
                raise ValueError(f"{name} of shape {tuple(tensor.shape)}: must be {tuple(expected[name].shape)}")
        model.to(next(tensor.dtype for tensor in self.ours.values() if tensor.is_floating_point()))
        model.load_state_dict(self.ours)


def move_kernel(weights: Weights, config: dict[str, Any], conv: str) -> Any:
    """Move the kernel of the convolution `conv`, and return the option that makes such a one."""
    theirs = ours = f"{conv}kernel."
    names = weights.under(theirs) - {"bias"}
    kernel: Any = None
    if "kernel" in config or names == {"weight"}:
        weights.move(theirs + "weight", ours + "weight")
    elif names == {"weight_f", "weight_t"}:
        weights.move(theirs + "weight_f", ours + "spectral", lambda w: w.mT)
        weights.move(theirs + "weight_t", ours + "temporal")
        kernel = "separable"
    elif names == {"0.weight", "0.bias", "1.weight", "1.bias"}:  # over bands, then over frames one a channel
        spectral, temporal = weights.take(theirs + "0.weight"), weights.take(theirs + "1.weight")
        weights.ours[ours + "spectral"] = spectral.mT
        weights.ours[ours + "temporal"] = temporal.expand(-1, spectral.shape[1], -1, -1)
        constant = weights.take(theirs + "0.bias") * temporal.sum((1, 2, 3))
        weights.move(theirs + "1.bias", conv + "bias", lambda b: b + constant)
        return "separable"
    elif names == {"P", "SIG", "weight"}:
        kernel = _gaussians(weights, theirs, ours, config)
    else:
        raise ValueError(f"kernel: an unknown module with the weights {', '.join(sorted(names)) or 'none'}")
    if "kernel" in config or theirs + "bias" in weights.left:
        weights.move(theirs + "bias", conv + "bias")
    else:
        weight = weights.ours[ours + ("temporal" if kernel == "separable" else "weight")]
        weights.ours[conv + "bias"] = weight.new_zeros(len(weight))
    return kernel


def _gaussians(weights: Weights, theirs: str, ours: str, config: dict[str, Any]) -> dict[str, Any]:
    centre, width, weight = (weights.take(theirs + name) for name in ("P", "SIG", "weight"))
    if centre.dim() != 4 or centre.shape != width.shape or centre.shape != (2, *weight.shape):
        raise ValueError(f"{theirs}P of shape {tuple(centre.shape)}: must be (2, *), with * that of its weight")
    mass = torch.ones_like(weight, dtype=torch.float64)
    for axis, (name, default) in enumerate((("n_frequency_bands", 34), ("temporal_window_size", 9))):
        n = integer(name, config.get(name, default))
        sd = width[axis].double().abs() + ParametricSTRF.MINIMAL_SD
        mass *= torch.exp(-0.5 * ((torch.arange(n)[:, None, None, None] - centre[axis]) / sd) ** 2).sum(0)
    weights.ours[ours + "centre"], weights.ours[ours + "width"] = centre, width
    # there a Gaussian is divided by its mass plus 1e-7, which tells where it lies beyond the grid
    weights.ours[ours + "weight"] = (weight * mass / (mass + 1e-7)).to(weight.dtype)
    return {"type": "parametric", "num_gaussians": weight.shape[-1]}


def move_prefilter(weights: Weights, config: dict[str, Any]) -> Any:
    if "prefiltering" in config:
        return None
    names = weights.under("prefiltering.")
    if names == {"d_on", "d_off", "p"}:
        on, off = weights.take("prefiltering.d_on"), weights.take("prefiltering.d_off")
        weights.ours["prefiltering.d"] = torch.stack([on, off])
        weights.move("prefiltering.p", "prefiltering.p")
        return {"type": "adaptrans", "rectify": True}
    if names == {"a"}:
        weights.move("prefiltering.a", "prefiltering.a")
        return "ic_adaptation"
    raise ValueError(f"prefiltering: an unknown module with the weights {', '.join(sorted(names)) or 'none'}")


def move_activation(
    weights: Weights,
    config: dict[str, Any],
    kind: type[Model],
    given: Any,
    non_negative: bool | None,
    version: str | None,
) -> Any:
    theirs = ours = "readout.activation."
    names = weights.under(theirs)
    if "output_activation" in config:  # the class's own
        if given is not None:
            raise ValueError(f"output_activation={given!r}: config.json says that it is the class's own, leave it out")
        if kind.default_activation == "parametric_softplus":
            weights.move(theirs + "_raw_beta", ours + "raw_slope")
            weights.move(theirs + "_raw_b", ours + "raw_baseline")
        return None
    if given is not None:
        return given
    if not names:
        raise ValueError(
            "output_activation: a module without weights, which config.json does not name; say what it was, "
            "from_deepstrf(folder, output_activation='sigmoid') for instance"
        )
    if non_negative is None:
        warnings.warn(
            "output_activation: the checkpoint does not say whether its nonlinearity was made with "
            "non_negative_output=True, as by default, or False; True is assumed",
            stacklevel=3,
        )
        non_negative = True
    raw = {name: weights.take(theirs + name) for name in names}
    if names == {"_raw_beta", "_raw_b"}:
        values = {"raw_slope": raw["_raw_beta"], "raw_baseline": raw["_raw_b"]}
        spec: dict[str, Any] = {"type": "parametric_softplus", "signed": not non_negative}
    elif names in ({"c", "d", "_raw_b"}, {"c", "d", "_raw_b", "_raw_a"}):
        values, signed = _rising(raw["_raw_b"], raw.get("_raw_a"), non_negative, raw["d"])
        values |= {"midpoint": raw["c"], "raw_width": _inverse_softplus(raw["d"].abs())}
        spec = {"type": "parametric_sigmoid", "signed": signed}
    elif names in ({"k", "s", "_raw_a"}, {"k", "s", "_raw_a", "_raw_b"}):
        k, s = raw["k"], raw["s"]
        if choice("version", version, ("0.1.0", "0.1.1")) == "0.1.0":  # exp(-exp(k x - s))
            k, s = torch.log(-k), s / k
            if not torch.isfinite(k).all():
                raise ValueError("output_activation: a ParametricDoubleExponential that falls, k > 0; those here rise")
        values, signed = _rising(raw["_raw_a"], raw.get("_raw_b"), non_negative, 1.0)
        values |= {"log_slope": k, "shift": s}
        spec = {"type": "double_exponential", "signed": signed}
    else:
        raise ValueError(f"output_activation: an unknown module with the weights {', '.join(sorted(names))}")
    weights.ours |= {ours + name: value for name, value in values.items()}
    return spec


def _rising(
    amplitude: Tensor, baseline: Tensor | None, non_negative: bool, width: Tensor | float
) -> tuple[dict[str, Tensor], bool]:
    """Our raw amplitude and baseline from the stored ones, and whether the baseline may be negative."""
    height = F.softplus(amplitude) if non_negative else amplitude
    if not (height * width > 0).all():
        raise ValueError("output_activation: falls with its input for one neuron at least; those here rise")
    if non_negative and baseline is not None:
        return {"raw_amplitude": amplitude, "raw_baseline": baseline}, False
    baseline = torch.zeros_like(height) if baseline is None else baseline
    # a sigmoid of negative height b and width is one of positive: b s(z) + a = -b s(-z) + (a + b)
    return {"raw_amplitude": _inverse_softplus(height.abs()), "raw_baseline": baseline + height.clamp(max=0)}, True


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
