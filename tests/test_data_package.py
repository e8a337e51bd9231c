"""What strflab.data offers: the table, `load`, and the fallback with its banner."""

from __future__ import annotations

import subprocess
import sys

import pytest

from strflab import data


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    monkeypatch.setenv("STRFLAB_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("STRFLAB_CACHE", str(tmp_path / "cache"))


def test_available_says_what_where_and_on_what_terms(nothing_here):
    table = data.available()
    assert [set(row) for row in table] == [{"name", "what", "size", "licence", "citation", "here"}] * 4
    assert [row["here"] for row in table] == ["no", "no", "no", "yes"]
    assert "ns1" in repr(table)
    assert table._repr_html_().count("<tr>") == 5


def test_unknown_names_and_options_list_what_is_allowed():
    with pytest.raises(ValueError, match="name='ns2': must be one of 'zebra_finch', 'ns1', 'nat4', 'simulated'"):
        data.load("ns2")
    with pytest.raises(ValueError, match="'unit' is not an option of 'ns1': use units"):
        data.load("ns1", unit="paper")
    with pytest.raises(ValueError, match="units='good'"):
        data.load("ns1", units="good")
    with pytest.raises(ValueError, match="spectrogram='mel'"):
        data.load("zebra_finch", spectrogram="mel")
    with pytest.raises(ValueError, match="'units' is not an option"):
        data.load_or_simulate("zebra_finch", units="all")


@pytest.mark.parametrize("name", ["zebra_finch", "ns1", "nat4"])
def test_a_recording_that_is_nowhere_says_what_to_do(nothing_here, name):
    with pytest.raises(data.RecordingUnavailable, match=r"STRFLAB_OFFLINE is set.*STRFLAB_DATA"):
        data.load(name)


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("zebra_finch", {"dt_ms": 5.0, "spectrogram": "log"}, (1, 20, 32)),
        ("zebra_finch", {}, (1, 20, 63)),
        ("ns1", {}, (20, 20, 34)),
        ("nat4", {"area": "PEG"}, (20, 60, 18)),
    ],
)
def test_the_stand_in_has_the_shape_of_the_recording_and_says_so(nothing_here, name, options, shape):
    with pytest.warns(UserWarning, match=rf"SIMULATED DATA, not the recording '{name}'"):
        ds = data.load_or_simulate(name, **options)
    assert ds.name == "simulated"
    assert (ds.n_neurons, ds.n_clips, ds.n_bands) == shape
    assert ds.dt_ms == options.get("dt_ms", {"ns1": 5.0, "nat4": 10.0}.get(name, 1.0))


def test_in_a_notebook_the_banner_is_a_box(nothing_here, monkeypatch):
    import IPython
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    monkeypatch.setattr(IPython.display, "display", shown.append)
    data.load_or_simulate("ns1")
    assert "SIMULATED DATA" in shown[0].data
    assert "STRFLAB_DATA" in shown[0].data


def test_an_error_that_is_not_absence_is_not_hidden(nothing_here, monkeypatch):
    with pytest.raises(ValueError, match="dt_ms"):
        data.load_or_simulate("zebra_finch", dt_ms=0.01)


def test_importing_and_loading_make_no_folder(nothing_here, tmp_path):
    script = "from strflab import data; data.available(); data.load('simulated', n_clips=1)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert list(tmp_path.iterdir()) == []
