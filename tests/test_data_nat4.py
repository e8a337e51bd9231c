"""NAT4: the reader on small archives written here in the published format."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

from strflab import data
from strflab.data import nat4

N_CELLS, N_VALIDATION, N_ESTIMATION = 4, 2, 3
N_FRAMES = (N_VALIDATION + N_ESTIMATION) * 150
CELLS = ["ARM029a-04-1", "ARM029a-07-2", "TNC015a-01-1", "TNC015a-33-1"]
STEM = "A1_NAT4_ozgf.fs100.ch18"


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Folders of the test's own, and a recording of four units and five sounds."""
    monkeypatch.setenv("STRFLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nat4, "N_CELLS", {"A1": N_CELLS, "PEG": 1})
    monkeypatch.setattr(nat4, "N_VALIDATION", N_VALIDATION)
    monkeypatch.setattr(nat4, "N_ESTIMATION", N_ESTIMATION)


def signals(seed=0):
    """Response (T, N), the last unit without validation data, and stimulus (T, 18)."""
    rng = np.random.default_rng(seed)
    response = rng.poisson(0.3, (N_FRAMES, N_CELLS)) / 20.0
    response[: N_VALIDATION * 150, 3] = np.nan
    return response, rng.gamma(1.0, 2.0, (N_FRAMES, 18))


def table(matrix):
    """Text of a matrix without a header, an empty field where it is NaN."""
    return "".join(",".join("" if np.isnan(v) else f"{v:.9e}" for v in row) + "\n" for row in matrix)


def files(changes=None):
    """Content of an archive by the ends of its files' names."""
    response, stimulus = signals()
    names = [f"STIM_00cat{k}_rec1_excerpt1.wav" for k in range(N_VALIDATION)]
    names += [f"STIM_cat{k}_rec1_excerpt1.wav" for k in range(N_ESTIMATION)]
    rows = [(f"{1.5 * k:.2f}", f"{1.5 * (k + 1):.2f}", name) for k, name in enumerate(names)]
    rows += [("0.0", "7.5", "SIGNAL"), ("0.0", "0.25", "PreStimSilence")]
    mask = [k >= N_VALIDATION * 150 for k in range(N_FRAMES)]
    content = {
        "resp.csv": table(response),
        "stim.csv": table(stimulus),
        "resp.json": json.dumps({"name": "resp", "chans": CELLS, "fs": 100, "meta": {}}),
        "resp.epoch.csv": "start,end,name\n" + "".join(",".join(row) + "\n" for row in rows),
        "mask_est.csv": "".join(f"{m}\n" for m in mask),
        "stim.json": "{}",
    }
    return content | (changes or {})


def write(folder, content, extra=()):
    """Write the archive of an area; `extra` are members that it should not have."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{STEM}.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for end, text in content.items():
            member = tarfile.TarInfo(f"{STEM}/{STEM}.{end}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in extra:
            archive.addfile(member)
    return path


def test_the_published_format_is_read_back(tmp_path):
    write(tmp_path / "data" / "nat4", files())
    flags = "".join(f"{cell},{flag},0.5\n" for cell, flag in zip(CELLS, (True, False, True, True)))
    (tmp_path / "data" / "nat4" / "A1_pred_correlation.csv").write_text("cellid,sig_auditory,r\n" + flags)
    assert nat4.is_here()
    ds = data.load("nat4", area="A1", normalized=False)
    response, stimulus = signals()
    assert (ds.n_neurons, ds.n_clips, ds.n_bands, ds.dt_ms) == (4, 5, 18, 10.0)
    for k in range(5):
        frames = slice(150 * k, 150 * (k + 1))
        np.testing.assert_allclose(ds.stimuli[k], stimulus[frames].T, rtol=1e-6)
        np.testing.assert_allclose(ds.responses[k][:, 0], response[frames].T, rtol=1e-6)
    assert [clip["validation"] for clip in ds.clips] == [True, True, False, False, False]
    assert ds.clips[0]["sound"] == "STIM_00cat0_rec1_excerpt1.wav"
    assert [neuron["auditory"] for neuron in ds.neurons] == [True, False, True, True]
    assert ds.neurons[2] == {"id": 2, "cell": CELLS[2], "site": "TNC015a", "area": "A1", "auditory": True}


def test_without_the_table_it_is_not_known_who_is_auditory_and_the_cache_suffices(tmp_path):
    path = write(tmp_path / "data" / "nat4", files())
    first = data.load("nat4")
    assert {neuron["auditory"] for neuron in first.neurons} == {None}
    path.unlink()
    assert data.is_here("nat4")
    assert data.load("nat4").fingerprint() == first.fingerprint()
    with pytest.raises(data.RecordingUnavailable, match="nat4"):
        data.load("nat4", area="PEG")


def test_a_damaged_cache_is_parsed_again(tmp_path):
    write(tmp_path / "data" / "nat4", files())
    first = data.load("nat4")
    nat4.parsed_path("A1").write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="is damaged"):
        assert data.load("nat4").fingerprint() == first.fingerprint()


def test_a_unit_that_is_silent_in_all_validation_sounds_has_no_data_there(tmp_path):
    response, _ = signals()
    response[: N_VALIDATION * 150, 1] = 0
    arrays, _ = nat4.parse(write(tmp_path, files({"resp.csv": table(response)})), "A1")
    missing = np.isnan(arrays["response"]).all(-1)
    assert missing[:N_VALIDATION].all(0).tolist() == [False, True, False, True]
    assert not missing[N_VALIDATION:].any()


def test_the_stimulus_is_normalized_as_in_the_paper(tmp_path):
    write(tmp_path / "data" / "nat4", files())
    x = np.concatenate(data.load("nat4").stimuli, 1)
    level = np.log((signals()[1].T + 0.1) / 0.1)
    low, high = level.min(1, keepdims=True), level.max(1, keepdims=True)
    np.testing.assert_allclose(x, (level - low) / (high - low), atol=1e-6)


def member(name, kind=tarfile.REGTYPE, target=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (member("/etc/x.resp.csv"), "points outside"),
        (member("a/../../x.resp.csv"), "points outside"),
        (member("a\\b.csv"), "points outside"),
        (member("x.stim.csv", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
        (member("x.stim.csv", tarfile.LNKTYPE, "y"), "link or a device"),
        (member("dev", tarfile.CHRTYPE), "link or a device"),
        (member("b/other.resp.json"), "two files that end in"),
    ],
)
def test_an_unsafe_archive_is_refused(tmp_path, bad, why):
    with pytest.raises(ValueError, match=why):
        nat4.read_archive(write(tmp_path, files(), [bad]))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nat4, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
        nat4.read_archive(write(tmp_path, files()))


def test_half_an_archive_is_damaged(tmp_path):
    path = write(tmp_path, files())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="is damaged"):
        nat4.read_archive(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"resp.csv": table(signals()[0][:, :3])}, r"resp\.csv has the shape"),
        ({"stim.csv": table(signals()[1][:-1])}, r"stim\.csv has the shape"),
        ({"stim.csv": "import os\n"}, "nothing but numbers"),
        ({"resp.json": json.dumps({"chans": CELLS, "fs": 50})}, "100 Hz"),
        ({"resp.json": json.dumps({"chans": CELLS[:3], "fs": 100})}, "names 3 units"),
        ({"resp.json": json.dumps({"chans": [1, 2, 3, 4], "fs": 100})}, "list of names"),
        ({"resp.json": "[]"}, "chans and fs"),
        ({"mask_est.csv": "1\n" * N_FRAMES}, "does not say the same"),
        ({"resp.epoch.csv": "start,end,name\n0,1.5,STIM_cat1\n"}, "expected 2 validation and 3 estimation"),
        ({"resp.epoch.csv": "begin,end,name\n0,1.5,STIM_cat1\n"}, "columns name, start and end"),
        ({"resp.epoch.csv": files()["resp.epoch.csv"].replace("1.50,3.00", "1.60,3.00")}, "not where it should be"),
        ({"resp.epoch.csv": files()["resp.epoch.csv"].replace("STIM_00cat1", "STIM_cat9", 1)}, "expected 2 validation"),
    ],
)
def test_what_is_not_laid_out_as_published_is_refused(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        nat4.parse(write(tmp_path, files(changes)), "A1")


def test_a_missing_file_is_named(tmp_path):
    content = files()
    del content["mask_est.csv"]
    with pytest.raises(ValueError, match=r"lacks the file that ends in \.mask_est\.csv"):
        nat4.parse(write(tmp_path, content), "A1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cellid,r\n" + "a,1\n" * 4, "sig_auditory"),
        ("cellid,sig_auditory\n" + "a,True\n" * 3, "4 rows, got 3"),
        ("cellid,sig_auditory\n" + "a,perhaps\n" * 4, "True or False"),
        ("cellid,sig_auditory\n" + "".join(f"{c},True\n" for c in CELLS[::-1]), "not in their order"),
    ],
)
def test_a_table_of_other_units_is_refused(tmp_path, text, why):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        nat4.read_auditory(path, CELLS)


def test_options():
    with pytest.raises(ValueError, match="area='A2'"):
        data.load("nat4", area="A2")
    with pytest.raises(ValueError, match="normalized"):
        data.load("nat4", normalized="yes")
