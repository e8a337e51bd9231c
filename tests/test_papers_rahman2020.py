"""Chapter 3's second analysis, on noise, and its cochleagrams against the front-end and the published one."""

import numpy as np
import pytest
import torch

from strflab import data
from strflab.data.spectrogram import cochleagram
from strflab.layers import NS1Cochleagram
from strflab.papers import rahman2020

N, N_FRAMES, RATE, BANDS = 2, 90, 48_828.0, 12


@pytest.fixture(scope="module")
def ds():
    """Twenty clips of noise whose level wanders, and neurons that count with the level."""
    rng = np.random.default_rng(0)
    hop = round(RATE * 0.005)
    stimuli, responses, waveforms = [], [], []
    for _ in range(20):
        level = np.exp(np.convolve(rng.normal(size=N_FRAMES + 1), np.ones(6) / 3, "same"))
        waveforms.append((0.05 * np.repeat(level, hop) * rng.normal(size=len(level) * hop)).astype(np.float32))
        stimuli.append(cochleagram(waveforms[-1], RATE, n_bands=BANDS)[0])
        responses.append(rng.poisson(level[:N_FRAMES], size=(N, 5, N_FRAMES)))
    _, frequencies = cochleagram(waveforms[0], RATE, n_bands=BANDS)
    return data.NeuralDataset(stimuli, responses, 5.0, frequencies, waveforms=waveforms, sample_rate=RATE)


def test_every_array_that_the_chapter_shows(ds):
    result = rahman2020.analyse(ds, kinds=("log", "multithreshold"), nrf_kinds=("log",), nrf_epochs=1)
    assert {name: array.shape for name, array in result.items()} == {
        "cochleagram_ln": (3, N),
        "cochleagram_nrf": (2, N),
        "cochleagram_kinds": (2,),
        "cochleagram_nrf_kinds": (1,),
        "cochleagram_bands": (2,),
        "example_published": (BANDS, N_FRAMES),
        "example_log": (BANDS, N_FRAMES),
        "example_multithreshold": (BANDS, N_FRAMES),
    }
    assert [rahman2020.KINDS[i] for i in result["cochleagram_kinds"]] == ["log", "multithreshold"]
    assert np.isfinite(result["cochleagram_ln"]).all()


@pytest.mark.parametrize("kind", rahman2020.KINDS)
def test_heard_replaces_the_sound_and_nothing_else(ds, kind):
    other = rahman2020.heard(ds, kind)
    assert other.n_frames == ds.n_frames
    assert other.n_bands == ds.n_bands
    assert all(torch.equal(a, b) for a, b in zip(other.responses, ds.responses, strict=True))
    every = torch.cat(other.stimuli, 1)
    assert abs(every.mean()) < 1e-4
    assert every.std() == pytest.approx(1, abs=1e-4)


def test_bands_that_three_types_of_fibre_cannot_share_are_left_out(ds):
    odd = data.NeuralDataset(
        [x[:11] for x in ds.stimuli],
        ds.responses,
        ds.dt_ms,
        ds.frequencies[:11],
        waveforms=ds.waveforms,
        sample_rate=ds.sample_rate,
    )
    assert rahman2020.heard(odd, "multithreshold").n_bands == 9
    assert rahman2020.heard(odd, "log").n_bands == 11


def test_windows_start_with_their_bins_as_the_published_ones(ds):
    """The frames lie where the published cochleagram's do: the causal front-end's, one frame earlier."""
    sound = ds.waveforms[0]
    causal = NS1Cochleagram(BANDS, RATE)(sound[None, None])[0, 0]
    published = cochleagram(sound.numpy(), RATE, n_bands=BANDS, standardise=False)[0]
    np.testing.assert_allclose(causal[:, 1:], published, atol=1e-2)
    heard = rahman2020.heard(ds, "log")
    r = [np.corrcoef(a.mean(0), b.mean(0))[0, 1] for a, b in zip(heard.stimuli, ds.stimuli, strict=True)]
    late = [np.corrcoef(a.mean(0)[1:], b.mean(0)[:-1])[0, 1] for a, b in zip(heard.stimuli, ds.stimuli, strict=True)]
    assert np.mean(r) > 0.95 > np.mean(late)


def test_a_sound_that_ends_with_its_last_bin_repeats_the_last_frame(ds):
    hop = round(RATE * 0.005)
    short = data.NeuralDataset(
        ds.stimuli,
        ds.responses,
        ds.dt_ms,
        ds.frequencies,
        waveforms=[w[: N_FRAMES * hop] for w in ds.waveforms],
        sample_rate=RATE,
    )
    last = rahman2020.heard(short, "log").stimuli[0]
    assert last.shape == (BANDS, N_FRAMES)
    assert torch.equal(last[:, -1], last[:, -2])


def test_refusals(ds):
    with pytest.raises(ValueError, match="kind"):
        rahman2020.heard(ds, "mel")
    with pytest.raises(ValueError, match="kinds"):
        rahman2020.analyse(ds, kinds=("mel",))
    with pytest.raises(ValueError, match="waveforms"):
        rahman2020.heard(data.load("simulated", n_neurons=1, n_clips=2, seconds=1.0), "log")
