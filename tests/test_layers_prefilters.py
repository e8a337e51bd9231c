"""Adaptation: the recursions against direct sums over the whole past, at time constants from 1 ms to 2 s."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from strflab import models
from strflab.layers import AdapTrans, ICAdaptation, make_prefiltering
from strflab.layers.config import from_config

TAU_MS = [1.0, 5.0, 30.0, 200.0, 500.0, 2000.0]
DT_MS = 5.0


def direct_mean_of_past(x, a):
    """sum_{j >= 1} (1 - a) a^(j-1) x[t - j] for (F, T) and (F,), the first frame having stood there for ever."""
    past = torch.empty_like(x)
    for t in range(x.shape[-1]):
        total = a**t * x[:, 0]  # what lies before the first frame: sum_{j > t} (1 - a) a^(j-1) = a^t
        for j in range(1, t + 1):
            total = total + (1 - a) * a ** (j - 1) * x[:, t - j]
        past[:, t] = total
    return past


@pytest.fixture
def sound():
    return torch.randn(1, 1, len(TAU_MS), 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_ic_adaptation_is_the_direct_sum(sound):
    layer = ICAdaptation(len(TAU_MS), dt_ms=DT_MS).double()
    layer.a = torch.exp(-DT_MS / torch.tensor(TAU_MS, dtype=torch.float64))
    expected = (sound[0, 0] - direct_mean_of_past(sound[0, 0], layer.a)).clamp(min=0)
    torch.testing.assert_close(layer(sound)[0, 0], expected, rtol=1e-9, atol=1e-12)


def test_ic_time_constants():
    """tau = 500 - 105 log10(f) ms, a = exp(-dt / tau)."""
    frequencies = [500.0, 1000.0, 10_000.0]
    tau = [500 - 105 * math.log10(f) for f in frequencies]
    for dt_ms in (1.0, 5.0, 10.0):
        expected = torch.tensor([math.exp(-dt_ms / t) for t in tau])
        torch.testing.assert_close(ICAdaptation(3, frequencies, dt_ms).a, expected)


def test_time_constants_are_in_ms_not_frames():
    """The lesson of a kernel whose length was in ms where frames were meant: a finer grid adapts in the same time."""
    level = torch.zeros(1, 1, 1, 2000)
    level[..., 1:] = 1.0
    for dt_ms in (1.0, 5.0):
        y = ICAdaptation(1, [1000.0], dt_ms)(level)[0, 0, 0]
        frame = 1 + round(100 / dt_ms)  # 100 ms after the step
        assert y[frame].item() == pytest.approx(math.exp(-100 / (500 - 105 * 3)), rel=1e-3)


def test_adaptrans_is_the_direct_sum(sound):
    """ON = [1, -w C a^j], OFF = [-w, +C a^j], j >= 1, with C = (1 - a) / a."""
    layer = AdapTrans(len(TAU_MS), dt_ms=DT_MS).double()
    a = torch.exp(-DT_MS / torch.tensor(TAU_MS, dtype=torch.float64))
    with torch.no_grad():
        layer.d[0], layer.d[1] = torch.sqrt(1 / a - 1), torch.sqrt(1 / a.flip(0) - 1)
        layer.p.copy_(torch.linspace(0.1, 2, len(TAU_MS)))
    x, w = sound[0, 0], (1 / (1 + layer.p**2))[:, None]
    on, off = layer(sound)[0]
    torch.testing.assert_close(on, x - w * direct_mean_of_past(x, a), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(off, direct_mean_of_past(x, a.flip(0)) - w * x, rtol=1e-9, atol=1e-12)


def test_adaptrans_starts_as_described():
    layer = AdapTrans(34)
    torch.testing.assert_close(layer.w, torch.full((34,), 0.75))
    torch.testing.assert_close(layer.a[0], ICAdaptation(34).a)
    torch.testing.assert_close(layer.a[1], ICAdaptation(34).a)


@pytest.mark.parametrize("kind", ["ic_adaptation", "adaptrans"])
def test_a_constant_sound_gives_a_constant_answer(kind):
    y = make_prefiltering(kind, 3)(torch.full((1, 1, 3, 300), -2.5))
    torch.testing.assert_close(y, y[..., :1].expand_as(y), rtol=0, atol=1e-5)
    if kind == "adaptrans":
        torch.testing.assert_close(y[0, 0], torch.full((3, 300), -2.5 * 0.25), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(y[0, 1], torch.full((3, 300), -2.5 * 0.25), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ic_adaptation", "adaptrans"])
@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_streaming_equals_the_whole(kind, chunk):
    layer = make_prefiltering(kind, 3)
    x, state, pieces = torch.randn(2, 1, 3, 500), None, []
    for piece in x.split(chunk, -1):
        y, state = layer.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1), layer(x), rtol=1e-5, atol=1e-5)


def test_adaptrans_gradients():
    layer = AdapTrans(2).double()
    x = torch.randn(1, 1, 2, 70, dtype=torch.float64, requires_grad=True)
    d, p = (q.detach().clone().requires_grad_() for q in (layer.d, layer.p))
    assert gradcheck(lambda x, d, p: torch.func.functional_call(layer, {"d": d, "p": p}, (x,)), (x, d, p))


def test_ic_adaptation_learns_nothing():
    assert not list(ICAdaptation(34).parameters())


@pytest.mark.parametrize("kind", ["ic_adaptation", "adaptrans"])
def test_config_round_trip(kind):
    layer = make_prefiltering(kind, 3, dt_ms=10.0, frequencies=torch.tensor([300.0, 900.0, 4000.0]))
    again = from_config(layer.config)
    x = torch.randn(1, 1, 3, 40)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("fft", {}, "prefiltering=.*'fft'"),
        (7, {}, "prefiltering=7"),
        ("adaptrans", {"init_w": 1.5}, "init_w=1.5"),
        ("adaptrans", {"speed": 1}, "speed"),
        ("ic_adaptation", {"dt_ms": 0}, "dt_ms=0"),
        ("ic_adaptation", {"frequencies": [1.0, 2.0]}, "frequencies="),
        ("ic_adaptation", {"frequencies": [1.0, 2.0, float("nan")]}, "frequencies="),
        ("ic_adaptation", {"frequencies": "abc"}, "frequencies="),
        ("ic_adaptation", {"frequencies": [1e3, 1e4, 1e5]}, "57.8 kHz"),
        (ICAdaptation(4), {}, "made for 4 bands"),
    ],
)
def test_wrong_arguments(kind, options, named):
    with pytest.raises(ValueError, match=named):
        make_prefiltering(kind, 3, **options)


@pytest.mark.parametrize("kind", ["ic_adaptation", "adaptrans"])
def test_export_for_any_number_of_frames(kind):
    """Two channels of a prefilter before a convolution tied the exported program to lengths once."""
    model, frames = models.Linear(3, 4, prefiltering=kind).eval(), torch.export.Dim("T", min=2)
    exported = torch.export.export(model, (torch.randn(1, 1, 3, 90),), dynamic_shapes=({3: frames},)).module()
    for n_frames in (2, 64, 65, 300):
        x = torch.randn(1, 1, 3, n_frames)
        torch.testing.assert_close(exported(x), model(x))


@pytest.mark.parametrize("n_lags", [2, 9, 30])
@pytest.mark.parametrize("bias", [True, False])
def test_a_filter_of_what_is_not_formed(n_lags, bias):
    """AdapTrans and the convolution after it in one, and the same in two steps: values and gradients."""
    torch.manual_seed(0)
    adaptrans = AdapTrans(6, dt_ms=5.0).double()
    with torch.no_grad():
        for parameter in adaptrans.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.randn(3, 1, 6, 31, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, 6, n_lags, dtype=torch.float64, requires_grad=True)
    constants = torch.randn(4, dtype=torch.float64, requires_grad=True) if bias else None
    formed = torch.nn.functional.pad(adaptrans(x).flatten(1, 2), (n_lags - 1, 0))
    expected = torch.nn.functional.conv1d(formed, weight.flatten(1, 2), constants)
    found = adaptrans.convolved(x, weight, constants)
    torch.testing.assert_close(found, expected)
    inputs = [x, weight, *adaptrans.parameters(), *([constants] if bias else [])]
    along = torch.randn_like(found)
    for a, b in zip(torch.autograd.grad(found, inputs, along), torch.autograd.grad(expected, inputs, along)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "name", ["Linear", "LinearNonlinear", "NetworkReceptiveField", "DNet", "Transformer", "StateNet"]
)
@pytest.mark.parametrize("rectify", [False, True])
def test_models_behind_adaptrans_are_its_output_modelled(name, rectify):
    torch.manual_seed(0)
    options = {"prefiltering": {"type": "adaptrans", "rectify": rectify}}
    model = models.build(name, n_frequency_bands=12, out_neurons=3, **options).double()
    x = torch.randn(2, 1, 12, 40, dtype=torch.float64)
    torch.testing.assert_close(model(x), model.readout(model.core(model.prefiltering(x))))
    torch.testing.assert_close(model(x[..., :5]), model(x)[..., :5])
