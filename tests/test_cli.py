"""The command line: what each command does and prints, its exit status, and that errors are one line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from strflab import cli, data, fitting, models, results
from strflab.cli import run as run_command
from strflab.cli import settings, text

SMALL = ["--data", "simulated", "--load", "n_neurons=3", "n_clips=6", "seconds=1", "n_bands=12"]
QUICK = ["--recipe", "epochs=2", "--device", "cpu"]


@pytest.fixture
def small():
    """The data set that SMALL means."""
    return data.load("simulated", n_neurons=3, n_clips=6, seconds=1, n_bands=12)


# ---- the program


def test_installed_program_is_this_one():
    scripts = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf8"))["project"]["scripts"]
    script = importlib.metadata.EntryPoint("strflab", scripts["strflab"], "console_scripts")
    assert script.load() is cli.main
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from strflab.cli import main; main(['--help']); print('torch' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False", "--help must not wait for torch"
    done = subprocess.run([sys.executable, "-m", "strflab", "fitt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("strflab: argument COMMAND: invalid choice: 'fitt'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    ["", "data", "data fetch", "data verify", "data where", "models", "fit", "run", "results", "results list"]
    + ["results show", "results compare", "results prune"],
)
def test_help_teaches_by_examples(succeeds, command):
    told = succeeds(*command.split(), "--help")
    assert f"    strflab {command}".rstrip() in told


def test_version(succeeds):
    from strflab import __version__

    assert succeeds("--version") == f"strflab {__version__}\n"


WRONG = {
    "no command": ([], "required: COMMAND; see strflab --help"),
    "no data": (
        ["fit", "ln", "--out", "x"],
        "one of the arguments --data --arrays is required; see strflab fit --help",
    ),
    "no folder": (["fit", "ln", *SMALL], "required: --out"),
    "model": (["fit", "grru", *SMALL, "--out", "x"], "no model 'grru' (did you mean gru?): there are ridge, linear"),
    "data set": (["fit", "ln", "--data", "ns2", "--out", "x"], "must be one of 'zebra_finch', 'ns1'"),
    "file": (["fit", "ln", "--arrays", "no.npz", "--out", "x"], "--arrays no.npz: there is no such file"),
    "option of the set": (["fit", "ln", "--data", "simulated", "--load", "n=3", "--out", "x"], "'n' is not an option"),
    "option of a file": (["fit", "ln", "--arrays", "a.npz", "--load", "n=3", "--out", "x"], "--load: is for --data"),
    "word": (["fit", "ln", *SMALL, "--out", "x", "--set", "n_hidden"], "--set n_hidden: must be key=value"),
    "setting": (["fit", "ln", *SMALL, "--out", "x", "--set", "n_hidden=3"], "--set n_hidden: ln takes temporal_window"),
    "value": (["fit", "ln", *SMALL, "--out", "x", "--set", "kernel=5"], "kernel=5: must be one of"),
    "neurons": (["fit", "ln", *SMALL, "--out", "x", "--set", "out_neurons=5"], "the data decide it"),
    "waveforms": (["fit", "ln", *SMALL, "--out", "x", "--set", "wav2spec=leaf"], "a data set holds spectrograms"),
    "recipe": (["fit", "ln", *SMALL, "--out", "x", "--recipe", "epoch=5"], "epoch=5: a recipe has batch_size"),
    "penalty": (["fit", "ln", *SMALL, "--out", "x", "--recipe", "penalties=3"], "must be a list such as"),
    "device": (["fit", "ln", *SMALL, "--out", "x", "--device", "tpu9"], "device is 'tpu9'"),
    "clips": (["fit", "ln", *SMALL, "--out", "x", "--test-clips", "9"], "there is no 9; the last is 5"),
    "range": (["fit", "ln", *SMALL, "--out", "x", "--test-clips", "a-b"], "must be numbers and ranges from 0 to 5"),
    "twice": (["fit", "ln", *SMALL, "--out", "x", "--test-clips", "1-3,2"], "must name each once"),
    "both": (
        ["fit", "ln", *SMALL, "--out", "x", "--test-clips", "1", "--validation-clips", "0-1"],
        "clip 1 is a test clip",
    ),
    "none left": (["fit", "ln", *SMALL, "--out", "x", "--test-clips", "0-5"], "no clip is left"),
    "one clip": (["fit", "ln", "--data", "simulated", "--load", "n_clips=1", "--out", "x"], "at least two"),
    "folds": (["fit", "ridge", *SMALL, "--out", "x", "--set", "cv=99"], "cv must be between 2 and"),
    "recipe of ridge": (["fit", "ridge", *SMALL, "--out", "x", *QUICK], "--recipe: ridge is solved in closed form"),
    "a file as folder": (["fit", "ridge", *SMALL, "--out", "file"], "--out file: is a file"),
    "another folder": (["fit", "ridge", *SMALL, "--out", "full"], "--out full: holds other files"),
    "no fit": (["results", "show", "abc"], "no stored fit 'abc'"),
    "no fits": (["results", "list", "nowhere"], "there is no folder nowhere"),
    "prune what": (["results", "prune"], "say which"),
    "prune when": (["results", "prune", "--before", "monday"], "--before monday: must be a day, YYYY-MM-DD"),
    "no such recording": (["data", "verify", "ns2"], "name='ns2'"),
    "not in a clone": (["run", "02"], "run this inside a clone"),
}


@pytest.mark.parametrize(("argv", "words"), WRONG.values(), ids=WRONG)
def test_wrong_command_is_one_line_and_status_2(strflab, tmp_path, argv, words):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    status, out, err = strflab(*argv)
    assert (status, out) == (2, "")
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("strflab")
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_work_that_fails_is_status_1(strflab, tmp_path):
    status, _, err = strflab("data", "fetch", "ns1")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "the recording 'ns1' is not in" in err
    assert strflab("fit", "ridge", "--data", "ns1", "--out", "x")[0] == 1
    status, _, err = strflab("fit", "ln", *SMALL, "--out", "x", "--recipe", "epochs=2", "learning_rate=1e30")
    assert status == 1
    assert "lower learning_rate" in err


def test_reader_that_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "strflab", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_warnings_are_one_line(strflab, monkeypatch):
    import warnings

    monkeypatch.setattr(cli.data, "list_all", lambda args: warnings.warn("dear\nme", stacklevel=1))
    assert strflab("data") == (0, "", "strflab: warning: dear me\n")


# ---- words


def test_values_are_json_or_text():
    words = ["a=1", "b=1e-3", "c=None", "d=false", 'e={"type":"separable","rank":2}', "f=LSTM", "g=x=y", "h="]
    kernel = {"type": "separable", "rank": 2}
    expected = {"a": 1, "b": 1e-3, "c": None, "d": False, "e": kernel, "f": "LSTM", "g": "x=y", "h": ""}
    assert text.key_values("--set", words) == expected


def test_json_has_no_nan():
    value = {"a": np.array([1.0, np.nan]), "b": (float("inf"), True, None)}
    assert json.loads(text.as_json(value)) == {"a": [1.0, None], "b": [None, True, None]}


def test_table_aligns_numbers_to_the_right():
    rows = [{"name": "a", "n": 5, "x": 0.5}, {"name": "long", "n": 12345, "x": float("nan")}]
    assert text.table(rows, ["name", "n", "x"]).splitlines() == [
        "name      n      x",
        "a         5  0.500",
        "long  12345      -",
    ]


# ---- data


def test_data_says_what_is_here(succeeds):
    told = succeeds("data")
    assert "ns1 (not here)" in told
    assert "not here: strflab data fetch ns1" in told
    assert "simulated (here)" in told
    for argv in (["data", "--json"], ["data", "list", "--json"]):
        rows = {row["name"]: row for row in succeeds(*argv)}
        assert set(rows) == {row["name"] for row in data.available()}
        assert (rows["ns1"]["here"], rows["ns1"]["where"], rows["simulated"]["here"]) == (False, None, True)


def test_data_where(strflab, succeeds, tmp_path, monkeypatch):
    assert f"cache         {tmp_path / 'cache'}" in succeeds("data", "where")
    assert "computed" in succeeds("data", "where", "simulated")
    status, out, err = strflab("data", "where", "ns1")
    assert (status, out) == (1, "")
    assert "strflab data fetch ns1" in err


def test_data_verify(strflab, succeeds, tmp_path, monkeypatch):
    from strflab.data import fetch

    folder = tmp_path / "shared" / "zebra_finch"
    folder.mkdir(parents=True)
    (folder / "spike1").write_text("1 2 3")
    digest = fetch.sha256(folder / "spike1")
    monkeypatch.setenv("STRFLAB_DATA", str(tmp_path / "shared"))
    monkeypatch.setattr(fetch, "read_hashes", lambda name: {"spike1": digest})
    assert succeeds("data", "verify", "zebra_finch") == f"zebra_finch: 1 files are as published, in {folder}\n"
    assert succeeds("data", "where", "zebra_finch") == f"{folder}\n"
    (folder / "spike1").write_text("1 2 4")
    status, _, err = strflab("data", "verify", "zebra_finch")
    assert status == 1
    assert "spike1 is not the published file" in err
    assert succeeds("data", "verify", "simulated") == "simulated: no files to check\n"
    assert strflab("data", "verify", "nat4")[0] == 1


def test_data_fetch_reads_what_it_fetched(succeeds):
    assert "neurons     2\n" in succeeds("data", "fetch", "simulated", "--load", "n_neurons=2", "n_clips=1")


# ---- models


def test_models_lists_all_that_can_be_fitted(succeeds):
    rows = succeeds("models", "--json")
    assert [row["name"] for row in rows] == settings.names()
    assert {row["class"] for row in rows} == {*models.available(), "RidgeSTRF"}
    assert all(row["parameters"] > 0 and row["what"] for row in rows)
    told = succeeds("models").splitlines()
    assert all(any(line.startswith(f"{name} ") for line in told) for name in settings.names())


@pytest.mark.parametrize("name", [*settings.names(), *models.available(), "RidgeSTRF"])
def test_models_shows_the_arguments_of_one(succeeds, name):
    shown = succeeds("models", name, "--json")
    assert shown["name"] == settings.find(name)
    assert shown["arguments"]
    assert [row["argument"] for row in shown["arguments"] if not row["what"]] == [], "an argument without a word"


def test_lengths_are_those_of_the_recipes_in_ms():
    assert settings.options_of("ln", 5.0)["temporal_window_size"] == 40
    assert settings.options_of("ln", 10.0)["temporal_window_size"] == 20
    assert settings.options_of("transformer", 2.0)["time_patch_size"] == 50
    assert settings.options_of("ridge", 20.0) == {"n_lags": 10}


def test_few_clips_get_as_many_steps():
    usual = settings.recipe("ln", {})
    assert (usual.epochs, usual.batch_size) == (60, 2)
    assert settings.recipe("ln", {}, n_clips=4).epochs == 60 * 8 // 2
    assert settings.recipe("ln", {}, n_clips=100).epochs == 60
    assert settings.recipe("ln", {"batch_size": 4}, n_clips=16).epochs == 120
    assert settings.recipe("ln", {"epochs": 5}, n_clips=4).epochs == 5


# ---- results


@pytest.fixture
def stored(own_folders, small):
    """Two stored fits and a chapter's result."""
    kept = [
        results.fit(
            lambda: models.Linear(small.n_bands, 3, small.n_neurons),
            small,
            recipe=fitting.Recipe(epochs=epochs),
            name=name,
            progress=False,
        )
        for name, epochs in (("one", 1), ("two", 2))
    ]
    provenance = {"datasets": [{"name": "ns1"}], "device": "CPU", "seconds": 3.0, "date": "2026-01-02"}
    results.save("chapter", {"scores": np.zeros((3, 2))}, provenance)
    return [fit.record["key"] for fit in kept]


def test_results_lists_fits_and_chapters(succeeds, stored):
    told = succeeds("results", "--json")
    assert {row["key"] for row in told["fits"]} == set(stored)
    assert told["chapters"] == [
        {"chapter": "chapter", "arrays": 1, "data": "ns1", "device": "CPU", "seconds": 3.0, "date": "2026-01-02"}
    ]
    shown = succeeds("results")
    assert "2 fits in" in shown
    assert all(key in shown for key in stored)


def test_results_of_a_folder(succeeds, tmp_path):
    succeeds("fit", "ridge", *SMALL, "--out", "fits/ridge", "--set", "n_lags=3")
    (row,) = succeeds("results", "list", "fits", "--json")["fits"]
    assert (row["folder"], row["name"], row["epochs"]) == ("fits/ridge", "ridge", 0)
    assert succeeds("results") == f"nothing is stored in {tmp_path / 'results'}\n"


def test_results_show(strflab, succeeds, stored):
    for name in (stored[0], stored[0][:9]):
        assert succeeds("results", "show", name, "--json")["key"] == stored[0]
    assert "one: Linear, " in succeeds("results", "show", stored[0])
    assert "scores  3x2" in succeeds("results", "show", "chapter")
    assert succeeds("results", "show", "chapter", "--json")["provenance"]["device"] == "CPU"
    status, _, err = strflab("results", "show", "")
    assert status == 2
    assert "begins 2 keys" in err


def test_results_compare(strflab, succeeds, stored):
    expected = results.compare(*stored)
    told = succeeds("results", "compare", *stored, "--json")
    assert (told["n"], told["mean_difference"]) == (3, expected.mean_difference)
    assert str(expected) in succeeds("results", "compare", *stored)
    succeeds("fit", "ridge", *SMALL, "--out", "other", "--set", "n_lags=3")
    status, _, err = strflab("results", "compare", stored[0], "other")
    assert status == 2
    assert "scored on different data" in err


def test_results_prune_says_what_it_would_delete_before_it_does(succeeds, stored):
    assert "1 fit, " in (told := succeeds("results", "prune", "--name", "one"))
    assert "would be deleted; give --yes" in told
    assert len(results.fits()) == 2
    assert "no stored fit is meant" in succeeds("results", "prune", "--name", "one", "--before", "2020-01-01", "--yes")
    assert "deleted" in succeeds("results", "prune", "--name", "one", "--yes")
    assert [row["name"] for row in results.fits()] == ["two"]
    succeeds("results", "prune", stored[1], "--yes")
    assert results.fits() == []


# ---- run


@pytest.fixture
def clone(own_folders, tmp_path, monkeypatch):
    """A folder within a clone with two chapters; returns the calls that would run them."""
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "notebooks").mkdir()
    for name in ("01_harper_2016", "02_rahman_2019"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    (tmp_path / "book").mkdir()
    monkeypatch.chdir(tmp_path / "book")
    calls = []

    def run(*arguments, **options):
        calls.append((arguments, options))
        return 0

    monkeypatch.setattr("strflab.book.runs.run", run)
    return calls


def test_run_finds_the_clone_and_the_chapters(strflab, succeeds, clone, tmp_path):
    succeeds("run", "rahman", "01", "--device", "cpu", "--timeout", "60", "--profile", "full")
    (arguments, options), *_ = clone
    assert arguments == (tmp_path, "full", "cpu", 1, 60, ["02_rahman_2019", "01_harper_2016"])
    assert options == {"progress": False}
    for argv, words in ((["0"], "'0' is in the names of 2 notebooks"), (["--timeout", "0"], "--timeout 0")):
        status, _, err = strflab("run", *argv)
        assert (status, words in err) == (2, True)


def test_run_says_that_a_chapter_failed_or_papermill_is_missing(strflab, clone, monkeypatch):
    monkeypatch.setattr("strflab.book.runs.run", lambda *arguments, **options: 1)
    assert strflab("run", "01")[0] == 1
    monkeypatch.setattr(run_command, "find_spec", lambda name: None)
    status, _, err = strflab("run", "01")
    assert (status, 'pip install "strflab[book]"' in err) == (2, True)
