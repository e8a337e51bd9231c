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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strflab.layers.lmu import legendre_delay
from strflab.models.base import Model
from strflab.models.convnet import ConvNet2D
from strflab.models.deepstrf_parts import Weights, move_activation, move_kernel, move_prefilter
from strflab.models.dnet import DNet
from strflab.models.linear import Linear, LinearNonlinear
from strflab.models.nrf import NetworkReceptiveField
from strflab.models.statenet import StateNet
from strflab.models.transformer import Transformer
from strflab.validation import choice, integer

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

    Every weight of the checkpoint is used, once. The predictions are those of deepSTRF to float precision, but for
    decays and prefilters, which it cuts after some frames. The three keywords say what a checkpoint does not record;
    none is needed where the constructor there was given no `output_activation`. The frequencies and the frame length
    from which a prefilter was made are not recorded either: its coefficients are right, its config is not.

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
    options["prefiltering"] = move_prefilter(weights, config)
    options["output_activation"] = move_activation(
        weights, config, kind, output_activation, non_negative_output, version
    )
    model = kind(**options)
    weights.load_into(model)
    model.fitted = True
    return model.eval()


def _read(folder: Path) -> tuple[dict[str, Any], Weights]:
    from safetensors.torch import load_file

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no checkpoint: {name} is missing")
    config = json.loads((folder / "config.json").read_text("utf8"))
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: must hold a dict of a constructor's arguments")
    return config, Weights(load_file(folder / "model.safetensors"))


# ---- the cores, class by class: each moves its weights and returns the options that config.json does not hold


def _linear(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    options = {"kernel": move_kernel(weights, config, "readout.strf."), "norm": None}
    if weights.under("readout.bn."):
        weights.move_all("readout.bn.", "readout.norm.")
        options["norm"] = "batch"
    return options


def _hidden_fields(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    kernel = move_kernel(weights, config, "core.0.")
    weights.move_all("core.1.ln.", "core.1.norm.")
    weights.move_all("core.3.", "core.3.")  # the decay, if there is one
    weights.move_all("readout.fc.", "readout.fc.")
    return {"kernel": kernel}


def _convnet2d(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    for i in range(3):
        weights.move_all(f"core.{3 * i + 1}.", f"core.0.convs.{i}.")
        weights.move_all(f"core.{3 * i + 2}.ln.", f"core.0.norms.{i}.norm.")
    weights.move_all("readout.fc.", "readout.fc.")
    return {}


def _transformer(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
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
    return {"context_window": None if isinstance(window, int) and window <= 0 else window}  # there 0 is no window


def _statenet(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    encoder, ours = "encoder_layers.", "core.encoder."
    dense = config.get("connectivity", "LC") == "FC"
    if f"{encoder}0.weights" in weights.left:  # locally connected
        size = integer("kernel_size", config.get("kernel_size", 7))
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


_READERS: dict[type[Model], Callable[[Weights, dict[str, Any]], dict[str, Any]]] = {
    Linear: _linear,
    LinearNonlinear: _linear,
    NetworkReceptiveField: _hidden_fields,
    DNet: _hidden_fields,
    ConvNet2D: _convnet2d,
    Transformer: _transformer,
    StateNet: _statenet,
}


# ---- backbones


def _backbone(weights: Weights, rnn_type: str, ours: str) -> Any:
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


def _s4(weights: Weights, ours: str) -> dict[str, Any]:
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
    """Solve ``c = C (1 - A^n)`` for C, A being ``diag(a) - p p*`` by the bilinear rule; of each conjugate pair, one."""
    a, p, c = (torch.cat([v, v.conj()], -1) for v in (a, p, c))  # (H, N)
    half = delta[:, None, None] / 2 * (torch.diag_embed(a) - p.unsqueeze(-1) * p.conj().unsqueeze(-2))
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    power = torch.linalg.matrix_power(torch.linalg.solve(eye - half, eye + half), n)
    return torch.linalg.solve((eye - power).mT, c)[:, : a.shape[-1] // 2]
