"""Recordings of one's own: WAV files, spike times, NWB; every spike in its frame, every mistake named."""

from __future__ import annotations

import datetime
import struct
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from strflab import data
from strflab.data import recording, spikes
from strflab.data import spectrogram as sg
from strflab.reverse_correlation import RidgeSTRF

RATE = 16_000
BANDS = {"n_bands": 8, "low_hz": 300.0, "high_hz": 6000.0}


def noise(seconds: float, seed: int = 0, rate: float = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)).astype(np.float32)


# ---- the frame of a spike


@given(
    st.lists(st.integers(0, 20_000_000), max_size=50),
    st.sampled_from([500, 1000, 2000, 5000, 10_000, 12_500]),
    st.integers(1, 3000),
)
@settings(deadline=None, derandomize=True)
def test_a_spike_at_t_is_in_frame_floor_of_t_over_dt(microseconds, dt_us, n_frames):
    times = np.array(microseconds, float) / 1e6  # boundaries among them, which binary fractions miss
    counts = data.count_spikes([times], dt_us / 1000, n_frames)
    expected = np.zeros(n_frames)
    for t in microseconds:  # in whole numbers
        if t // dt_us < n_frames:
            expected[t // dt_us] += 1
    assert np.array_equal(counts[0], expected)


@given(st.lists(st.floats(-2, 12), max_size=60), st.floats(0.3, 30))
@settings(deadline=None, derandomize=True)
def test_spikes_are_counted_or_left_out_but_never_lost(times, dt_ms):
    n_frames = 100
    frames = spikes.frames_of(times, dt_ms)
    outside = int(((frames < 0) | (frames >= n_frames)).sum())
    assert data.count_spikes([times], dt_ms, n_frames).sum() + outside == len(times)
    assert (np.abs(frames - np.asarray(times) * 1000 / dt_ms + 0.5) <= 0.5 + 1e-5).all()


def test_order_does_not_matter_and_nothing_recorded_is_not_silence():
    counts = data.count_spikes([[0.3, 0.1, 0.1], [], None], 100.0, 5)
    assert counts[0].tolist() == [0, 2, 0, 1, 0]
    assert counts[1].tolist() == [0] * 5
    assert np.isnan(counts[2]).all()


def test_times_with_units_are_converted():
    class Quantity:  # what neo and quantities offer
        def __init__(self, values, unit):
            self.magnitude, self.unit = np.asarray(values), unit

        def rescale(self, unit):
            return Quantity(self.magnitude / {"s": 1, "ms": 1000}[self.unit], unit)

    assert data.count_spikes([Quantity([12.0, 499.0], "ms")], 10.0, 50)[0].nonzero()[0].tolist() == [1, 49]


def test_text_files_of_spike_times(tmp_path):
    path = tmp_path / "unit1.txt"
    path.write_text("0.1, 0.25\n\n0.5\t0.75\n")
    assert [t.tolist() for t in data.read_spike_times(path)] == [[0.1, 0.25], [], [0.5, 0.75]]
    path.write_text("100 250\n")
    assert data.read_spike_times(path, unit="ms")[0].tolist() == [0.1, 0.25]
    for text in ("0.1 x", "0.1\nnan"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"unit1\.txt: row \d"):
            data.read_spike_times(path)


# ---- WAV files


@pytest.mark.parametrize(
    ("dtype", "full_scale"), [(np.uint8, 2**7), (np.int16, 2**15), (np.int32, 2**31), (np.float32, 1), (np.float64, 1)]
)
def test_samples_of_every_kind_have_one_scale(tmp_path, dtype, full_scale):
    sound = 0.9 * np.sin(np.arange(4000) / 7)
    stored = sound * full_scale + (128 if dtype == np.uint8 else 0)
    wavfile.write(tmp_path / "a.wav", 44_100, (stored if full_scale == 1 else np.round(stored)).astype(dtype))
    waveform, rate = data.read_wav(tmp_path / "a.wav")
    assert (waveform.dtype, rate) == (np.float32, 44_100.0)
    assert np.abs(waveform - sound).max() <= (1 / full_scale if 1 < full_scale < 2**20 else 1e-7)


def test_24_bits(tmp_path):
    samples = np.array([0, 2**22, -(2**23), 2**23 - 1])
    frames = b"".join(struct.pack("<i", s)[:3] for s in samples)
    form = (16, 1, 1, RATE, 3 * RATE, 3, 24)  # its length, PCM, channels, rate, bytes a second, bytes a frame, bits
    head = struct.pack("<4sI4s4s", b"RIFF", 36 + len(frames), b"WAVE", b"fmt ")
    head += struct.pack("<IHHIIHH4sI", *form, b"data", len(frames))
    (tmp_path / "a.wav").write_bytes(head + frames)
    assert data.read_wav(tmp_path / "a.wav")[0].tolist() == pytest.approx([0, 0.5, -1, 1], abs=1e-6)
    (tmp_path / "short.wav").write_bytes(head + frames[:4])
    with pytest.raises(ValueError, match=r"short\.wav: not a whole WAV file"):
        data.read_wav(tmp_path / "short.wav")


def test_a_channel_is_chosen_never_guessed(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([noise(0.1), noise(0.1, 1)], 1))
    with pytest.raises(ValueError, match="2 channels"):
        data.read_wav(tmp_path / "a.wav")
    assert np.array_equal(data.read_wav(tmp_path / "a.wav", channel=1)[0], noise(0.1, 1))
    with pytest.raises(ValueError, match="channel=2"):
        data.read_wav(tmp_path / "a.wav", channel=2)
    (tmp_path / "b.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"b\.wav: not a whole WAV"):
        data.read_wav(tmp_path / "b.wav")
    with pytest.raises(FileNotFoundError):
        data.read_wav(tmp_path / "c.wav")


# ---- a data set from sounds and spike times


def test_files_and_arrays_give_the_same_set(tmp_path):
    sounds, times = [noise(1.0), noise(0.5, 1)], [[[[0.1], []]], [[[0.2]]]]
    for k, sound in enumerate(sounds):
        wavfile.write(tmp_path / f"{k}.wav", RATE, sound)
    a = data.from_spike_times([tmp_path / "0.wav", str(tmp_path / "1.wav")], times, **BANDS, name="mine")
    b = data.from_spike_times(sounds, times, sample_rate=RATE, **BANDS)
    assert a.fingerprint() == b.fingerprint()
    assert (a.name, a.n_frames, a.n_bands, a.sample_rate) == ("mine", [200, 100], 8, RATE)
    assert [c["sound"] for c in a.clips] == ["0.wav", "1.wav"]
    assert max(s.max() for s in a.stimuli) == pytest.approx(65)
    quiet = data.from_spike_times([sounds[0], 0.1 * sounds[1]], times, sample_rate=RATE, **BANDS)
    # dB relative to the loudest of all: a sound 20 dB softer stays 20 dB softer
    assert torch.allclose(quiet.stimuli[1], (b.stimuli[1] - 20).clamp(min=0), atol=1e-3)


def test_a_click_and_the_spike_on_it_meet_in_one_frame():
    for rate, dt_ms in ((RATE, 5.0), (44_100, 5.0), (48_828, 2.0), (44_100, 1.0)):
        at = 0.7331
        sound = np.zeros(round(2.0 * rate), np.float32)
        sound[round(at * rate)] = 1
        for pre_s in (0.0, 0.1):
            ds = data.from_spike_times(
                [sound], [[[[at]]]], dt_ms, sample_rate=rate, n_bands=4, low_hz=1000, high_hz=6000, pre_s=pre_s
            )
            heard = ds.stimuli[0].sum(0).nonzero().flatten()
            (spike,) = ds.responses[0][0, 0].nonzero().flatten().tolist()
            assert heard[0] == spike == int((at + pre_s) * 1000 / dt_ms)  # and none of it is heard before


def test_silence_before_and_after_belongs_to_the_clip():
    times = [[[[-0.06, -0.05, -0.001, 0.0, 0.999, 1.0, 1.099, 1.1]]]]
    ds = data.from_spike_times([noise(1.0)], times, 10.0, sample_rate=RATE, pre_s=0.05, post_s=0.1, **BANDS)
    assert ds.n_frames == [115]
    assert ds.responses[0][0, 0].nonzero().flatten().tolist() == [0, 4, 5, 104, 105, 114]
    assert ds.stimuli[0][:, :5].abs().max() == 0
    assert ds.stimuli[0][:, 5].min() > 0
    assert ds.clips[0]["spikes_left_out"] == 2
    assert (ds.clips[0]["onset_s"], len(ds.waveforms[0])) == (0.05, 1.15 * RATE)
    with pytest.raises(ValueError, match=r"pre_s=0\.052: must be a whole number of frames"):
        data.from_spike_times([noise(1.0)], times, 10.0, sample_rate=RATE, pre_s=0.052, **BANDS)


@given(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=3), st.data())
@settings(max_examples=20, deadline=None, derandomize=True)
def test_no_spike_is_lost_whatever_the_numbers_of_trials(n_trials, draws):
    drawn = st.lists(st.floats(0, 0.6), max_size=5)
    times = [[[draws.draw(drawn) for _ in range(n)] for n in clip] for clip in n_trials]
    clips = recording._checked(times, len(times))
    left_out = recording._left_out(clips, [1000] * len(times), 1.0)  # all inside
    assert sum(left_out) == 0
    for clip, given_trials, raw in zip(clips, n_trials, times):
        counts = recording._counts(clip, 1.0, 1000)
        assert counts.shape[1] == max(1, *given_trials)
        for row, n, neuron in zip(counts, given_trials, raw):
            assert np.isfinite(row[:n]).all()
            assert np.isnan(row[n:]).all()
            assert np.nansum(row) == sum(map(len, neuron))


def test_trials_that_were_not_recorded_are_missing():
    times = [[[[0.1], None, []], None], [[[0.2]], [[0.3], [0.4]]]]
    ds = data.from_spike_times([noise(0.5), noise(0.5, 1)], times, sample_rate=RATE, **BANDS)
    assert [c[:, 0].tolist() for c in ds.repeat_counts] == [[2, 0], [1, 2]]


def test_another_spectrogram_and_tables():
    sounds, times = [noise(1.0, rate=48_828)], [[[[0.1], [0.2]]]]
    ds = data.from_spike_times(
        sounds, times, sample_rate=48_828, spectrogram=data.cochleagram, neurons=[{"id": "A7", "depth": 300}],
        clips=[{"sound": "noise"}],
    )  # fmt: skip
    assert ds.n_bands == 34
    assert ds.neurons == [{"id": "A7", "depth": 300}]
    assert (ds.clips[0]["sound"], ds.clips[0]["spikes_left_out"]) == ("noise", 0)
    with pytest.raises(ValueError, match=r"spectrogram: returned shape .* must be \(F, 100\)"):
        data.from_spike_times(
            sounds, times, 10.0, sample_rate=48_828, spectrogram=lambda x, rate, _: sg.cochleagram(x, rate)
        )


@pytest.mark.parametrize(
    ("sounds", "times", "options", "message"),
    [
        ([], [], {}, "sounds: must hold at least one"),
        ([noise(1)], [[[[0.1]]]], {"sample_rate": None}, r"sounds\[0\] is an array: say its sample_rate"),
        ([noise(1)], [[[[0.1]]]] * 2, {}, "2 clips for 1 sounds"),
        ([noise(1)], [[[0.1, 0.2]]], {}, r"spike_times\[0\]\[0\] must be a list of trials, and holds numbers"),
        ([noise(1)], [[np.array([0.1])]], {}, r"spike_times\[0\]\[0\] must be a list of trials, and holds numbers"),
        ([noise(1)], [np.array([0.1])], {}, r"spike_times\[0\] must be a list of neurons, and holds numbers"),
        ([noise(1)], [0.1], {}, r"spike_times\[0\] must be a list of neurons"),
        ([noise(1)], [[[[0.1], [np.nan]]]], {}, r"spike_times\[0\]\[0\]\[1\] holds NaN"),
        ([noise(1)], [[[["a"]]]], {}, r"spike_times\[0\]\[0\]\[0\] must be the spike times"),
        ([noise(1)], [[[[[0.1]]]]], {}, r"spike_times\[0\]\[0\]\[0\] must be .* got shape \(1, 1\)"),
        ([noise(1)] * 2, [[[[0.1]]], [[[0.1]]] * 2], {}, r"spike_times\[1\] has 2 neurons"),
        ([noise(1)], [[[[100.0, 250.0, 900.0]]]], {}, "these look like ms"),
        ([noise(1)], [[[np.arange(5, 1000, 1.0)]]], {}, "0 of 995 spikes .* look like ms"),
        ([noise(1)], [[[[8100.2]]]], {}, "from the onset of its sound, not on the clock"),
        ([noise(1)], [[[[0.1]]]], {"high_hz": 9000.0}, "high_hz=9000"),
        ([np.full(RATE, np.nan)], [[[[0.1]]]], {}, r"sounds\[0\]: must be finite"),
        ([noise(1)], [[[[0.1]]]], {"neurons": [{}, {}]}, "neurons: must be a list of 1 dicts"),
    ],
)  # fmt: skip
def test_mistakes_are_named(sounds, times, options, message):
    with pytest.raises(ValueError, match=message):
        data.from_spike_times(sounds, times, **({"sample_rate": RATE} | BANDS | options))


def test_files_at_different_rates_are_refused(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, noise(1))
    wavfile.write(tmp_path / "b.wav", 2 * RATE, noise(2))
    with pytest.raises(ValueError, match=r"b\.wav\) is at 32000 Hz, a\.wav at 16000 Hz"):
        data.from_spike_times([tmp_path / "a.wav", tmp_path / "b.wav"], [[[[0.1]]]] * 2, **BANDS)


# ---- NWB


@pytest.fixture
def session(tmp_path):
    """A file of two units and two sounds, heard twice; unit 1 was observed in the first half only."""
    pynwb = pytest.importorskip("pynwb", reason="NWB files need pynwb")
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    nwb = pynwb.NWBFile("ferret, two sounds", "ferret-1", start)
    nwb.add_trial_column("stimulus", "which sound")
    onsets = {"a": (100.0, 104.0), "b": (102.0, 106.0)}
    for name, t in sorted(((n, t) for n, ts in onsets.items() for t in ts), key=lambda p: p[1]):
        nwb.add_trial(start_time=t, stop_time=t + 1.0, stimulus=name)
    nwb.add_unit_column("quality", "of the sorting")
    nwb.add_unit(spike_times=[99.99, 100.012, 102.5, 104.9995, 105.5], obs_intervals=[[90.0, 110.0]], quality="good")
    nwb.add_unit(spike_times=[100.3, 102.1], obs_intervals=[[90.0, 103.5]], quality="mua")
    sounds = {"a": noise(1.0), "b": noise(1.0, 1)}
    for name, sound in sounds.items():
        nwb.add_stimulus_template(pynwb.TimeSeries(name=name, data=sound, unit="Pa", rate=float(RATE)))
    microphone = np.zeros(8 * RATE, np.float32)
    for name, ts in onsets.items():
        for t in ts:
            first = round((t - 99.0) * RATE)
            microphone[first : first + RATE] = sounds[name]
    nwb.add_acquisition(
        pynwb.TimeSeries(name="microphone", data=microphone, unit="Pa", rate=float(RATE), starting_time=99.0)
    )
    path = tmp_path / "session.nwb"
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path, sounds


def test_nwb_units_trials_and_sounds(session, tmp_path):
    path, sounds = session
    ds = data.from_nwb(path, dt_ms=5.0, **BANDS)
    assert (ds.n_neurons, ds.n_clips, ds.n_frames) == (2, 2, [200, 200])
    assert ds.description == "ferret, two sounds"
    assert [c["sound"] for c in ds.clips] == ["a", "b"]
    assert [n["quality"] for n in ds.neurons] == ["good", "mua"]
    expected = [[[[0.012], [0.9995]], [[0.3], None]], [[[0.5], []], [[0.1], None]]]
    known = data.from_spike_times(list(sounds.values()), expected, sample_rate=RATE, **BANDS)
    assert ds.fingerprint() == known.fingerprint()

    for name, sound in sounds.items():
        wavfile.write(tmp_path / f"{name}.wav", RATE, sound)
    for options in (
        {"sounds": tmp_path},
        {"sounds": {name: tmp_path / f"{name}.wav" for name in sounds}},
        {"sounds": sounds, "sample_rate": RATE},
        {"series": "microphone"},
    ):
        assert data.from_nwb(path, **options, **BANDS).fingerprint() == known.fingerprint()
    early = data.from_nwb(path, pre_s=0.1, trials=lambda t: t["start_time"] < 103, **BANDS)
    assert [y.shape[1] for y in early.responses] == [1, 1]
    assert early.responses[0][0, 0].nonzero().flatten().tolist() == [18, 22]
    assert data.from_nwb(path, name="x", **BANDS).select(neurons=lambda n: n["quality"] == "good").n_neurons == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervals": "sweeps"}, "intervals='sweeps': .* has 'trials'"),
        ({"stimulus_column": "sound"}, "'sound' is no column of 'trials' .* stimulus"),
        ({"trials": lambda t: False}, "no trial is left of 4"),
        (
            {"sounds": {"a": noise(1)}, "sample_rate": RATE},
            r"sounds: 'b', a sound of the trials, is not in sounds \(a\)",
        ),
        ({"series": "speaker"}, "series='speaker': .* has 'microphone'"),
        ({"onset_column": "stop_time", "series": "microphone"}, "does not cover"),
    ],
)
def test_nwb_mistakes_are_named(session, options, message):
    with pytest.raises(ValueError, match=message):
        data.from_nwb(session[0], **options, **BANDS)


def test_nwb_without_pynwb_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(ImportError, match=r'pip install "strflab\[nwb\]"'):
        data.from_nwb(tmp_path / "a.nwb")


# ---- the example


def test_the_example_reads_back_and_its_fields_are_found(tmp_path):
    fields = data.write_example(tmp_path, seconds=2.0, n_clips=10, n_neurons=2)
    sounds = sorted((tmp_path / "sounds").glob("*.wav"))
    times = [
        [data.read_spike_times(tmp_path / "spikes" / f"unit{n}_{s.stem}.txt") for n in (1, 2)] for s in sounds
    ]  # fmt: skip
    ds = data.from_spike_times(sounds, times)
    assert (ds.n_clips, ds.n_neurons, ds.n_frames) == (10, 2, [400] * 10)
    assert [c[:, 0].tolist() for c in ds.repeat_counts] == [[10, 6]] * 10
    assert all(clip["spikes_left_out"] > 0 for clip in ds.clips)  # around the sounds
    found = RidgeSTRF(n_lags=20, cv=5, smoothness=(1, 1)).fit(ds).strf_
    assert found.shape == fields.shape
    for n in range(2):  # in time too: a frame's shift lowers this
        assert np.corrcoef(found[n].ravel(), fields[n].ravel())[0, 1] > 0.8
        for shift in (-1, 1):
            moved = np.roll(found[n], shift, 1)
            assert np.corrcoef(moved.ravel(), fields[n].ravel())[0, 1] < np.corrcoef(
                found[n].ravel(), fields[n].ravel()
            )[0, 1]  # fmt: skip


def test_the_example_is_the_same_in_nwb(tmp_path):
    pytest.importorskip("pynwb", reason="NWB files need pynwb")
    data.write_example(tmp_path, seconds=1.0, n_clips=3, nwb=True)
    sounds = sorted((tmp_path / "sounds").glob("*.wav"))
    times = [
        [data.read_spike_times(tmp_path / "spikes" / f"unit{n}_{s.stem}.txt") for n in (1, 2, 3)] for s in sounds
    ]  # fmt: skip
    files = data.from_spike_times(sounds, times, pre_s=0.1, post_s=0.1)
    nwb = data.from_nwb(tmp_path / "session.nwb", pre_s=0.1, post_s=0.1)
    assert all(torch.equal(a, b) for a, b in zip(nwb.stimuli, files.stimuli))
    for a, b in zip(nwb.responses, files.responses):  # times in text are rounded to 0.01 ms
        assert torch.equal(a.isnan(), b.isnan())
        assert ((a - b).abs() > 0).float().mean() < 0.002
    assert [n["id"] for n in nwb.neurons] == [1, 2, 3]


# ---- keeping a set


def test_a_saved_set_comes_back_whole(tmp_path):
    times = [[[[0.1], None], [[0.2]]], [[[0.3]], None]]
    ds = data.from_spike_times(
        [noise(0.5), noise(0.7, 1)], times, sample_rate=RATE, name="mine", licence="CC0", **BANDS
    )
    path = tmp_path / "kept" / "mine.safetensors"
    for kept in (ds, ds.select(neurons=[1], clips=[1])):
        kept.save(path)
        again = data.read(path)
        assert again.fingerprint() == kept.fingerprint()
        for name in ("dt_ms", "neurons", "clips", "name", "licence", "citation", "description", "sample_rate"):
            assert getattr(again, name) == getattr(kept, name)
        assert all(torch.equal(a, b) for a, b in zip(again.waveforms, kept.waveforms))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    bare = data.NeuralDataset(ds.stimuli, ds.responses, 5.0, ds.frequencies)
    bare.save(path)
    assert data.read(path).waveforms is None


def test_what_cannot_be_saved_or_read_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="truth cannot be saved"):
        data.load("simulated", n_neurons=1, n_clips=1, seconds=0.5).save(path)
    ds = data.NeuralDataset([np.zeros((2, 9))], [np.ones((1, 1, 9))], 5, [500, 1000], neurons=[{"id": object()}])
    with pytest.raises(ValueError, match="only numbers and text can be saved"):
        ds.save(path)
    with pytest.raises(FileNotFoundError):
        data.read(path)
    data.NeuralDataset([np.zeros((2, 9))], [np.ones((1, 1, 9))], 5, [500, 1000]).save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.safetensors: damaged"):
        data.read(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.safetensors: damaged"):
        data.read(path)
