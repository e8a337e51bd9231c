"""Checkpoints of deepSTRF 0.1 (github.com/urancon/deepSTRF) as models of this library.

A checkpoint is a folder: config.json holds the class and those arguments of its constructor that JSON can hold,
model.safetensors the weights. An argument that was a module (a kernel, a prefilter, a nonlinearity, a front-end) is
missing from config.json, and the names of its weights tell what it was. Architectures and names of arguments are those
of `strflab.models`; what differs is here.

    nonlinearity    softplus(raw) of slopes, amplitudes and baselines is stored under names of its own
    decays          cut there after round(7 init_tau) frames, exact here; prefilters likewise
    S4              C is stored as C (1 - A^L), L the longest sound so far; of each conjugate pair, the other one
    transformer     the dropout of its training is not here
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.layers.lmu import legendre_delay
from strflab.layers.strf import ParametricSTRF
from strflab.models.base import Model
from strflab.models.convnet import ConvNet2D
from strflab.models.dnet import DNet
from strflab.models.linear import Linear, LinearNonlinear
from strflab.models.nrf import NetworkReceptiveField
from strflab.models.statenet import StateNet
from strflab.models.transformer import Transformer
from strflab.validation import choice

SHARED = {"n_frequency_bands", "out_neurons", "output_activation", "prefiltering", "wav2spec"}
STRF = SHARED | {"temporal_window_size", "kernel"}
ARGUMENTS: dict[type[Model], set[str]] = {  # of the constructors there
    Linear: STRF,
    LinearNonlinear: STRF,
    NetworkReceptiveField: STRF | {"n_hidden"},
    DNet: STRF | {"n_hidden", "init_tau", "decay_input"},
    ConvNet2D: SHARED | {"kernel_size", "c_hidden", "n_hidden"},
    Transformer: SHARED
    | {"freq_patch_size", "time_patch_size", "context_window", "embedding_dim", "n_heads", "n_layers"},
    StateNet: SHARED | {"temporal_window_size", "kernel_size", "stride", "hidden_channels", "connectivity", "rnn_type"},
}
MODULES = ("kernel", "output_activation", "prefiltering", "wav2spec")  # arguments that may be modules
LMU_THETA = 99  # frames


def from_deepstrf(
    folder: str | Path,
    *,
    output_activation: Any = None,
    non_negative_output: bool | None = None,
    version: str | None = None,
) -> Model:
    """Return the model of a deepSTRF 0.1 checkpoint, in evaluation mode, on the CPU.

    Every weight of the checkpoint is used once. The predictions are those of deepSTRF to float precision, but for decays
    and prefilters, which it cuts after some frames. The three keywords say what a checkpoint does not record; none is
    needed where the constructor there was given no `output_activation`.

    Parameters
    ----------
    folder : with config.json and model.safetensors
    output_activation : what was given there if it has no weights ("sigmoid", say; see `strflab.layers.make_activation`)
    non_negative_output : as given to the parametric nonlinearity there; None: True, the default there, with a warning
    version : "0.1.0" or "0.1.1", for a `ParametricDoubleExponential`, whose formula changed between them

    Raises
    ------
    FileNotFoundError : a file is missing
    ValueError : a part of the checkpoint has no equal here (a front-end, a decreasing nonlinearity, a module of one's
        own); the message says which, and why

    Examples
    --------
    >>> model = from_deepstrf("checkpoints/statenet_gru")  # doctest: +SKIP
    >>> model.save_pretrained("models/statenet_gru")  # doctest: +SKIP
    """
    folder = Path(folder)
    config, weights = _read(folder)
    classes = {c.__name__: c for c in ARGUMENTS}
    kind = classes[choice(f"{folder / 'config.json'}: _model_class", config.pop("_model_class", None), classes)]
    for name, value in config.items():
        if name not in ARGUMENTS[kind]:
            raise ValueError(f"{name}={value!r}: no argument of deepSTRF 0.1's {kind.__name__}")
        if name in MODULES and value is not None:
            raise ValueError(f"{name}={value!r}: only what deepSTRF 0.1 writes can be read, null or nothing")
    if weights.under("wav2spec."):
        raise ValueError("wav2spec: front-ends of deepSTRF have no equal here; see strflab.layers.make_frontend")

    options = {name: value for name, value in config.items() if name not in MODULES}
    options |= _READERS[kind](weights, config)
    options["prefiltering"] = _prefilter(weights, config)
    options["output_activation"] = _activation(weights, config, kind, output_activation, non_negative_output, version)
    model = kind(**options)
    weights.load_into(model)
    return model.eval()


class _Weights:
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


def _read(folder: Path) -> tuple[dict[str, Any], _Weights]:
    from safetensors.torch import load_file

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no checkpoint: {name} is missing")
    config = json.loads((folder / "config.json").read_text("utf8"))
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: must hold a dict of a constructor's arguments")
    return config, _Weights(load_file(folder / "model.safetensors"))


# ---- the cores, class by class: each moves its weights and returns the options that config.json does not hold


def _linear(weights: _Weights, config: dict[str, Any]) -> dict[str, Any]:
    options = {"kernel": _kernel(weights, config, "readout.strf."), "norm": None}
    if weights.under("readout.bn."):
        weights.move_all("readout.bn.", "readout.norm.")
        options["norm"] = "batch"
    return options


def _hidden_fields(weights: _Weights, config: dict[str, Any]) -> dict[str, Any]:
    kernel = _kernel(weights, config, "core.0.")
    weights.move_all("core.1.ln.", "core.1.norm.")
    weights.move_all("core.3.", "core.3.")  # the decay, if there is one
    weights.move_all("readout.fc.", "readout.fc.")
    return {"kernel": kernel}


def _convnet2d(weights: _Weights, config: dict[str, Any]) -> dict[str, Any]:
    for i in range(3):
        weights.move_all(f"core.{3 * i + 1}.", f"core.0.convs.{i}.")
        weights.move_all(f"core.{3 * i + 2}.ln.", f"core.0.norms.{i}.norm.")
    weights.move_all("readout.fc.", "readout.fc.")
    return {}


def _transformer(weights: _Weights, config: dict[str, Any]) -> dict[str, Any]:
    waves = weights.take("pos_encoding.div_term")
    if not torch.allclose(waves.double(), 1e4 ** (-torch.arange(len(waves)).double() / len(waves)), rtol=1e-3):
        raise ValueError("pos_encoding.div_term: must be the frequencies 10000^(-2i / width)")
    weights.move_all("patchify.", "core.patchify.")
    names = {"linear1": "expand", "linear2": "contract", "norm1": "attention_norm", "norm2": "dense_norm"}
    n_layers = len({name.split(".")[0] for name in weights.under("tsfm.layers.")})
    for i in range(n_layers):
        theirs, ours = f"tsfm.layers.{i}.", f"core.layers.{i + 1}."  # our first layer adds the positions
        weights.move_all(theirs + "self_attn.in_proj_", ours + "attention.in_proj.")
        weights.move_all(theirs + "self_attn.out_proj.", ours + "attention.out_proj.")
        for name, our_name in names.items():
            weights.move_all(f"{theirs}{name}.", f"{ours}{our_name}.")
    weights.move_all("readout.fc.", "readout.fc.")
    window = config.get("context_window")
    return {"context_window": None if window is not None and window <= 0 else window}


def _statenet(weights: _Weights, config: dict[str, Any]) -> dict[str, Any]:
    encoder, ours = "encoder_layers.", "core.encoder."
    dense = config.get("connectivity", "LC") == "FC"
    if f"{encoder}0.weights" in weights.left:  # locally connected
        size = config.get("kernel_size", 7)
        weights.move(f"{encoder}0.weights", ours + "weight", lambda w: w.unflatten(1, (-1, size)))
        weights.move(f"{encoder}0.biases", ours + "bias")
    else:
        layer = f"{encoder}{int(dense)}."
        weights.move(layer + "weight", ours + ("1.weight" if dense else "weight"), lambda w: w.unsqueeze(-1))
        weights.move(layer + "bias", ours + ("1.bias" if dense else "bias"))
    weights.move_all(f"{encoder}{3 if dense else 1}.ln.", "core.norm.norm.")
    rnn_type = config.get("rnn_type", "GRU")
    allowed = ("GRU", "LSTM", "RNN", "vanilla", "LMU", "Mamba", "S4")
    rnn_type = _backbone(weights, choice("rnn_type", rnn_type, allowed), "core.recurrence.backbone.")
    weights.move_all("readout.fc.", "readout.fc.")
    return {"rnn_type": rnn_type}


_READERS: dict[type[Model], Callable[[_Weights, dict[str, Any]], dict[str, Any]]] = {
    Linear: _linear,
    LinearNonlinear: _linear,
    NetworkReceptiveField: _hidden_fields,
    DNet: _hidden_fields,
    ConvNet2D: _convnet2d,
    Transformer: _transformer,
    StateNet: _statenet,
}


# ---- backbones


def _backbone(weights: _Weights, rnn_type: str, ours: str) -> Any:
    if rnn_type == "Mamba":
        weights.move_all("rnn.", ours + "block.")
    elif rnn_type == "LMU":
        for name in ("A", "W_x", "W_h", "W_m"):
            weights.move(f"rnn.cell.{name}", ours + name)
        for name in ("B", "e_x", "e_h", "e_m"):
            weights.move(f"rnn.cell.{name}", ours + name, lambda x: x.flatten())
        memory = weights.ours[ours + "A"]
        if not torch.allclose(memory.double(), legendre_delay(len(memory), LMU_THETA)[0], atol=1e-4):
            raise ValueError(f"rnn.cell.A: must be that of theta={LMU_THETA} frames")
        return {"type": "LMU", "memory_size": len(memory), "theta": LMU_THETA}
    elif rnn_type == "S4":
        return _s4(weights, ours)
    else:
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            weights.move(f"rnn.{name}_l0", ours + name)
    return rnn_type


def _s4(weights: _Weights, ours: str) -> dict[str, Any]:
    """The block with its standard options: one channel, rank 1, one state space a feature, bilinear rule."""
    weights.move_all("rnn.output_linear.0.", ours + "mix.")
    weights.move("rnn.layer.D", ours + "D", lambda x: x.squeeze(0))
    theirs = "rnn.layer.kernel."
    log_delta, log_a_real = weights.take(theirs + "inv_dt").squeeze(-1), weights.take(theirs + "A_real")
    a_imag, n_frames = weights.take(theirs + "A_imag"), int(weights.take(theirs + "l_kernel"))
    vectors = {}
    for name in ("P", "B", "C"):
        vector = weights.take(theirs + name)
        if vector.shape != (1, *log_a_real.shape, 2):
            raise ValueError(f"{theirs}{name} of shape {tuple(vector.shape)}: only rank 1 and one channel can be read")
        vectors[name] = torch.view_as_complex(vector[0].double().contiguous()).conj()
    a = torch.complex(-log_a_real.double().exp(), a_imag.double())
    if n_frames:
        vectors["C"] = _original_c(log_delta.double().exp(), a, vectors["P"], vectors["C"], n_frames)
    weights.ours |= {ours + "log_delta": log_delta, ours + "log_a_real": log_a_real, ours + "a_imag": a_imag}
    for name, vector in vectors.items():
        weights.ours[ours + name] = torch.view_as_real(vector.resolve_conj()).to(log_a_real.dtype)
    return {"type": "S4", "state_size": 2 * log_a_real.shape[1]}


def _original_c(delta: Tensor, a: Tensor, p: Tensor, c: Tensor, n: int) -> Tensor:
    """Solve ``c = C (1 - A^n)`` for C, with A the bilinear rule's for ``diag(a) - p p*``; of each conjugate pair one."""
    a, p, c = (torch.cat([v, v.conj()], -1) for v in (a, p, c))  # (H, N)
    half = delta[:, None, None] / 2 * (torch.diag_embed(a) - p.unsqueeze(-1) * p.conj().unsqueeze(-2))
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    power = torch.linalg.matrix_power(torch.linalg.solve(eye - half, eye + half), n)
    return torch.linalg.solve((eye - power).mT, c)[:, : a.shape[-1] // 2]


# ---- kernels, prefilters, nonlinearities


def _kernel(weights: _Weights, config: dict[str, Any], conv: str) -> Any:
    """Move the kernel of the convolution `conv`, and return the option that makes such a one."""
    theirs, ours = f"{conv}kernel.", f"{conv}kernel."
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
        weights.ours[conv + "bias"] = next(iter(weights.ours.values())).new_zeros(len(weights.ours[ours + "weight"]))
    return kernel


def _gaussians(weights: _Weights, theirs: str, ours: str, config: dict[str, Any]) -> dict[str, Any]:
    centre, width, weight = (weights.take(theirs + name) for name in ("P", "SIG", "weight"))
    if centre.dim() != 4 or centre.shape != width.shape or centre.shape != (2, *weight.shape):
        raise ValueError(f"{theirs}P of shape {tuple(centre.shape)}: must be (2, *), with * that of its weight")
    mass = torch.ones_like(weight, dtype=torch.float64)
    for axis, n in enumerate((config.get("n_frequency_bands", 34), config.get("temporal_window_size", 9))):
        sd = width[axis].double().abs() + ParametricSTRF.MINIMAL_SD
        mass *= torch.exp(-0.5 * ((torch.arange(n)[:, None, None, None] - centre[axis]) / sd) ** 2).sum(0)
    weights.ours[ours + "centre"], weights.ours[ours + "width"] = centre, width
    # there a Gaussian is divided by its mass plus 1e-7, which tells where it lies beyond the grid
    weights.ours[ours + "weight"] = (weight * mass / (mass + 1e-7)).to(weight.dtype)
    return {"type": "parametric", "num_gaussians": weight.shape[-1]}


def _prefilter(weights: _Weights, config: dict[str, Any]) -> Any:
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


def _activation(
    weights: _Weights,
    config: dict[str, Any],
    kind: type[Model],
    given: Any,
    non_negative: bool | None,
    version: str | None,
) -> Any:
    theirs, ours = "readout.activation.", "readout.activation."
    names = weights.under(theirs)
    if "output_activation" in config:  # the class's own
        if given is not None:
            raise ValueError(f"output_activation={given!r}: config.json says that it is the class's own, leave it out")
        if kind.default_activation == "parametric_softplus":
            weights.move(theirs + "_raw_beta", ours + "raw_slope")
            weights.move(theirs + "_raw_b", ours + "raw_baseline")
        return None
    if not names and given is None:
        raise ValueError(
            "output_activation: a module without weights, which config.json does not name; say what it was, "
            "from_deepstrf(folder, output_activation='sigmoid') for instance"
        )
    if given is not None:
        return given
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
        amplitude, baseline = raw["_raw_b"], raw.get("_raw_a")
        values, signed = _range(amplitude, baseline, non_negative, raw["d"])
        values |= {"midpoint": raw["c"], "raw_width": _inverse_softplus(raw["d"].abs())}
        spec = {"type": "parametric_sigmoid", "signed": signed}
    elif names in ({"k", "s", "_raw_a"}, {"k", "s", "_raw_a", "_raw_b"}):
        k, s = raw["k"], raw["s"]
        if choice("version", version, ("0.1.0", "0.1.1")) == "0.1.0":  # exp(-exp(k x - s))
            k, s = torch.log(-k), s / k
            if not torch.isfinite(k).all():
                raise ValueError("output_activation: a ParametricDoubleExponential that falls, k > 0; those here rise")
        values, signed = _range(raw["_raw_a"], raw.get("_raw_b"), non_negative, None)
        values |= {"log_slope": k, "shift": s}
        spec = {"type": "double_exponential", "signed": signed}
    else:
        raise ValueError(f"output_activation: an unknown module with the weights {', '.join(sorted(names))}")
    weights.ours |= {ours + name: value for name, value in values.items()}
    return spec


def _range(
    amplitude: Tensor, baseline: Tensor | None, non_negative: bool, width: Tensor | None
) -> tuple[dict[str, Tensor], bool]:
    """Our raw amplitude and baseline, and whether the baseline is signed. A negative width turns a sigmoid round."""
    rising = width is None or bool((width > 0).all())
    if non_negative and rising:
        signed = baseline is None
        return {
            "raw_amplitude": amplitude,
            "raw_baseline": torch.zeros_like(amplitude) if baseline is None else baseline,
        }, signed
    if non_negative:
        amplitude = F.softplus(amplitude)
        baseline = None if baseline is None else F.softplus(baseline)
    baseline = torch.zeros_like(amplitude) if baseline is None else baseline
    turned = amplitude < 0
    if not (amplitude * (1 if width is None else width) > 0).all() or (width is None and turned.any()):
        raise ValueError("output_activation: falls with its input for a neuron at least; those here rise")
    # b s(z) + a = -b s(-z) + (a + b)
    baseline = torch.where(turned, baseline + amplitude, baseline)
    return {"raw_amplitude": _inverse_softplus(amplitude.abs()), "raw_baseline": baseline}, True


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
