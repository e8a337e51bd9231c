"""The STRFlab demo recording: the reader on files made here, and on the recording where it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import wavfile

from strflab.data import fetch, zebra_finch


def test_an_empty_row_is_a_trial_without_spikes(tmp_path):
    path = tmp_path / "spike1"
    for text in ("1.5 2.25 \n\n7\n", "1.5 2.25\n\n7"):
        path.write_text(text)
        assert [t.tolist() for t in zebra_finch.read_spikes(path)] == [[0.0015, 0.00225], [], [0.007]]
    path.write_text("1.5\n\n")
    assert [len(t) for t in zebra_finch.read_spikes(path)] == [1, 0]


@pytest.mark.parametrize("text", ["1.0 x\n", "-1.0 2.0\n", "nan\n"])
def test_a_row_that_is_not_spike_times_is_refused_by_name(tmp_path, text):
    (tmp_path / "spike3").write_text(text)
    with pytest.raises(ValueError, match="spike3"):
        zebra_finch.read_spikes(tmp_path / "spike3")


def test_sounds_of_another_kind_are_refused_by_name(tmp_path):
    wavfile.write(tmp_path / "stim1.wav", 32000, np.array([0, 16384, -32768], np.int16))
    assert zebra_finch.read_sound(tmp_path / "stim1.wav").tolist() == [0.0, 0.5, -1.0]
    for rate, samples in [(44100, np.zeros(9, np.int16)), (32000, np.zeros((9, 2), np.int16))]:
        wavfile.write(tmp_path / "stim2.wav", rate, samples)
        with pytest.raises(ValueError, match=r"stim2\.wav: expected 16-bit mono"):
            zebra_finch.read_sound(tmp_path / "stim2.wav")


def test_recording_at_1_ms(recordings):
    ds = recordings("zebra_finch")
    assert (ds.n_neurons, ds.n_clips, ds.n_bands, ds.dt_ms) == (1, 20, 63, 1.0)
    assert ds.n_frames == [len(w) // 32 for w in ds.waveforms]
    assert all(y.shape[:2] == (1, 10) for y in ds.responses)
    assert sum(float(y.sum()) for y in ds.responses) == 3632  # of 3,680: 48 come after the sounds
    assert max(s.max() for s in ds.stimuli) == pytest.approx(80)
    assert min(s.min() for s in ds.stimuli) == 0


def test_recording_in_log_bands(recordings):
    ds = recordings("zebra_finch", dt_ms=5.0, spectrogram="log")
    assert (ds.n_bands, ds.dt_ms) == (32, 5.0)
    assert max(s.max() for s in ds.stimuli) == pytest.approx(65)
    assert sum(s.max() > 64.9 for s in ds.stimuli) == 1  # one song is the loudest of all
    first = zebra_finch.read_spikes(fetch.locate("zebra_finch", ["spike1"]) / "spike1")[0]
    expected = np.histogram(1000 * first, np.arange(ds.n_frames[0] + 1) * 5.0)[0]
    assert np.array_equal(ds.responses[0][0, 0], expected)


def test_a_changed_file_is_refused(recordings, tmp_path, monkeypatch):
    recordings("zebra_finch")
    here = fetch.locate("zebra_finch", zebra_finch.REMOTE.hashes)
    (tmp_path / "zebra_finch").mkdir()
    for name in zebra_finch.FILES:
        (tmp_path / "zebra_finch" / name).write_bytes((here / name).read_bytes())
    with open(tmp_path / "zebra_finch" / "spike7", "a") as file:
        file.write("99.0\n")
    monkeypatch.setenv("STRFLAB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="spike7 is not the published file"):
        recordings("zebra_finch")
