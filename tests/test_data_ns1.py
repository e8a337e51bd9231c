"""NS1: the parser on files made here, and on the recording where it is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from strflab.data import ns1, parsed
from strflab.data.spectrogram import cochleagram


def cell(values):
    """Return a MATLAB cell array (1, n)."""
    out = np.empty((1, len(values)), object)
    out[0] = list(values)
    return out


def unit_file(path, spikes=None, n_sets=32, n_repeats=20, swap=False, drop=()):
    """Write a unit laid out as published; `spikes` maps (set, repeat) to times in ms."""
    sets = np.empty((1, n_sets), [("repeats", object), ("stim_params", object)])
    for k in range(n_sets):
        repeats = np.empty((1, n_repeats if k < 20 else 5), [("t", object)])
        for r in range(repeats.shape[1]):
            repeats[0, r]["t"] = np.array((spikes or {}).get((k, r), [])).reshape(1, -1)
        source, group, stimulus = (1, 2, k + 1) if k < 12 else (2, 1, k - 11)
        if swap:
            stimulus = 3 - stimulus
        params = {"Source": source, "Set": group, "StimID": stimulus}
        sets[0, k]["repeats"] = repeats
        sets[0, k]["stim_params"] = {name: v for name, v in params.items() if name not in drop}
    scipy.io.savemat(path, {"data": {"set": sets}})
    return path


def metadata_file(path, n=119, drop=()):
    values = {"path": "a/b.data.mat", "singleT": "Yes", "NoiseRatio": 2.5, "depth": -1.0}
    fields = [name for name in ns1.FIELDS if name not in drop]
    table = np.empty((1, n), [(name, object) for name in fields])
    for row in table[0]:
        for name in fields:
            row[name] = values.get(name, 0)
    scipy.io.savemat(path, {"neuron": table})
    return path


def test_spikes_are_counted_in_bins_of_5_ms(tmp_path):
    spikes = {(0, 0): [0.0, 4.99, 5.0, 4994.9, 4995.0, 5100.0], (19, 19): [12.0]}
    unit = ns1.read_unit(unit_file(tmp_path / "unit.mat", spikes))
    assert unit[0][0].tolist() == [0, 0, 1, 998]  # after the last bin, left out
    assert unit[19][19].tolist() == [2]
    assert len(unit) == 20
    assert sum(len(t) for clip in unit for t in clip) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_sets": 20}, "expected 32 stimulus sets"),
        ({"n_repeats": 10}, "set 0: expected 20 repeats"),
        ({"swap": True}, r"set 0: expected the sound source\.1.*frozen\.1"),
        ({"drop": ("StimID",)}, "not laid out as published"),
        ({"spikes": {(3, 4): [-1.0]}}, "set 3: a spike time is negative"),
        ({"spikes": {(3, 4): [np.nan]}}, "set 3: a spike time is negative or not finite"),
    ],
)
def test_a_unit_that_is_not_understood_is_refused_by_name(tmp_path, options, message):
    path = unit_file(tmp_path / "unit.mat", **options)
    with pytest.raises(ValueError, match=message) as error:
        ns1.read_unit(path)
    assert "unit.mat" in str(error.value)


def test_files_that_are_not_matlab_are_refused_by_name(tmp_path):
    (tmp_path / "junk.mat").write_bytes(b"not a matlab file" * 100)
    (tmp_path / "empty.mat").write_bytes(b"")
    scipy.io.savemat(tmp_path / "other.mat", {"other": 1})
    for name in ("junk", "empty", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.mat"):
            ns1.read_unit(tmp_path / f"{name}.mat")


def test_metadata(tmp_path):
    neurons = ns1.read_neurons(metadata_file(tmp_path / "good.mat"))
    assert len(neurons) == 119
    known = {"id": 3, "path": "a/b.data.mat", "singleT": "Yes", "NoiseRatio": 2.5, "depth": -1.0}
    assert neurons[3] == known | {"NrOfElectrodes": 0, "ElectrodeNumber": 0, "singleN": 0}
    for options in ({"n": 118}, {"drop": ("depth",)}):
        with pytest.raises(ValueError, match=r"bad\.mat: expected 119 neurons"):
            ns1.read_neurons(metadata_file(tmp_path / "bad.mat", **options))


def test_the_papers_units_are_single_and_have_a_depth():
    good = {"singleT": "Maybe", "depth": 0}
    assert ns1.in_paper(good)
    assert not ns1.in_paper(good | {"singleT": "No"})
    assert not ns1.in_paper(good | {"depth": -1})


def test_a_unit_may_carry_a_suffix(tmp_path):
    folder = tmp_path / "spikesandwav" / "a"
    folder.mkdir(parents=True)
    (folder / "cluster.01.data_1.mat").touch()
    assert ns1._unit_file(tmp_path, "a/cluster.01.data.mat").is_file()


def test_the_parsed_file_round_trips_and_damage_is_seen(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (20, 119, 20)).astype(np.uint16)
    arrays = {"counts": counts, "bins": rng.integers(0, 999, counts.sum()).astype(np.uint16)}
    path = tmp_path / "parsed.safetensors"
    parsed.write(path, arrays, [{"id": 0, "path": "a"}])
    assert [p.name for p in tmp_path.iterdir()] == ["parsed.safetensors"]
    again, neurons = parsed.read(path)
    assert neurons == [{"id": 0, "path": "a"}]
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)

    keep = np.zeros(119, bool)
    keep[[5, 7]] = True
    dense = ns1._dense(counts, arrays["bins"], keep)
    assert np.array_equal(np.stack(dense).sum(-1), counts[:, [5, 7]])
    start = counts[:3].sum() + counts[3, :7].sum() + counts[3, 7, :2].sum()  # clip 3, unit 7, repeat 2
    trial = arrays["bins"][start : start + counts[3, 7, 2]]
    assert np.array_equal(dense[3][1, 2], np.bincount(trial, minlength=999))

    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        parsed.read(path)


def test_recording_is_as_published(recordings):
    ds = recordings("ns1")
    assert (ds.n_neurons, ds.n_clips, ds.n_bands, ds.dt_ms) == (73, 20, 34, 5.0)
    assert set(ds.n_frames) == {999}
    assert all(y.shape == (73, 20, 999) for y in ds.responses)
    assert [len(w) for w in ds.waveforms] == [244140] * 16 + [244141] * 4
    assert ds.frequencies[[0, -1]].tolist() == pytest.approx([500, 22627])
    again, _ = cochleagram(ds.waveforms[4].numpy(), ds.sample_rate)
    np.testing.assert_allclose(ds.stimuli[4], again, atol=1e-4)


def test_noise_ratio_agrees_with_the_metadata(recordings):
    ds = recordings("ns1", units="all")
    assert ds.n_neurons == 119
    published = np.array([neuron["NoiseRatio"] for neuron in ds.neurons])
    ours = ds.noise_power / ds.signal_power
    assert np.corrcoef(ours, published)[0, 1] > 0.999
    assert np.median(ours / published) == pytest.approx(1, abs=0.02)


def test_the_papers_split(recordings):
    train, test = ns1.paper_split(recordings("ns1"))
    assert [clip["id"] for clip in test.clips] == [3, 6, 9, 19]
    assert len(train) == 16
    assert not {clip["id"] for clip in train.clips} & {3, 6, 9, 19}
    with pytest.raises(ValueError, match="16 clips"):
        ns1.paper_split(train)


def test_a_damaged_cache_is_parsed_again(recordings, tmp_path, monkeypatch):
    whole = recordings("ns1")
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path))
    ns1.parsed_path().parent.mkdir()
    ns1.parsed_path().write_bytes(b"half a file")
    calls = []
    monkeypatch.setattr(ns1, "fetch", lambda remote: tmp_path)
    monkeypatch.setattr(ns1, "verify", lambda folder, hashes: calls.append(folder))
    monkeypatch.setattr(ns1, "parse", lambda folder: ns1_arrays(whole))
    with pytest.warns(UserWarning, match="is damaged"):
        ns1.load()
    assert calls == [tmp_path]
    assert ns1.load().n_neurons == 73  # from the cache, whole again


def ns1_arrays(ds):
    """Return arrays as `parse` gives them, without spikes."""
    arrays = {
        "counts": np.zeros((20, 119, 20), np.uint16),
        "bins": np.zeros(0, np.uint16),
        "cochleagrams": np.stack([s.numpy() for s in ds.stimuli]),
        "waveforms": np.zeros(20 * 10, np.float32),
        "waveform_lengths": np.full(20, 10),
    }
    kept = {neuron["id"] for neuron in ds.neurons}
    return arrays, [{"id": i, "singleT": "Yes" if i in kept else "No", "depth": 0} for i in range(119)]
