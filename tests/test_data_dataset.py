"""NeuralDataset: what it accepts, what it refuses, what it computes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from strflab.data import NeuralDataset

F, N, R = 3, 4, 5
LENGTHS = (40, 25, 31)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    stimuli = [rng.normal(size=(F, t)).astype(np.float32) for t in LENGTHS]
    signal = [rng.normal(size=(N, 1, t)) for t in LENGTHS]
    responses = [(s + rng.normal(size=(N, R, s.shape[-1]))).astype(np.float32) for s in signal]
    return stimuli, responses


def make(**changes):
    stimuli, responses = arrays()
    options = {"stimuli": stimuli, "responses": responses, "dt_ms": 5, "frequencies": [500, 1000, 2000]} | changes
    return NeuralDataset(**options)


def test_says_its_sizes():
    ds = make()
    assert (ds.n_neurons, ds.n_clips, ds.n_bands, ds.n_frames, len(ds)) == (N, 3, F, list(LENGTHS), 3)
    assert ds.frequencies.dtype == np.float64
    assert ds.stimuli[0].dtype == ds.responses[0].dtype == torch.float32
    assert ds.neurons[2] == {"id": 2}
    assert all(word in repr(ds) for word in ("neurons     4", "clips       3", "500 to 2000 Hz", "frames of 5 ms"))


def with_value(list_of_arrays, clip, value):
    changed = copy.deepcopy(list_of_arrays)
    changed[clip].flat[1] = value
    return changed


STIMULI, RESPONSES = arrays()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stimuli": with_value(STIMULI, 1, np.nan)}, r"stimuli\[1\].*NaN"),
        ({"stimuli": with_value(STIMULI, 2, np.inf)}, r"stimuli\[2\].*infinity"),
        ({"stimuli": STIMULI[:2]}, "2 stimuli, 3 responses"),
        ({"stimuli": [s[0] for s in STIMULI]}, r"stimuli\[0\] must have shape \(F, T\)"),
        ({"stimuli": [STIMULI[0], STIMULI[1][:2], STIMULI[2]]}, r"stimuli\[1\] has 2 bands"),
        ({"stimuli": ["a", "b", "c"]}, r"stimuli\[0\]"),
        ({"stimuli": [s[:, :0] for s in STIMULI], "responses": [r[..., :0] for r in RESPONSES]}, "no frames"),
        ({"responses": with_value(RESPONSES, 0, np.inf)}, r"responses\[0\].*infinite"),
        ({"responses": [r[:, 0] for r in RESPONSES]}, r"responses\[0\] must have shape \(N, R, T\)"),
        ({"responses": [RESPONSES[0], RESPONSES[1][:2], RESPONSES[2]]}, r"responses\[1\] has 2 neurons"),
        ({"responses": [RESPONSES[0], RESPONSES[1][..., :9], RESPONSES[2]]}, "clip 1: stimuli has 25 .* has 9"),
        ({"dt_ms": 0}, "dt_ms=0"),
        ({"dt_ms": float("nan")}, "dt_ms=nan"),
        ({"dt_ms": "5"}, "dt_ms='5'"),
        ({"frequencies": [500, 1000]}, "frequencies: 2 values, but .* 3 bands"),
        ({"frequencies": [500, 1000, np.nan]}, "frequencies"),
        ({"frequencies": [[500, 1000, 2000]]}, "frequencies"),
        ({"neurons": [{"id": 0}]}, "neurons"),
        ({"neurons": ["a", "b", "c", "d"]}, "neurons must be a list of dicts"),
        ({"clips": [{"id": 0}]}, "clips: 1 records for 3 clips"),
        ({"waveforms": [np.zeros(10)] * 3}, "waveforms and sample_rate"),
        ({"waveforms": [np.zeros(10)] * 2, "sample_rate": 100.0}, "waveforms: 2 sounds for 3 clips"),
        ({"waveforms": [np.full(10, np.nan)] * 3, "sample_rate": 100.0}, r"waveforms\[0\].*NaN"),
    ],
)
def test_refuses_what_disagrees_and_names_it(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_psth_and_counts_skip_what_is_missing():
    _, responses = arrays()
    responses[0][1, 2:, :] = np.nan  # a neuron with two repeats
    responses[0][2, :, 7] = np.nan  # a frame that no repeat has
    responses[1][3] = np.nan  # a neuron that never heard clip 1
    ds = make(responses=responses)
    assert ds.repeat_counts[0][1].eq(2).all()
    np.testing.assert_allclose(ds.psth[0][1], responses[0][1, :2].mean(0), rtol=1e-5)
    assert ds.psth[0][2].isnan().nonzero().tolist() == [[7]]
    assert ds.psth[1][3].isnan().all()
    assert ds.psth is ds.psth  # computed once


def test_signal_and_noise_power_are_those_of_the_formula():
    y = np.concatenate(make().responses, -1).astype(float)  # (N, R, all frames)
    total = y.var(-1).mean(1)
    signal = (R * y.mean(1).var(-1) - total) / (R - 1)
    ds = make()
    np.testing.assert_allclose(ds.signal_power, signal, rtol=1e-5)
    np.testing.assert_allclose(ds.noise_power, total - signal, rtol=1e-5)
    np.testing.assert_allclose(ds.ccmax, np.sqrt(signal / y.mean(1).var(-1)), rtol=1e-5)
    assert ds.signal_power.dtype == np.float64


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (2, [2]),
        (-1, [3]),
        ([3, 0], [3, 0]),
        (np.array([1, 1]), [1, 1]),
        ([True, False, False, True], [0, 3]),
        (torch.tensor([False, True, False, False]), [1]),
        (slice(1, 3), [1, 2]),
        (lambda record: record["id"] % 2 == 0, [0, 2]),
        (None, [0, 1, 2, 3]),
    ],
)
def test_select_neurons(selection, rows):
    ds = make()
    chosen = ds.select(neurons=selection)
    assert [n["id"] for n in chosen.neurons] == rows
    assert chosen.n_clips == 3
    assert torch.equal(chosen.responses[1], ds.responses[1][rows])


def test_select_clips_keeps_waveforms_and_order():
    ds = make(waveforms=[np.full(10, k) for k in range(3)], sample_rate=100.0)
    chosen = ds.select(clips=[2, 0])
    assert chosen.n_frames == [31, 40]
    assert [w[0].item() for w in chosen.waveforms] == [2, 0]
    assert chosen.sample_rate == 100.0


@pytest.mark.parametrize("nothing", [[], slice(0, 0), lambda record: False, np.zeros(0, int)])
def test_a_selection_that_matches_nothing_is_empty(nothing):
    none = make().select(neurons=nothing)
    assert (none.n_neurons, none.n_clips, none.responses[0].shape) == (0, 3, (0, R, 40))
    assert none.signal_power.shape == none.psth[0][:, 0].shape == (0,)
    empty = make().select(clips=nothing)
    assert (empty.n_neurons, empty.n_clips, empty.n_bands) == (N, 0, F)
    assert empty.batch().stimuli.shape == (0, 1, F, 0)
    assert np.isnan(empty.ccmax).all()
    assert "neurons     4" in repr(empty)


def test_a_mask_that_matches_nothing_is_empty():
    assert make().select(neurons=[False] * 4).n_neurons == 0


@pytest.mark.parametrize(
    ("selection", "error", "message"),
    [
        (4, IndexError, "index 4 is out of range for 4 neurons"),
        ([0, -5], IndexError, "index -5"),
        ([True, False], ValueError, "mask has 2 entries for 4 neurons"),
        ([0.5], ValueError, "neurons="),
        ("0", ValueError, "neurons="),
        ([[0, 1]], ValueError, "neurons="),
    ],
)
def test_a_wrong_selection_raises(selection, error, message):
    with pytest.raises(error, match=message):
        make().select(neurons=selection)


def test_batch_pads_sound_with_zeros_and_responses_with_nan():
    _, responses = arrays()
    responses[1] = responses[1][:, :2]  # fewer repeats of one clip
    ds = make(responses=responses)
    batch = ds.batch()
    assert batch.stimuli.shape == (3, 1, F, 40)
    assert batch.responses.shape == (3, N, R, 40)
    assert batch.lengths.tolist() == list(LENGTHS)
    assert torch.equal(batch.stimuli[1, 0, :, :25], ds.stimuli[1])
    assert batch.stimuli[1, 0, :, 25:].eq(0).all()
    assert torch.equal(batch.responses[1, :, :2, :25], ds.responses[1])
    assert batch.responses[1, :, 2:].isnan().all()
    assert batch.responses[1, ..., 25:].isnan().all()


def test_fingerprint_is_of_the_content_only():
    ds = make()
    assert ds.fingerprint() == make(name="other", neurons=[{"unit": i} for i in range(N)]).fingerprint()
    assert ds.fingerprint() == make(stimuli=[torch.tensor(s).double() for s in STIMULI]).fingerprint()
    others = [
        make(dt_ms=4),
        make(frequencies=[500, 1000, 2001]),
        make(stimuli=with_value(STIMULI, 0, 9.0)),
        make(responses=with_value(RESPONSES, 2, 9.0)),
        make(responses=with_value(RESPONSES, 2, np.nan)),
        ds.select(neurons=[1, 0, 2, 3]),
        ds.select(clips=[0, 1]),
    ]
    assert len({ds.fingerprint(), *(o.fingerprint() for o in others)}) == 8


def test_fingerprint_is_stable_over_versions():
    ds = NeuralDataset([np.arange(6.0).reshape(2, 3)], [np.ones((1, 2, 3))], 5, [500, 1000])
    assert ds.fingerprint() == "ccdba8e42f0fad1c4bfad74bee1e5045d664ae677c7e78418d2bcc1b6160233d"


def test_read_only_arrays_are_copied_others_are_not():
    stimuli, responses = arrays()
    frozen = [s.copy() for s in stimuli]
    for s in frozen:
        s.flags.writeable = False
    assert torch.equal(make(stimuli=frozen).stimuli[0], torch.tensor(stimuli[0]))
    assert make(responses=responses).responses[0].data_ptr() == responses[0].ctypes.data


def test_other_stimuli_keep_the_responses_and_what_is_known_of_them():
    ds = NeuralDataset(
        [np.ones((2, 9))],
        [np.ones((4, 5, 9))],
        5,
        [500, 1000],
        name="a",
        licence="b",
        waveforms=[np.ones(90)],
        sample_rate=2000,
    )
    shown = ds.with_stimuli([np.zeros((3, 9))], [100, 200, 300])
    assert (shown.n_bands, shown.name, shown.licence, shown.waveforms) == (3, "a", "b", None)
    assert torch.equal(shown.responses[0], ds.responses[0])
    with pytest.raises(ValueError, match="1 responses"):
        ds.with_stimuli([np.zeros((2, 9))] * 2)
    with pytest.raises(ValueError, match="frames"):
        ds.with_stimuli([np.zeros((2, 8))])
