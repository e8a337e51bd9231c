"""The rules that hold for every model; run as a script, it prints a table of them over the zoo.

A rule is a function that is given a `Case`, and fails by an AssertionError. What a case does not do is in `EXCEPTIONS`,
with the reason; its rule then tests what holds instead.
"""

from __future__ import annotations

import inspect
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import BANDS, BATCH, CASES, CUT, EXCEPTIONS, FFT, FRAMES, HOP, MEMBERS, NEURONS, Case

from strflab import models


@torch.no_grad()
def causal(case: Case) -> None:
    """Bit-equal before the frame from which the sound is another, in training and in evaluation mode."""
    x = case.sound()
    n = CUT * case.step(x)
    other = torch.cat([x[..., :n], 3 * case.sound(seed=1)[..., n:]], -1)
    why = EXCEPTIONS.get(("1 causal", case.name))
    for training in (True, False):
        model = case.make().train(training)
        before, after = model(x)[..., :CUT], model(other)[..., :CUT]
        if why == FFT:
            close(after, before)
        elif why == BATCH and training:
            assert not torch.equal(before, after)
        else:
            assert torch.equal(before, after)
        assert not torch.equal(model(x)[..., CUT], model(other)[..., CUT])


@torch.no_grad()
def clips(case: Case) -> None:
    """A clip does not notice its neighbours, nor the zeros behind it."""
    x = case.sound(n_clips=3)
    other = torch.cat([x[:1], 3 * case.sound(n_clips=2, seed=1)])
    padded = nn.functional.pad(x, (0, 23 * case.step(x)))
    for training in (True, False):
        model = case.make().train(training)
        y = model(x)
        if ("2 clips", case.name) in EXCEPTIONS and training:
            assert not torch.equal(model(other)[0], y[0])
        else:
            assert torch.equal(model(other)[0], y[0])
            close(model(x[:1])[0], y[0])
            close(model(padded)[..., :FRAMES], y)


@torch.no_grad()
def streaming(case: Case) -> None:
    """Any chunks give the whole, and what is kept from one to the next does not grow."""
    n_frames = 257
    model, x = case.make().eval(), case.sound(n_frames)
    whole = model(x)
    step = case.step(x)
    for chunk in (step, 7 * step, 250 * step, *([93] if case.hears_waveforms else [])):
        state, parts, sizes = None, [], []
        for piece in x.split(chunk, -1):
            y, state = model.stream(piece, state)
            parts.append(y)
            sizes.append(numbers_in(state))
        assert chunk % step or parts[0].shape[-1] == chunk // step
        close(torch.cat(parts, -1), whole)
        assert (sizes[-1] > sizes[len(sizes) // 2]) == (("3 streaming", case.name) in EXCEPTIONS and len(sizes) > 2)


def numbers_in(state: Any) -> int:
    """How many numbers a nest of tensors holds."""
    if isinstance(state, Tensor):
        return state.numel()
    parts = state.values() if isinstance(state, dict) else state
    return sum(map(numbers_in, parts)) if isinstance(state, (dict, list, tuple)) else 0


@torch.no_grad()
def strf_weight(case: Case) -> None:
    """The filter that is applied."""
    model, x = case.make().double().eval(), case.sound().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(tensor, 0.5, 2)
    if ("4 weight", case.name) in EXCEPTIONS:
        assert "STRF_gradmap" in (refusal(model.STRF_weight) or "")
        return
    for name in ("wav2spec", "prefiltering"):
        stage = getattr(model, name)
        x = x if stage is None else stage(x)
    weight = model.STRF_weight()
    bias = model.STRF_bias() if hasattr(model, "STRF_bias") else model.readout.last.bias
    assert weight.shape == (NEURONS, model.in_channels, BANDS, weight.shape[-1])
    applied = nn.functional.conv2d(nn.functional.pad(x, (weight.shape[-1] - 1, 0)), weight, bias)
    close(model.readout.activation(applied), model.readout(model.core(x)), 1e-12)


def strf_gradmap(case: Case) -> None:
    """The derivative of each neuron's last frame, around a stimulus; it leaves no trace."""
    model = case.make().double().train()
    x = torch.randn(model.in_channels, BANDS, 15, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    n_lags = int(min(model.memory, 15))
    gradient = model.STRF_gradmap(x, n_lags=n_lags)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert gradient.shape == (NEURONS, model.in_channels, BANDS, n_lags)

    model.eval()
    entries, size = [(0, 0, -1), (-1, 7, -2), (0, 19, -n_lags), (0, 11, -5)], 1e-6
    with torch.no_grad():
        steps = torch.zeros(len(entries), *x.shape, dtype=torch.float64)
        for step, entry in zip(steps, entries):
            step[entry] = size
        up, down = (model.readout(model.core(x + s))[..., 0, -1] for s in (steps, -steps))  # (entries, N)
    known = torch.stack([gradient[(slice(None), *entry)] for entry in entries])
    assert (known - (up - down) / (2 * size)).abs().max() <= 1e-6 * gradient.abs().max()
    whole = model.STRF_gradmap()
    if model.memory < float("inf"):  # it reaches as far as the model, and no frame further
        assert whole.shape[-1] == model.memory
        sound = torch.randn(model.in_channels, BANDS, whole.shape[-1] + 1, dtype=torch.float64)
        past = sound.clone()
        past[..., 0] += 1
        furthest = sound.clone()
        furthest[..., 1] += 1
        rates, same, other = (model.readout(model.core(v[None]))[..., -1] for v in (sound, past, furthest))
        assert torch.equal(same, rates)
        assert not torch.equal(other, rates)
    if case.model == "Linear" and "output_activation" not in case.options:
        close(whole, model.STRF_weight().detach(), 1e-12)


@torch.no_grad()
def saving(case: Case) -> None:
    """Saved and loaded, the same bits, in evaluation mode; what cannot be described is refused."""
    model, x = case.make(), case.sound()
    model.train()
    model(x)  # which moves a BatchNorm's statistics
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = models.from_pretrained(folder)
        assert {p.name for p in Path(folder).iterdir()} == {"config.json", "model.safetensors"}
    assert type(again) is type(model)
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again(x), model.eval()(x))
    with tempfile.TemporaryDirectory() as folder:
        own = case.make(output_activation=nn.Softsign())
        assert "output_activation" in (refusal(own.save_pretrained, Path(folder) / "model") or "")
        assert not any(Path(folder).iterdir())


def arguments(case: Case) -> None:
    """Every argument is checked by the constructor, which names it."""
    wrong: list[Any] = [object(), "nonsense", float("nan"), -1, {"type": "nonsense"}, [1, 2, 3]]
    for name in inspect.signature(models.ZOO[case.model]).parameters:
        for value in wrong + [0, 2.0, True, None] * (name in ("n_frequency_bands", "out_neurons")):
            message = refusal(case.make, **{name: value})
            if case.model == "ConvNet1D" and value == [1, 2, 3]:  # it takes several sizes, where they fit together
                assert message is None or any(word in message for word in (name, *case.options))
            else:
                assert message is not None, f"{name}={value!r} was taken"
                assert name in message, f"{name}={value!r}: {message}"


def precision(case: Case) -> None:
    """float64 and bfloat16 autocast, forward and backward."""
    model, x = case.make().eval(), case.sound()
    y = model(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
        half.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    close(half.detach().float(), y, 0.05)
    double = case.make().eval().double()(x.double())
    assert double.dtype == torch.float64
    close(double.detach().float(), y, 1e-4)


def compiling(case: Case) -> None:
    """torch.compile takes the whole model as one graph, and torch.export for any number of frames."""
    model, x = case.make().eval(), case.sound()
    with torch.no_grad():
        torch._dynamo.reset()
        close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))
        smallest = 20 * HOP if case.hears_waveforms else 2
        dim = torch.export.Dim("T", min=smallest, max=10**6)
        program = torch.export.export(model, (x,), dynamic_shapes=({x.dim() - 1: dim},)).module()
        for n_frames in (43, 150):
            longer = case.sound(n_frames, seed=2)
            close(program(longer), model(longer))


@torch.no_grad()
def seeds(case: Case) -> None:
    """The same seed gives the same weights and the same numbers, another seed others."""
    first, second, other = case.make(1), case.make(1), case.make(2)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    x = case.sound()
    y = first.eval()(x)
    assert torch.equal(second.eval()(x), y)
    assert torch.equal(first(x), y)
    assert not torch.equal(other.eval()(x), y)


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operations(case: Case) -> None:
    """As many operations, forward and backward, for more neurons and more clips; no value is fetched from a tensor."""
    counts = []
    for n_neurons, n_clips in ((2, 2), (9, 2), (2, 7)):
        model, x = case.make(out_neurons=n_neurons), case.sound(n_clips=n_clips)
        with Operations() as seen:
            model(x).sum().backward()
        fetched = {name for name in seen.names if "_local_scalar_dense" in name or "item" in name}
        assert not fetched
        counts.append(len(seen.names))
    assert len(set(counts)) == 1, counts


def close(a: Tensor, b: Tensor, relative: float = 1e-5) -> None:
    """Assert that `a` is `b` to within `relative` of the largest value."""
    assert a.shape == b.shape, (a.shape, b.shape)
    error = ((a - b).abs().max() / b.abs().max()).item()
    assert error <= relative, f"relative error {error:.2g}"


def refusal(call: Callable[..., Any], *args: Any, **options: Any) -> str | None:
    """The message of the ValueError that a call raises; None if it does not."""
    try:
        call(*args, **options)
    except ValueError as error:
        return str(error)
    return None


RULES: dict[str, Callable[[Case], None]] = {
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


def table() -> str:
    """Rows the cases, columns the rules; a letter refers to the reason of an exception."""
    reasons = sorted(set(EXCEPTIONS.values()))
    letters = {reason: chr(ord("a") + i) for i, reason in enumerate(reasons)}
    width = max(len(case.name) for case in CASES)
    lines = [" " * width + "  " + "  ".join(RULES)]
    for case in CASES:
        cells = []
        for name, rule in RULES.items():
            try:
                rule(case)
                cell = letters.get(EXCEPTIONS.get((name, case.name), ""), "ok")
            except Exception as error:
                cell = "FAILS"
                print(f"{case.name}, {name}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            cells.append(cell.ljust(len(name)))
        lines.append(case.name.ljust(width) + "  " + "  ".join(cells).rstrip())
    return "\n".join([*lines, "", *(f"{letters[reason]}  {reason}" for reason in reasons)])


def frame_ms(case: Case, n_frames: int = 400) -> tuple[float, float]:
    """Fastest and median time to stream one frame through a model of the default size, ms."""
    model = case.make(n_frequency_bands=34).eval()
    state, times = None, []
    for frame in torch.randn(n_frames, 1, 1, 34, 1):
        start = time.perf_counter()
        _, state = model.stream(frame, state)
        times.append(1000 * (time.perf_counter() - start))
    return min(times[10:]), statistics.median(times[10:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
    print("\none frame streamed, F=34, one thread, ms: fastest, median")
    for member in MEMBERS:
        print(f"{member.name:26}", *(f"{t:.2f}" for t in frame_ms(member)))
