"""What every model is: a row of causal stages from sound to the rates of N neurons.

    waveform --wav2spec--> spectrogram --prefiltering--> features --core--> channels --readout--> (B, N, 1, T)

A subclass makes `self.core` and `self.readout` from layers; running, streaming, reading its receptive fields,
saving and loading are here, once for all of them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from strflab.layers.activations import make_activation
from strflab.layers.causal import Chain, layer_memory, stream
from strflab.layers.config import Configurable, from_config
from strflab.layers.frontends import make_frontend
from strflab.layers.prefilters import Adapted, AdapTrans, make_prefiltering
from strflab.layers.readouts import STRFReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.validation import integer

FORMAT = 1  # of the saved config.json
LONGEST_SEARCH = 4096  # frames over which the memory of a recurrent model is looked for


class Model(nn.Module, Configurable):
    """Base of all models.

    Parameters
    ----------
    n_frequency_bands : F, bands of the spectrogram
    out_neurons : N
    output_activation : None for the class's own, a name, a dict or a module (`strflab.layers.make_activation`)
    prefiltering : None, a name, a dict or a prefilter (`strflab.layers.make_prefiltering`)
    wav2spec : None if the model is given spectrograms; a name, a dict or a front-end if it is given waveforms
        (`strflab.layers.make_frontend`)

    Raises
    ------
    ValueError : an argument is out of range; the message names it, its value and what is allowed
    """

    default_activation = "identity"
    fitted = False  # set by a fit and by loading: a fitted model is not initialised again

    def __init__(
        self,
        n_frequency_bands: int,
        out_neurons: int,
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__()
        self.n_frequency_bands = integer("n_frequency_bands", n_frequency_bands)
        self.out_neurons = integer("out_neurons", out_neurons)
        self.wav2spec = None if wav2spec is None else make_frontend("wav2spec", wav2spec, n_frequency_bands)
        self.prefiltering = None if prefiltering is None else make_prefiltering(prefiltering, n_frequency_bands)
        self.in_channels: int = 1 if self.prefiltering is None else self.prefiltering.out_channels
        self.core: nn.Module = Chain()
        self.readout: nn.Module = Chain()
        # a subclass gives it to its readout, which comes last
        self._activation_spec = self.default_activation if output_activation is None else output_activation

    def make_output_activation(self) -> nn.Module:
        """Return the nonlinearity that the constructor was asked for, made for this model's neurons."""
        return make_activation("output_activation", self._activation_spec, self.out_neurons)

    # ---- from sound to rates

    def stages(self) -> Iterator[tuple[str, nn.Module]]:
        """The stages that sound passes through, by name."""
        for name in ("wav2spec", "prefiltering", "core", "readout"):
            stage = getattr(self, name)
            if stage is not None:
                yield name, stage

    def forward(self, x: Tensor) -> Tensor:
        """Return the predicted rates (B, N, 1, T), spikes per bin, for spectrograms (B, 1, F, T) or, where the model
        holds a front-end, waveforms (B, 1, samples).

        Parameters
        ----------
        x : (B, 1, F, T) or (B, 1, samples)
        """
        self._check_input(x)
        if self.wav2spec is not None and x.shape[-1] < float(self.wav2spec.samples_per_frame):
            per_frame = float(self.wav2spec.samples_per_frame)
            raise ValueError(f"input of shape {tuple(x.shape)}: must fill a frame, {per_frame:g} samples")
        for name, stage in self.stages():
            x = cast(Tensor, self._adapted(x)) if name == "prefiltering" else stage(x)
        return x

    def _adapted(self, x: Tensor) -> Tensor | Adapted:
        """The sound after the prefilter; not formed where the first stage is a convolution that can do without it."""
        stages = list(self.core) if isinstance(self.core, nn.Sequential) else [self.core]
        first: Any = stages[0] if stages else self.readout
        first = first.strf if type(first) is STRFReadout else first
        prefilter: Any = self.prefiltering
        # of subclasses, what they do with their input is not known
        linear = type(prefilter) is AdapTrans and not prefilter.rectify and type(first) is CausalSTRFConv
        if linear and not torch.compiler.is_compiling() and 1 < first.n_lags < x.shape[-1]:
            return Adapted(prefilter, x)
        return prefilter(x)

    @torch.no_grad()
    def stream(self, x: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Return the rates for the frames `x` that follow those already heard, and the state for those after.

        Any way of cutting a recording gives what the whole gives; memory is bounded by the model. Gradients are not
        kept.

        Parameters
        ----------
        x : (B, 1, F, T) next frames, or (B, 1, samples) next samples
        state : what the call before returned; None at the start of a sound

        Examples
        --------
        >>> from strflab import models
        >>> model, state = models.Linear(n_frequency_bands=4, temporal_window_size=3), None
        >>> for frame in torch.zeros(10, 1, 1, 4, 1):
        ...     rate, state = model.stream(frame, state)
        """
        self._check_input(x)
        states = dict(state or {})
        for name, stage in self.stages():
            if x.shape[-1] == 0:  # the samples so far do not fill a frame
                return x.new_zeros(len(x), self.out_neurons, 1, 0), states
            x, states[name] = stream(stage, x, states.get(name))
        return x, states

    @property
    def memory(self) -> float:
        """Frames of (prefiltered) stimulus that a prediction depends on, its own included; infinite if recurrent."""
        return layer_memory(self.core) + layer_memory(self.readout) - 1

    # ---- reading the model

    def STRF_weight(self) -> Tensor:
        """The filter that is applied, (N, C, F, T), last tap at lag 0, for models that have one a neuron."""
        raise ValueError(f"{type(self).__name__} has no single filter a neuron: use STRF_gradmap()")

    def STRF_gradmap(self, stimulus: Tensor | None = None, n_lags: int | None = None) -> Tensor:
        """Return +d(rate in the last frame)/d(stimulus), the receptive field around a stimulus.

        The stimulus is what the core receives: with a prefilter, its output, every channel of it. The model runs in
        evaluation mode and is left as it was.

        Parameters
        ----------
        stimulus : (C, F, T0) or (F, T0) the sound so far, at whose last frame the field is taken; None: silence (zeros)
        n_lags : frames to return; None: the model's memory, for a recurrent model as far as the gradient reaches

        Returns
        -------
        Tensor (N, C, F, n_lags), last tap at lag 0
        """
        memory = self.memory
        if n_lags is None and math.isinf(memory):
            n_lags = self._reach(stimulus)
        n_lags = int(memory) if n_lags is None else integer("n_lags", n_lags)
        return self._gradmap(self._context(stimulus, n_lags))[..., -n_lags:]

    def _gradmap(self, x: Tensor) -> Tensor:
        """Gradients (N, C, F, T0) of the last frame's rates to the core's input x (C, F, T0)."""
        x = x.expand(self.out_neurons, *x.shape).clone().requires_grad_()  # neuron n reads the n-th copy
        with self._evaluation(), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            rates = self.readout(self.core(x))[..., 0, -1]  # (N, N)
            return torch.autograd.grad(rates.diagonal().sum(), x)[0]

    def _context(self, stimulus: Tensor | None, n_frames: int) -> Tensor:
        """The stimulus (C, F, T0), with silence before it and one frame more where it is shorter than `n_frames`.

        The first frame also stands for all those before it, where a model starts in that frame's steady state.
        """
        like = next(self.core.parameters(), next(self.readout.parameters()))
        shape = (self.in_channels, self.n_frequency_bands)
        if stimulus is None:
            return like.new_zeros(*shape, n_frames + 1)
        x = torch.as_tensor(stimulus).to(like)
        if x.dim() == 2 and self.in_channels == 1:
            x = x[None]
        if x.dim() != 3 or x.shape[:2] != shape or x.shape[-1] == 0:
            raise ValueError(f"stimulus of shape {tuple(x.shape)}: must be ({shape[0]}, {shape[1]}, T)")
        return x if x.shape[-1] >= n_frames else nn.functional.pad(x, (n_frames + 1 - x.shape[-1], 0))

    def _reach(self, stimulus: Tensor | None) -> int:
        """Lags, a power of two, beyond half of which less than a millionth of the gradient's energy lies."""
        n_lags = 64
        while n_lags < LONGEST_SEARCH:
            energy = self._gradmap(self._context(stimulus, n_lags))[..., -n_lags:].square().sum((0, 1, 2))
            if energy[: n_lags // 2].sum() <= 1e-6 * energy.sum():
                break
            n_lags *= 2
        return n_lags

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Evaluation mode inside, each module's own mode again outside."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode

    # ---- to disk and back

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json (every part by name and options) and model.safetensors (the weights) to `folder`.

        Raises
        ------
        ValueError : a part cannot be described in config.json; nothing is written
        """
        from safetensors.torch import save_file

        text = json.dumps({"format": FORMAT, "model": self.config}, indent=2)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors.partial")
        (folder / "config.json.partial").write_text(text + "\n", "utf8")
        for name in ("model.safetensors", "config.json"):
            os.replace(folder / f"{name}.partial", folder / name)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Return the model that `save_pretrained` wrote to `folder`, in evaluation mode, on the CPU.

        Raises
        ------
        FileNotFoundError : the folder holds no saved model
        ValueError : the files do not describe a model of this class, or do not belong together
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} holds no saved model: {name} is missing")
        saved = json.loads((folder / "config.json").read_text("utf8"))
        if saved.get("format") != FORMAT:
            raise ValueError(
                f"{folder / 'config.json'}: format {saved.get('format')!r} is not {FORMAT}; a checkpoint of another "
                "library may be read by strflab.models.from_deepstrf"
            )
        model = from_config(saved["model"])
        if not isinstance(model, cls):
            kind = saved["model"].get("type")
            raise ValueError(
                f"{folder} holds a {kind!r}, not a {cls.__name__}; if it is a class of yours, import its module first"
            )
        weights = load_file(folder / "model.safetensors")
        floating = [w.dtype for w in weights.values() if w.is_floating_point()]
        if floating:
            model.to(floating[0])
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{folder}: model.safetensors does not fit config.json; save the model again: {error}"
            ) from None
        model.fitted = True
        return model.eval()

    def _check_input(self, x: Tensor) -> None:
        if self.wav2spec is not None:
            if x.dim() != 3 or x.shape[1] != 1:
                raise ValueError(f"input of shape {tuple(x.shape)}: must be a waveform (B, 1, samples)")
        elif x.dim() != 4 or x.shape[1] != 1 or x.shape[2] != self.n_frequency_bands:
            raise ValueError(
                f"input of shape {tuple(x.shape)}: must be a spectrogram (B, 1, {self.n_frequency_bands}, T)"
            )
