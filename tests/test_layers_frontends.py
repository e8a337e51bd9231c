"""Front-ends: each against scipy or its formula, causal to the sample, the same whole and in pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from strflab import models
from strflab.data import spectrogram
from strflab.layers.config import from_config
from strflab.layers.frontends import (
    FRONTENDS,
    LEAF,
    Gammatone,
    LogMel,
    NS1Cochleagram,
    Rahman2020Cochleagram,
    SincNet,
    make_frontend,
)
from strflab.layers.frontends.base import fft_filter

RATE = 8000  # Hz
# 5 ms are 40 samples, or 44.1 at 8820 Hz
OPTIONS = {
    "logmel": {"window_ms": 16.0},
    "gammatone": {"low_hz": 300.0},
    "ns1": {"low_hz": 300.0, "high_hz": 3500.0},
    "rahman2020": {"low_hz": 300.0, "high_hz": 3500.0, "compression": "hill"},
    "sincnet": {},
    "leaf": {"window_ms": 8.0},
}


def frontend(name, rate=RATE, n_bands=8, **options):
    return make_frontend("wav2spec", {"type": name, "sample_rate": rate} | OPTIONS[name] | options, n_bands)


def noise(n_samples, n_clips=2, seed=0):
    return 0.1 * torch.randn(n_clips, 1, n_samples, generator=torch.Generator().manual_seed(seed))


def frames_of(x, ends, n):
    """The n samples before each end, zeros before the sound: (T, n)."""
    x = np.concatenate([np.zeros(n), x])
    return np.stack([x[end : end + n] for end in ends])


def close(ours, theirs, atol=1e-4):
    return np.allclose(ours.detach().numpy(), theirs, atol=atol)


# ---- each is what it says


def test_ns1_is_the_published_cochleagram_a_frame_later():
    x = noise(24_414, 1)
    published, frequencies = spectrogram.cochleagram(x[0, 0].numpy(), 48_828, standardise=False)
    front = NS1Cochleagram()
    assert close(front(x)[0, 0, :, 1:], published)
    assert close(front.frequencies, frequencies, atol=1e-2)
    scored = NS1Cochleagram(mean=published.mean(), std=published.std())(x)[0, 0, :, 1:]
    assert close(scored, spectrogram.cochleagram(x[0, 0].numpy(), 48_828)[0])


@pytest.mark.parametrize("compression", ["log", "log1plus", "power", "hill", "multithreshold"])
def test_rahman2020_is_its_formula(compression):
    x, n_types = noise(4000, 1), 3 if compression == "multithreshold" else 1
    front = Rahman2020Cochleagram(12 * n_types, RATE, low_hz=300.0, high_hz=3500.0, compression=compression)
    frames = frames_of(x[0, 0].numpy(), np.arange(40, 4001, 40), 80) * np.hamming(80)
    amplitude = np.abs(np.fft.rfft(frames, 320)).T
    centres = spectrogram.log_centres(300.0, 3500.0, 12)
    weights = spectrogram.triangular_filterbank(np.fft.rfftfreq(320, 1 / RATE), centres)
    weights = weights / weights.sum(1, keepdims=True)

    def hill(level, c, s):
        return (c * level) ** 1.77 / (s + (c * level) ** 1.77)

    power = 10 * np.log10(weights @ amplitude**2)
    expected = {
        "log": np.maximum(20 * np.log10(weights @ amplitude), -70),
        "log1plus": np.log10(weights @ amplitude + 1),
        "power": np.maximum(power, -70),
        "hill": hill(np.maximum(power, -70) + 70, 1e-2, 0.16),
        "multithreshold": np.concatenate(
            [hill(np.maximum(power, f) - f, 1e-4, s) for f, s in ((-15, 6e-5), (-30, 3e-5), (-40, 1e-5))]
        ),
    }[compression]
    assert close(front(x)[0, 0], expected)


def test_logmel_is_its_formula():
    x = noise(4000, 1)
    front = LogMel(10, RATE, window_ms=16.0, low_hz=200.0, high_hz=3800.0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 129) / 129)
    spectrum = np.abs(np.fft.rfft(frames_of(x[0, 0].numpy(), np.arange(40, 4001, 40), 128) * window, 256)) ** 2
    mel = np.linspace(*(2595 * np.log10(1 + np.array([200, 3800]) / 700)), 12)
    edges, bins = 700 * (10 ** (mel / 2595) - 1), np.fft.rfftfreq(256, 1 / RATE)
    weights = np.stack([np.interp(bins, edges[b : b + 3], [0, 1, 0]) for b in range(10)])
    level = 10 * np.log10(spectrum @ weights.T * 4 / (256 * np.sum(window**2)))
    assert close(front(x)[0, 0], level.T)


def test_gammatone_filters_are_scipys():
    from scipy import signal

    front = Gammatone(6, RATE, low_hz=200.0, high_hz=3000.0)
    real, imaginary = front.responses.double().numpy().reshape(2, 6, -1)
    for band, centre in enumerate(front.frequencies.numpy()):
        taps, _ = signal.gammatone(float(centre), "fir", numtaps=real.shape[1], fs=RATE)
        assert np.allclose(real[band], taps, atol=1e-6 * np.abs(taps).max())
    x = noise(2000, 1)[0, 0].double().numpy()
    envelope = np.abs(np.stack([signal.lfilter(h, 1, x) for h in real + 1j * imaginary]))
    power = (envelope**2).reshape(6, 50, 40).mean(-1)
    assert close(front(torch.from_numpy(x)[None, None])[0, 0], np.maximum(10 * np.log10(power), -80), atol=1e-3)
    root = Gammatone(6, RATE, low_hz=200.0, high_hz=3000.0, exponent=0.3, floor_db=-200.0)
    assert close(root(torch.from_numpy(x)[None, None])[0, 0], power**0.15)


def test_gammatone_bands_are_one_erb_number_apart_and_loud_at_their_centre():
    front = Gammatone(10, RATE)
    numbers = 21.4 * np.log10(1 + 0.00437 * front.frequencies.numpy())
    assert np.ptp(np.diff(numbers)) < 1e-4
    f = front.frequencies[-1].item()
    assert f + 24.7 * (1 + 0.00437 * f) / 2 == pytest.approx(RATE / 2, rel=1e-5)
    t = torch.arange(8000) / RATE
    for band in (0, 4, 8):
        level = front(torch.sin(2 * math.pi * front.frequencies[band] * t)[None, None])[0, 0, :, -1]
        assert level.argmax() == band
        assert level[band].item() == pytest.approx(0, abs=1e-3)


def test_sincnet_filters_are_scipys():
    from scipy import signal

    front = SincNet(6, RATE, min_low_hz=100.0).double()
    with torch.no_grad():
        front.low[0] = -0.01  # a sign that a step of the optimiser may take
    low, high = (edge.detach().numpy() for edge in front.edges)
    responses = front.responses().detach().numpy()
    for band in range(6):
        cut = [2 * low[band], min(2 * high[band], 1 - 1e-12)]
        taps = signal.firwin(responses.shape[1], cut, window="hamming", pass_zero=False, scale=False)
        assert np.allclose(responses[band], taps, atol=1e-7)
    x = noise(2000, 1)[0, 0].double().numpy()
    y = np.abs(np.stack([signal.lfilter(h, 1, x) for h in responses])).reshape(6, 50, 40).max(-1)
    assert close(front(torch.from_numpy(x)[None, None])[0, 0], 20 * np.log10(y), atol=1e-6)


def test_leaf_is_its_formula():
    front = LEAF(5, RATE, window_ms=10.0, smoothing_ms=30.0).double()
    x = noise(2000, 1)[0, 0].double().numpy()
    n = np.arange(81) - 40
    centre, sd = front.centre.detach().numpy()[:, None], front.sd.detach().numpy()[:, None]
    sd = np.clip(sd, *(np.array([4, 81]) * math.sqrt(2 * math.log(2)) / math.pi))
    gabor = np.exp(1j * centre * n - n**2 / (2 * sd**2)) / (math.sqrt(2 * math.pi) * sd)
    gauss = np.exp(-0.5 * (n / (0.4 * 40)) ** 2)
    energy = np.stack([np.convolve(np.abs(np.convolve(x, h)) ** 2, gauss / gauss.sum()) for h in gabor])
    energy = np.maximum(energy[:, 39:2000:40], 1e-5)
    mean, s, expected = energy[:, 0], 1 - math.exp(-5 / 30), []
    for e in energy.T:
        mean = (1 - s) * mean + s * e
        expected.append((e / mean**0.96 + 2) ** 0.5 - 2**0.5)
    assert close(front(torch.from_numpy(x)[None, None])[0, 0], np.stack(expected, 1), atol=1e-6)


def test_leaf_starts_as_a_mel_filterbank():
    front = LEAF(20, RATE)
    gain = torch.fft.rfft(front.responses().chunk(2)[0], RATE).abs()  # a bin a Hz
    assert (gain.argmax(1) - front.frequencies)[:-1].abs().max() < 1
    edges = front.frequencies
    overlap = gain[10, edges[9:12].round().long()] / gain[10].max()
    assert overlap[1] > 0.99
    assert (overlap[[0, 2]] < 0.5).all()


@pytest.mark.parametrize(("n_samples", "n_taps"), [(10, 10), (300, 5), (5000, 700), (9000, 1)])
def test_fft_filter_is_a_convolution(n_samples, n_taps):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, n_samples, generator=generator, dtype=torch.float64)
    h = torch.randn(3, n_taps, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.conv1d(x, h.flip(-1)[:, None], groups=3)
    assert torch.allclose(fft_filter(x, h)[..., : n_samples - n_taps + 1], expected, atol=1e-9)
    shared = torch.nn.functional.conv1d(x[:, :1], h.flip(-1)[:, None])
    assert torch.allclose(fft_filter(x[:, :1], h)[..., : n_samples - n_taps + 1], shared, atol=1e-9)


# ---- what holds for all


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("rate", [8000, 8820])
def test_stream_is_the_whole(name, rate):
    front, x = frontend(name, rate), noise(3000)
    whole = front(x).detach()
    for sizes in ([1] * 90 + [2910], [7] * 400 + [200], [250] * 12, [1999, 1001]):
        state, y = None, []
        for samples in x.split(sizes, -1):
            out, state = front.stream(samples, state)
            assert out.shape[:3] == (2, 1, 8)
            y.append(out.detach())
        y = torch.cat(y, -1)
        assert y.shape == whole.shape
        assert (y - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("rate", [8000, 8820])
def test_a_frame_hears_up_to_its_end_and_no_further(name, rate):
    front = frontend(name, rate).double()
    x = noise(3000, 1).double()
    samples_per_frame = round(rate * 0.005) if name in ("ns1", "rahman2020") else rate * 0.005
    y = front(x)
    assert y.shape[-1] == int(3000 / samples_per_frame)
    for t in (30, 37, 50):
        # a gammatone is silent at lag 0 and a maximum need not be the newest sample: eight samples
        end = math.floor((t + 1) * samples_per_frame + 1e-6)
        later = x.clone()
        later[..., end:] += 1
        assert torch.allclose(front(later)[..., : t + 1], y[..., : t + 1], atol=1e-9)
        later[..., end - 8 : end] += 10
        assert (front(later)[..., t] - y[..., t]).abs().max() > 1e-9


def test_frames_keep_time_with_the_response():
    """5 ms at 48,828 Hz are 244.14 samples: rounded, the frames run ahead by 2.9 ms in 5 s."""
    front = LogMel()
    assert front.samples_per_frame == pytest.approx(244.14)
    x = torch.zeros(1, 1, 5 * 48_828)
    x[..., round(4.9475 * 48_828)] = 1  # in the middle of the 990th frame
    y = front(x)[0, 0].amax(0)
    assert len(y) == 1000
    assert (y > -80).nonzero()[0].item() == 989
    assert LogMel(sample_rate=48_828.125).samples_per_frame.as_integer_ratio() == (15_625, 64)


def test_a_stream_keeps_time_for_days():
    front = LogMel(8, 8820)
    x, n_heard = noise(1000, 1), 8820 * 86_400 * 30
    past = torch.zeros(1, front.span)
    y, (_, n, _) = front.stream(x, (past, torch.tensor(n_heard), None))
    assert torch.equal(y, front(x))  # 30 days are a whole number of frames
    assert n.item() == n_heard + 1000


@pytest.mark.parametrize("name", FRONTENDS)
def test_clips_do_not_mix_and_precision_is_kept(name):
    front, x = frontend(name), noise(2000)
    y = front(x)
    assert torch.allclose(front(x[1:]), y[1:], atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front(x), y)
    precise = front.double()(x.double())
    assert precise.dtype == torch.float64
    assert torch.allclose(precise.float(), y, atol=2e-3)


@pytest.mark.parametrize("name", FRONTENDS)
def test_silence_is_finite_and_so_is_its_gradient(name):
    front = frontend(name)
    x = torch.zeros(1, 1, 2000, requires_grad=True)
    y = front(x)
    assert y.isfinite().all()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in front.parameters())


@pytest.mark.parametrize("name", ["sincnet", "leaf"])
def test_learnable_ones_learn_every_parameter(name):
    front = frontend(name)
    front(noise(2000)).square().sum().backward()
    for parameter, value in front.named_parameters():
        assert value.grad.abs().sum() > 0, parameter
    assert len(front.frequencies) == 8


@pytest.mark.parametrize("name", FRONTENDS)
def test_exports_for_any_length(name):
    front = frontend(name)
    samples = torch.export.Dim("samples", min=400, max=10**7)
    program = torch.export.export(front, (noise(2000),), dynamic_shapes={"x": {2: samples}}).module()
    for n_samples in (400, 1234, 4000):
        x = noise(n_samples)
        assert torch.allclose(program(x), front(x), atol=1e-4)


@pytest.mark.parametrize("name", FRONTENDS)
def test_compiles_whole(name):
    front, x = frontend(name), noise(2000)
    assert torch.allclose(torch.compile(front, fullgraph=True, backend="eager")(x), front(x), atol=1e-4)


@pytest.mark.parametrize("name", FRONTENDS)
def test_inside_a_model(name, tmp_path):
    front = frontend(name)
    model = models.Linear(8, 5, out_neurons=2, wav2spec=front).eval()
    x = noise(2000)
    y = model(x)
    assert y.shape == (2, 2, 1, 50)
    state, pieces = None, []
    for samples in x.split(33, -1):
        rates, state = model.stream(samples, state)
        pieces.append(rates)
    assert (torch.cat(pieces, -1) - y).abs().max() < 1e-5 * y.abs().max()
    model.save_pretrained(tmp_path)
    assert torch.equal(models.from_pretrained(tmp_path)(x), y)
    assert model.STRF_gradmap().shape == (2, 1, 8, 5)
    again = from_config(front.config)
    again.load_state_dict(front.state_dict())
    assert torch.equal(again(x), front(x))


# ---- arguments


def test_ways_to_ask_for_one():
    assert isinstance(make_frontend("wav2spec", "leaf", 20), LEAF)
    assert make_frontend("wav2spec", "ns1", 34).n_bands == 34
    assert make_frontend("wav2spec", {"type": "LogMel", "dt_ms": 2.0}, 20).dt_ms == 2.0
    front = LogMel(12)
    assert make_frontend("wav2spec", front, 12) is front
    for spec in ("mel", 3, {"type": "logmel", "hop": 3}, {}, LogMel(11), {"type": "logmel", "n_bands": 11}):
        with pytest.raises(ValueError, match="wav2spec="):
            make_frontend("wav2spec", spec, 12)


@pytest.mark.parametrize(
    ("make", "arguments", "names"),
    [
        (LogMel, {"n_bands": 0}, "n_bands=0"),
        (LogMel, {"n_bands": 2000}, "n_bands=2000"),
        (LogMel, {"sample_rate": -1}, "sample_rate=-1"),
        (LogMel, {"dt_ms": 0.01}, "dt_ms=0.01"),
        (LogMel, {"window_ms": 1.0}, "window_ms=1.0"),
        (LogMel, {"low_hz": 30_000}, "low_hz=30000"),
        (LogMel, {"high_hz": 30_000}, "high_hz=30000"),
        (LogMel, {"floor_db": math.nan}, "floor_db=nan"),
        (LogMel, {"floor_db": -1e6}, "floor_db=-1000000.0"),
        (LogMel, {"window_ms": 1e9}, "window_ms=1000000000.0"),
        (Gammatone, {"low_hz": 24_000}, "low_hz=24000"),
        (Gammatone, {"low_hz": 0}, "low_hz=0"),
        (Gammatone, {"sample_rate": 20, "dt_ms": 100}, "high_hz="),
        (Gammatone, {"exponent": 0}, "exponent=0"),
        (NS1Cochleagram, {"std": 0}, "std=0"),
        (NS1Cochleagram, {"sample_rate": 32_000}, "high_hz=22627"),
        (NS1Cochleagram, {"n_bands": 1}, "n_bands=1"),
        (NS1Cochleagram, {"n_bands": 400}, "n_bands=400"),
        (Rahman2020Cochleagram, {"compression": "cube"}, "compression='cube'"),
        (Rahman2020Cochleagram, {"compression": "multithreshold"}, "n_bands=34"),
        (Rahman2020Cochleagram, {"compression": "hill", "floors_db": [0, 1]}, "saturations"),
        (Rahman2020Cochleagram, {"compression": "log", "floors_db": [0, 1]}, "floors_db"),
        (Rahman2020Cochleagram, {"compression": "log1plus", "gain": 1.0}, "gain=1.0"),
        (Rahman2020Cochleagram, {"floors_db": -70.0}, "floors_db=-70.0"),
        (Rahman2020Cochleagram, {"floors_db": [-1e4]}, "floors_db=-10000.0"),
        (SincNet, {"kernel_ms": 0}, "kernel_ms=0"),
        (SincNet, {"min_low_hz": 200.0}, "min_low_hz=200.0"),
        (LEAF, {"root": 0.5}, "root=0.5"),
        (LEAF, {"alpha": 2}, "alpha=2"),
        (LEAF, {"floor": 0}, "floor=0"),
    ],
)
def test_wrong_arguments(make, arguments, names):
    with pytest.raises(ValueError, match=names):
        make(**arguments)
