"""Simulated populations: the responses come from the truth that is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from strflab.data.simulate import MODELS, leak, simulate
from strflab.data.sounds import KINDS, make_sounds

SMALL = {"n_neurons": 3, "n_clips": 2, "seconds": 2.0, "n_bands": 16}


def brute_force_rate(truth, n, stimulus):
    """Rate of neuron n from the equations of the docstring, in plain loops over lag and time."""
    s = np.pad(stimulus.double().numpy(), ((0, 0), (truth.strfs.shape[-1] - 1, 0)))

    def filtered(field):
        field = field.double().numpy()
        width = field.shape[1]
        return np.array([np.sum(field * s[:, t : t + width]) for t in range(s.shape[1] - width + 1)])

    if truth.hidden_strfs is None:
        drive = filtered(truth.strfs[n])
    else:
        drive = 0
        for j in range(truth.hidden_strfs.shape[1]):
            z = filtered(truth.hidden_strfs[n, j]) + truth.hidden_intercepts[n, j].item()
            if truth.taus_ms is None:
                u = np.tanh(z)
            else:
                u, alpha = 1 / (1 + np.exp(-z)), truth.dt_ms / truth.taus_ms[n, j].item()
                for t in range(1, len(u)):
                    u[t] = (1 - alpha) * u[t - 1] + alpha * u[t]
            drive = drive + truth.hidden_weights[n, j].item() * u
    x = drive + truth.intercepts[n].item()
    output = {
        "identity": lambda x: x,
        "softplus": lambda x: np.log1p(np.exp(x)),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    }
    return truth.gains[n].item() * output[truth.nonlinearity](x)


@pytest.mark.parametrize(
    ("model", "nonlinearity"),
    [("linear", None), ("ln", None), ("ln", "sigmoid"), ("nrf", None), ("dnet", None), ("dnet", "softplus")],
)
def test_rates_follow_from_the_truth(model, nonlinearity):
    ds = simulate(**SMALL, model=model, nonlinearity=nonlinearity)
    for n in range(3):
        expected = brute_force_rate(ds.truth, n, ds.stimuli[1])
        np.testing.assert_allclose(ds.truth.rates[1][n], expected, rtol=1e-3, atol=1e-5)
    rates = torch.cat(ds.truth.rates, 1)
    assert rates.min() >= 0
    assert (ds.truth.taus_ms is None) == (model != "dnet")
    assert ds.truth.strfs.shape == (3, 16, 20)


@pytest.mark.parametrize("model", MODELS)
def test_strfs_are_the_mean_gradient_of_the_drive(model):
    """Summed over lags, where a leak (DC gain 1) does not show."""
    ds = simulate(**SMALL | {"seconds": 5.0}, model=model)
    sounds = [s.clone().requires_grad_() for s in ds.stimuli]
    sum(ds.truth.drive(s)[0].sum() for s in sounds).backward()
    gradient = sum(s.grad.sum(1) for s in sounds) / sum(ds.n_frames)
    expected = ds.truth.strfs[0].sum(1)
    assert (gradient - expected).norm() < 0.03 * ds.truth.strfs[0].norm(dim=0).sum()


def test_responses_are_poisson_counts_of_the_rates():
    ds = simulate(**SMALL, n_repeats=200)
    rate, counts = ds.truth.rates[0].double(), ds.responses[0].double()
    z = (counts.mean(1) - rate) / (rate / 200).sqrt()
    assert z.mean().abs() < 0.15
    assert 0.85 < z.var() < 1.15
    assert (counts == counts.round()).all()
    assert 0.9 < (counts.var(1).mean() / rate.mean()) < 1.1  # variance equals mean


def test_mean_rates_lie_in_the_range_asked_for():
    ds = simulate(**SMALL, model="ln", rate_hz=(30, 31))
    mean_hz = torch.cat(ds.truth.rates, 1).mean(1) / 0.005
    assert ((mean_hz > 29.9) & (mean_hz < 31.1)).all()


def test_linear_rates_are_never_clipped():
    for model in ("linear", "dnet"):
        ds = simulate(**SMALL, model=model)
        drive = torch.cat([ds.truth.drive(s) for s in ds.stimuli], 1) + ds.truth.intercepts[:, None]
        assert drive.min() > 0
        assert torch.allclose(drive, torch.cat(ds.truth.rates, 1))


def test_fields_are_recovered_from_the_rates():
    """Linear regression on the true rates finds the fields of a linear population."""
    ds = simulate(n_neurons=4, n_clips=6, seconds=5.0, n_bands=12, model="linear", stimulus="noise")
    width = ds.truth.strfs.shape[-1]
    designs = [
        torch.nn.functional.pad(s, (width - 1, 0)).unfold(1, width, 1).permute(1, 0, 2).flatten(1) for s in ds.stimuli
    ]
    design, rates = torch.cat(designs).double(), torch.cat(ds.truth.rates, 1).T.double()
    design = torch.cat([design, torch.ones(len(design), 1)], 1)
    gram = design.T @ design
    found = torch.linalg.solve(gram + 1e-3 * torch.eye(len(gram)), design.T @ rates)[:-1].T
    for estimate, truth in zip(found, ds.truth.strfs.flatten(1).double()):
        assert torch.corrcoef(torch.stack([estimate, truth]))[0, 1] > 0.99


def test_select_keeps_the_truth_consistent():
    for model in MODELS:
        ds = simulate(**SMALL, model=model)
        part = ds.select(neurons=[2, 0], clips=[1])
        assert torch.allclose(part.truth.rate(part.stimuli[0]), part.truth.rates[0], atol=1e-6)
        assert torch.equal(part.truth.rates[0], ds.truth.rates[1][[2, 0]])
        assert torch.equal(part.truth.strfs, ds.truth.strfs[[2, 0]])
    assert ds.select(neurons=[]).truth.strfs.shape == (0, 16, 20)


def test_uneven_sets_lack_repeats_and_ends_of_repeats():
    ds = simulate(**SMALL | {"n_neurons": 30, "n_clips": 6}, uneven=True)
    counts = torch.stack(ds.repeat_counts)  # (clips, N, T)
    assert counts[..., 0].max() > counts[..., 0].min() >= 2
    assert (counts[..., 0] != counts[..., -1]).any()  # some stop early
    assert counts.min() >= 1
    assert not torch.cat(ds.psth, 1).isnan().any()


def test_level_differences_are_between_clips():
    flat, uneven = (simulate(**SMALL | {"n_clips": 8}, level_sd=sd) for sd in (0.0, 2.0))
    assert max(abs(s.mean()) for s in flat.stimuli) < 1e-5
    assert np.std([s.mean() for s in uneven.stimuli]) > 0.7
    assert [c["level"] for c in uneven.clips] == pytest.approx([float(s.mean()) for s in uneven.stimuli], abs=1e-5)


def test_the_same_neurons_can_hear_another_sound():
    song = simulate(**SMALL)
    chords = simulate(**SMALL, stimulus="chords", truth=song.truth, seed=1)
    assert torch.equal(chords.truth.strfs, song.truth.strfs)
    assert torch.allclose(chords.truth.rate(chords.stimuli[0]), chords.truth.rates[0])
    assert not torch.equal(chords.stimuli[0], song.stimuli[0])
    with pytest.raises(ValueError, match="truth has 16 bands"):
        simulate(truth=song.truth)


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert simulate(**SMALL).fingerprint() == simulate(**SMALL).fingerprint()
    assert simulate(**SMALL).fingerprint() != simulate(**SMALL, seed=1).fingerprint()
    assert torch.equal(torch.get_rng_state(), before)


def test_clips_may_differ_in_length():
    ds = simulate(**SMALL | {"seconds": (0.5, 2.0), "n_clips": 10})
    assert 100 <= min(ds.n_frames) < max(ds.n_frames) <= 400


@pytest.mark.parametrize("kind", KINDS)
def test_sounds_are_standardised_and_have_the_modulations_they_should(kind):
    frequencies = np.geomspace(500, 8000, 24)
    clips = make_sounds(kind, [2000, 1500], frequencies, 5.0, np.random.default_rng(0))
    assert [c.shape for c in clips] == [(24, 2000), (24, 1500)]
    assert all(abs(c.mean()) < 1e-9 and abs(c.std() - 1) < 1e-9 for c in clips)
    power = (np.abs(np.fft.rfft(clips[0] - clips[0].mean(1, keepdims=True), axis=1)) ** 2).mean(0)
    w = np.fft.rfftfreq(2000, 0.005)

    def octave(low):
        return power[(w >= low) & (w < 2 * low)].mean()

    if kind == "natural":  # 1/f: power falls with modulation frequency
        assert octave(1) > 2 * octave(4) > 8 * octave(16)
        assert ((clips[0] - clips[0].mean()) ** 3).mean() > 0.5  # loud events are rare
    if kind == "noise":  # flat, and nothing above 40 Hz
        assert 0.8 < octave(2) / octave(16) < 1.25
        assert power[w > 41].max() < 1e-9 * power.max()
    if kind == "chords":  # constant for 25 ms
        assert (clips[0][:, 0:5] == clips[0][:, :1]).all()
        assert np.corrcoef(clips[0][:, 0::5].ravel()[:-1], clips[0][:, 0::5].ravel()[1:])[0, 1] < 0.05


def test_leak_is_the_recursion_and_has_dc_gain_one():
    alpha = torch.tensor([1.0, 0.2, 0.01])
    assert torch.allclose(leak(torch.ones(3, 50), alpha), torch.ones(3, 50))
    pulse = torch.zeros(3, 200)
    pulse[:, 1] = 1.0
    t = torch.arange(199)
    assert torch.allclose(leak(pulse, alpha)[:, 1:], alpha[:, None] * (1 - alpha[:, None]) ** t, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "cnn"}, "model='cnn'"),
        ({"stimulus": "music"}, "stimulus='music'"),
        ({"n_neurons": 0}, "n_neurons=0"),
        ({"n_clips": 2.5}, "n_clips=2.5"),
        ({"n_repeats": 0}, "n_repeats=0"),
        ({"n_repeats": 1, "uneven": True}, "n_repeats=1"),
        ({"seconds": 0.1}, "seconds=0.1"),
        ({"seconds": (2.0, 1.0)}, "seconds"),
        ({"dt_ms": 0}, "dt_ms=0"),
        ({"dt_ms": 80}, "dt_ms=80"),
        ({"frequencies": [1000, 500]}, "frequencies"),
        ({"rate_hz": (20, 10)}, "rate_hz"),
        ({"rate_hz": (0, 10)}, "rate_hz=0"),
        ({"level_sd": -1}, "level_sd=-1"),
        ({"model": "linear", "nonlinearity": "softplus"}, "nonlinearity='softplus'"),
        ({"nonlinearity": "relu"}, "nonlinearity='relu'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        simulate(**SMALL | options)
