"""The rules that hold for every model, as checks that a model of one's own can be put to; `check` runs them.

A rule is a function that is given a `Subject`, and raises `strflab.layers.contract.Broken` where it does not hold. What
a model does not do it says in `exceptions`, with the reason; the rule then checks what holds instead.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from strflab.layers import contract
from strflab.layers.activations import Pointwise
from strflab.layers.contract import Broken, close, noise, require
from strflab.models.base import Model

BANDS, NEURONS, FRAMES, CUT = 20, 3, 60, 37

FFT = "float round-off of the Fourier transform"
BATCH = "in training, a BatchNorm hears the whole batch"
GROWS = "without a window, attention keeps all of its past; the docstring says so"
SEVERAL = "there is no one filter a neuron, and STRF_weight() says so"
LISTS = "it takes several sizes, where they fit together"


@dataclass(frozen=True)
class Subject:
    """A class of models, the options that make one, and for each rule that does not hold as it stands the reason."""

    cls: type[Model]
    options: Mapping[str, Any] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def make(self, seed: int = 0, **options: Any) -> Model:
        """Return a new model of `BANDS` bands and `NEURONS` neurons, unless the options say otherwise."""
        torch.manual_seed(seed)
        return self.cls(**({"n_frequency_bands": BANDS, "out_neurons": NEURONS} | dict(self.options) | options))

    def sound(self, n_frames: int = FRAMES, n_clips: int = 2, seed: int = 0) -> Tensor:
        """Return noise (B, 1, F, T), or (B, 1, samples) for a model with a front-end."""
        model = self.make()
        if model.wav2spec is None:
            return noise((n_clips, 1, model.n_frequency_bands, n_frames), seed)
        return noise((n_clips, 1, n_frames * int(model.wav2spec.samples_per_frame)), seed)

    @property
    def step(self) -> int:
        """Entries of the input's last axis a frame."""
        frontend = self.make().wav2spec
        return 1 if frontend is None else int(frontend.samples_per_frame)


def check(cls: type[Model], exceptions: Mapping[str, str] | None = None, **options: Any) -> dict[str, str]:
    """Put a class of models to every rule, and return for each of them "holds", or why it does not have to.

    Parameters
    ----------
    cls : class of models, derived from `Model`
    exceptions : for a rule by its name in `RULES` the reason why it cannot hold: ``{"1 causal": rules.FFT}`` allows
        float round-off, ``{"3 streaming": rules.GROWS}`` a state that grows. That there is no one filter a neuron is
        seen without being told
    **options : of the constructor, beyond the number of bands and neurons

    Raises
    ------
    Broken : with a line for each rule that does not hold

    Examples
    --------
    >>> from strflab import models
    >>> models.check(models.NetworkReceptiveField, n_hidden=4)["1 causal"]
    'holds'
    """
    exceptions = dict(exceptions or {})
    if unknown := [name for name in exceptions if name not in RULES]:
        raise ValueError(f"exceptions: {unknown[0]!r} is no rule, use {', '.join(RULES)}")
    if cls.STRF_weight is Model.STRF_weight:
        exceptions["4 weight"] = SEVERAL
    subject = Subject(cls, options, exceptions)
    broken = []
    for name, rule in RULES.items():
        try:
            rule(subject)
        except Exception as error:
            # what goes wrong in the model's own code shows there
            kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
            broken.append(f"{name}: {kind}{str(error).strip() or 'no message'}")
    if broken:
        raise Broken("\n".join([f"{len(broken)} of {len(RULES)} rules do not hold for {cls.__name__}", *broken]))
    return {name: exceptions.get(name, "holds") for name in RULES}


@torch.no_grad()
def causal(subject: Subject) -> None:
    """Bit-equal before the frame from which the sound is another, in training and in evaluation mode."""
    x, step = subject.sound(), subject.step
    why = subject.exceptions.get("1 causal")
    for training in (True, False):
        model = subject.make().train(training)
        if why == BATCH and training:
            refused(contract.causal, model, x, CUT, step)
        else:
            contract.causal(model, x, CUT, step, exact=why != FFT)
        now = x.clone()
        now[..., CUT * step : (CUT + 1) * step] *= 3
        require(not torch.equal(model(x)[..., CUT], model(now)[..., CUT]), "a frame does not hear its own sound")


@torch.no_grad()
def clips(subject: Subject) -> None:
    """A clip does not notice its neighbours, nor the zeros behind it."""
    x = subject.sound(n_clips=3)
    for training in (True, False):
        model = subject.make().train(training)
        if "2 clips" in subject.exceptions and training:
            refused(contract.clips, model, x, subject.step)
        else:
            contract.clips(model, x, subject.step)


def streaming(subject: Subject) -> None:
    """Any chunks give the whole, and what is kept from one to the next does not grow."""
    step = subject.step
    chunks = (step, 7 * step, 250 * step, *([93] if step > 1 else []))
    grows = "3 streaming" in subject.exceptions
    contract.streaming(subject.make().eval(), subject.sound(257), chunks, step, grows)


@torch.no_grad()
def strf_weight(subject: Subject) -> None:
    """The filter that is applied."""
    model: Any = subject.make().double().eval()
    x = subject.sound().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for name in ("running_mean", "running_var", "weight", "bias"):
                nn.init.uniform_(getattr(module, name), 0.5, 2)
    if "4 weight" in subject.exceptions:
        require(
            "STRF_gradmap" in (refusal(model.STRF_weight) or ""), "STRF_weight() must raise and name STRF_gradmap()"
        )
        return
    for name in ("wav2spec", "prefiltering"):
        stage = getattr(model, name)
        x = x if stage is None else stage(x)
    weight, readout = model.STRF_weight(), model.readout
    bias = model.STRF_bias() if hasattr(model, "STRF_bias") else readout.last.bias
    shape = (model.out_neurons, model.in_channels, model.n_frequency_bands, weight.shape[-1])
    require(weight.shape == shape, f"STRF_weight() has shape {tuple(weight.shape)}, must be {shape}")
    applied = nn.functional.conv2d(nn.functional.pad(x, (weight.shape[-1] - 1, 0)), weight, bias)
    close(readout.activation(applied), readout(model.core(x)), "STRF_weight() is not what is applied", 1e-12)


def strf_gradmap(subject: Subject) -> None:
    """The derivative of each neuron's last frame, around a stimulus; it leaves no trace."""
    model = subject.make().double().train()
    n_bands = model.n_frequency_bands
    x = noise((model.in_channels, n_bands, 15), 3).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    n_lags = int(min(model.memory, 15))
    gradient = model.STRF_gradmap(x, n_lags=n_lags)
    untouched = all(p.grad is None and p.requires_grad for p in model.parameters())
    untouched &= all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    require(model.training and untouched, "STRF_gradmap() leaves a trace on the model")
    shape = (model.out_neurons, model.in_channels, n_bands, n_lags)
    require(gradient.shape == shape, f"STRF_gradmap() has shape {tuple(gradient.shape)}, must be {shape}")

    model.eval()
    lag = min(5, n_lags)
    entries, size = (
        [(0, 0, -1), (-1, n_bands // 3, -min(2, lag)), (0, n_bands - 1, -n_lags), (0, n_bands // 2, -lag)],
        1e-6,
    )
    with torch.no_grad():
        steps = torch.zeros(len(entries), *x.shape, dtype=torch.float64)
        for change, entry in zip(steps, entries):
            change[entry] = size
        up, down = (model.readout(model.core(x + s))[..., 0, -1] for s in (steps, -steps))  # (entries, N)
    known = torch.stack([gradient[(slice(None), *entry)] for entry in entries])
    error = (known - (up - down) / (2 * size)).abs().max()
    require(bool(error <= 1e-6 * gradient.abs().max()), "STRF_gradmap() is not the derivative of the rate")
    whole = model.STRF_gradmap()
    if model.memory < float("inf"):  # it reaches as far as the model, and no frame further
        require(
            whole.shape[-1] == model.memory, f"STRF_gradmap() has {whole.shape[-1]} lags, memory is {model.memory:g}"
        )
        sound = noise((model.in_channels, n_bands, whole.shape[-1] + 1), 4).double()
        past = sound.clone()
        past[..., 0] += 1
        furthest = sound.clone()
        furthest[..., 1] += 1
        rates, same, other = (model.readout(model.core(v[None]))[..., -1] for v in (sound, past, furthest))
        require(torch.equal(same, rates), f"memory is {model.memory:g} frames, and the model remembers more")
        require(not torch.equal(other, rates), f"memory is {model.memory:g} frames, and the model remembers less")
    one_filter = "4 weight" not in subject.exceptions
    activation = getattr(model.readout, "activation", None)
    if one_filter and isinstance(activation, Pointwise) and activation.name == "identity":
        close(whole, model.STRF_weight().detach(), "of a linear model, STRF_gradmap() must be STRF_weight()", 1e-12)


@torch.no_grad()
def saving(subject: Subject) -> None:
    """Saved and loaded, the same bits, in evaluation mode; what cannot be described is refused."""
    model, x = subject.make(), subject.sound()
    model.train()
    model(x)  # which moves a BatchNorm's statistics
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = Model.from_pretrained(folder)
        names = {p.name for p in Path(folder).iterdir()}
    require(names == {"config.json", "model.safetensors"}, f"save_pretrained() writes {', '.join(sorted(names))}")
    require(type(again) is type(model), f"a saved {type(model).__name__} is loaded as a {type(again).__name__}")
    require(not again.training, "a loaded model is in training mode")
    require(again.config == model.config, "a loaded model has another config")
    require(torch.equal(again(x), model.eval()(x)), "a loaded model gives other numbers")
    if "output_activation" not in inspect.signature(subject.cls).parameters:
        return
    with tempfile.TemporaryDirectory() as folder:
        own = subject.make(output_activation=nn.Softsign())
        message = refusal(own.save_pretrained, Path(folder) / "model") or ""
        require("output_activation" in message, "an activation that cannot be saved is not refused by name")
        require(not any(Path(folder).iterdir()), "a refused save leaves files behind")


def arguments(subject: Subject) -> None:
    """Every argument is checked by the constructor, which names it."""
    wrong: list[Any] = [object(), "nonsense", float("nan"), -1, {"type": "nonsense"}, [1, 2, 3]]
    for name in inspect.signature(subject.cls).parameters:
        for value in wrong + [0, 2.0, True, None] * (name in ("n_frequency_bands", "out_neurons")):
            message = refusal(subject.make, **{name: value})
            if subject.exceptions.get("7 arguments") == LISTS and value == [1, 2, 3]:
                fits = message is None or any(word in message for word in (name, *subject.options))
                require(fits, f"{name}={value!r}: {message}")
            else:
                require(message is not None, f"{name}={value!r} is taken; raise a ValueError that names the argument")
                require(name in str(message), f"{name}={value!r}: the message does not name the argument: {message}")


def precision(subject: Subject) -> None:
    """float64 and bfloat16 autocast, forward and backward."""
    model, x = subject.make().eval(), subject.sound()
    y = model(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
        half.float().square().mean().backward()
    finite = all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    require(finite, "a gradient under bfloat16 autocast is not finite")
    close(half.detach().float(), y, "under bfloat16 autocast", 0.05)
    double = subject.make().eval().double()(x.double())
    require(double.dtype == torch.float64, f"a model in float64 gives {double.dtype}")
    close(double.detach().float(), y, "in float64", 1e-4)


def compiling(subject: Subject) -> None:
    """torch.compile takes the whole model as one graph, and torch.export for any number of frames."""
    model, x, step = subject.make().eval(), subject.sound(), subject.step
    with torch.no_grad():
        torch._dynamo.reset()
        close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x), "compiled")
        dim = torch.export.Dim("T", min=20 * step if step > 1 else 2, max=10**6)
        program = torch.export.export(model, (x,), dynamic_shapes=({x.dim() - 1: dim},)).module()
        for n_frames in (43, 150):
            longer = subject.sound(n_frames, seed=2)
            close(program(longer), model(longer), f"exported, for {n_frames} frames")


@torch.no_grad()
def seeds(subject: Subject) -> None:
    """The same seed gives the same weights and the same numbers, another seed others."""
    first, second, other = subject.make(1), subject.make(1), subject.make(2)
    same = all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    require(same, "the same seed gives other weights")
    x = subject.sound()
    y = first.eval()(x)
    require(torch.equal(second.eval()(x), y), "the same weights give other numbers")
    require(torch.equal(first(x), y), "the same sound gives other numbers the second time")
    require(not torch.equal(other.eval()(x), y), "another seed gives the same numbers")


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operations(subject: Subject) -> None:
    """As many operations, forward and backward, for more neurons and more clips; no value is fetched from a tensor."""
    counts = []
    for n_neurons, n_clips in ((2, 2), (9, 2), (2, 7)):
        model, x = subject.make(out_neurons=n_neurons), subject.sound(n_clips=n_clips)
        with Operations() as seen:
            model(x).sum().backward()
        fetched = {name for name in seen.names if "_local_scalar_dense" in name or "item" in name}
        require(not fetched, "a value is fetched from a tensor, which waits for the device")
        counts.append(len(seen.names))
    require(len(set(counts)) == 1, f"{counts[0]} operations, {counts[1]} for more neurons, {counts[2]} for more clips")


def refused(rule: Callable[..., None], *args: Any) -> None:
    """Raise `Broken` if a rule holds that is said not to."""
    try:
        rule(*args)
    except Broken:
        return
    raise Broken(f"{rule.__name__} holds, although an exception says it does not")


def refusal(call: Callable[..., Any], *args: Any, **options: Any) -> str | None:
    """The message of the ValueError that a call raises; None if it does not."""
    try:
        call(*args, **options)
    except ValueError as error:
        return str(error)
    return None


RULES: dict[str, Callable[[Subject], None]] = {
    "1 causal": causal,
    "2 clips": clips,
    "3 streaming": streaming,
    "4 weight": strf_weight,
    "5 gradmap": strf_gradmap,
    "6 saving": saving,
    "7 arguments": arguments,
    "8 precision": precision,
    "8 compiling": compiling,
    "9 seeds": seeds,
    "10 operations": operations,
}
