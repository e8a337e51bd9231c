"""`strflab fit`: what it fits, what it leaves in the folder, and that it goes on where it was interrupted."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest

from strflab import data, fitting, metrics, models, results
from strflab.cli import settings
from strflab.papers import population
from strflab.reverse_correlation import RidgeSTRF

SMALL = ["--data", "simulated", "--load", "n_neurons=3", "n_clips=6", "seconds=1", "n_bands=12"]
OUTSIDE = {name: os.environ.get(name) for name in ("STRFLAB_DATA", "STRFLAB_CACHE")}  # where recordings may be
QUICK = ["--recipe", "epochs=2", "--device", "cpu"]


@pytest.fixture
def small():
    """The data set that SMALL means."""
    return data.load("simulated", n_neurons=3, n_clips=6, seconds=1, n_bands=12)


def test_fit_leaves_a_model_its_scores_and_what_was_done(succeeds, small, tmp_path):
    told = succeeds("fit", "gru", *SMALL, "--out", "fits/gru", *QUICK, "--seed", "3")
    folder = tmp_path / "fits" / "gru"
    files = {"config.json", "model.safetensors", "fit.json", "scores.csv", "history.csv", "receptive_fields.png"}
    assert {path.name for path in folder.iterdir()} == files
    kept = results.load_fit(folder)
    assert kept.record["recipe"]["seed"] == 3
    assert kept.record["clips"] == {"train": "0-3,5", "validation": "", "test": "4"}
    assert len(kept.history) == 2
    test = small.select(clips=[4])
    model = models.from_pretrained(folder)
    rate = model(test.stimuli[0][None, None])[0, :, 0].detach().double().numpy()
    expected = np.asarray(metrics.normalized_corrcoef([rate], [test.responses[0].numpy()]))
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["ccnorm"]) for row in rows], expected, atol=1e-4)
    np.testing.assert_allclose([float(row["ccmax"]) for row in rows], test.ccmax, atol=1e-6)
    assert f"mean {np.mean(expected):.3f}" in told
    assert (folder / "receptive_fields.png").read_bytes().startswith(b"\x89PNG")


def test_fit_with_a_seed_is_repeatable_and_an_old_fit_is_kept(strflab, succeeds):
    again = ["fit", "ln", *SMALL, *QUICK, "--out"]
    first = succeeds(*again, "a", "--json")
    assert succeeds(*again, "b", "--json")["summary"] == first["summary"]
    status, _, err = strflab(*again, "a")
    assert status == 2
    assert "--out a: holds a fit; choose another folder, or give --force" in err
    assert succeeds(*again, "a", "--force", "--seed", "1", "--json")["key"] != first["key"]


def test_interrupted_fit_goes_on_where_it_stopped(strflab, succeeds, tmp_path, monkeypatch):
    command = ["fit", "ln", *SMALL, "--recipe", "epochs=4", "--device", "cpu", "--out"]
    whole = succeeds(*command, "whole", "--json")
    save = fitting.Checkpoint.save

    def save_and_stop(self, state):
        self._saved_at = -np.inf
        save(self, state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Checkpoint, "save", save_and_stop)
        status, out, err = strflab(*command, "cut")
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "strflab fit: interrupted; the same command goes on where it stopped"
    assert (tmp_path / "cut" / "checkpoint").is_dir()
    trained = []
    monkeypatch.setattr(fitting.Checkpoint, "save", lambda self, state: trained.append(state.epoch))
    assert succeeds(*command, "cut", "--json")["summary"] == whole["summary"]
    assert trained == [3, 4]
    assert not (tmp_path / "cut" / "checkpoint").exists()


def test_ridge_is_kept_as_the_linear_model_that_it_is(succeeds, small, tmp_path):
    succeeds("fit", "ridge", *SMALL, "--out", "ridge", "--set", "n_lags=6", "cv=3", "--test-clips", "1,2")
    train, test = small.select(clips=[0, 3, 4, 5]), small.select(clips=[1, 2])
    ridge = RidgeSTRF(n_lags=6, cv=3).fit(train)
    kept = results.load_fit(tmp_path / "ridge")
    np.testing.assert_allclose(
        kept.model(test.stimuli[0][None, None])[0, :, 0].detach(), ridge.predict(test)[0], atol=1e-5
    )
    np.testing.assert_allclose(kept.scores, ridge.score(test, metric="normalized_corrcoef"), atol=1e-4)
    rows = list(csv.DictReader((tmp_path / "ridge" / "scores.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["penalty"]) for row in rows], ridge.alpha_)


def test_own_arrays_with_one_repeat_and_an_offset(succeeds, small, tmp_path):
    shifted = data.NeuralDataset(
        [50 + 10 * x for x in small.stimuli], [y[:, :1] for y in small.responses], small.dt_ms, small.frequencies
    )
    shifted.save(tmp_path / "mine.npz")
    told = succeeds("fit", "ln", "--arrays", "mine.npz", "--out", "ln", *QUICK, "--neurons", "0,2", "--json")
    assert list(told["summary"]) == ["CC"], "one repeat has no noise ceiling"
    assert told["recipe"]["monitor"] == "corrcoef"
    assert told["stimulus"]["mean"] == pytest.approx(50, abs=3)
    assert told["data"]["train"] | {"fingerprint": ""} == {"name": "mine", "neurons": 2, "clips": 5, "fingerprint": ""}
    rows = list(csv.DictReader((tmp_path / "ln" / "scores.csv").read_text().splitlines()))
    assert [(row["id"], row["ccnorm"]) for row in rows] == [("0", ""), ("2", "")]
    raw = succeeds("fit", "ln", "--arrays", "mine.npz", "--out", "raw", *QUICK, "--no-standardize", "--json")
    assert raw["stimulus"] == {"mean": 0.0, "sd": 1.0}


def test_validation_clips_choose_the_weights(succeeds):
    told = succeeds("fit", "ln", *SMALL, "--out", "a", *QUICK, "--validation-clips", "0,1", "--json")
    assert told["clips"] == {"train": "2-3,5", "validation": "0-1", "test": "4"}
    assert told["data"]["validation"]["clips"] == 2


def test_clips_that_the_recording_sets_apart_are_the_test(succeeds, small, monkeypatch):
    marked = data.NeuralDataset(
        small.stimuli,
        small.responses,
        small.dt_ms,
        small.frequencies,
        clips=[{"id": k, "test": k in (0, 3)} for k in range(6)],
    )
    monkeypatch.setattr(data, "load", lambda name: marked)
    told = succeeds("fit", "ridge", "--data", "simulated", "--out", "a", "--set", "n_lags=3", "--json")
    assert told["clips"] == {"train": "1-2,4-5", "validation": "", "test": "0,3"}


def test_rate_of_a_log_link_is_what_is_scored(succeeds, small, tmp_path):
    log_link = ["--set", "output_activation=identity", "--recipe", "loss=poisson_log", "epochs=3"]
    told = succeeds("fit", "ln", *SMALL, "--out", "a", "--device", "cpu", *log_link, "--json")
    test = small.select(clips=[4])
    rate = models.from_pretrained(tmp_path / "a")(test.stimuli[0][None, None])[0, :, 0].exp().detach().double().numpy()
    expected = np.asarray(metrics.normalized_corrcoef([rate], [test.responses[0].numpy()]))
    assert told["summary"]["CCnorm"]["mean"] == pytest.approx(expected.mean(), abs=1e-4)


@pytest.mark.parametrize("name", models.available())
def test_every_kind_of_network_is_fitted(succeeds, name):
    told = succeeds("fit", name, *SMALL, "--out", name, "--recipe", "epochs=1", "--device", "cpu", "--json")
    assert told["name"] == settings.find(name)
    assert told["epochs"] == 1


def test_two_channels_are_drawn_apart(succeeds, tmp_path):
    succeeds("fit", "ln", *SMALL, "--out", "a", *QUICK, "--set", "prefiltering=adaptrans")
    assert (tmp_path / "a" / "receptive_fields.png").is_file()


def test_recording_is_fitted_as_in_the_chapters(strflab, recordings, monkeypatch):
    """The command means the very fit of chapter 5: same key, so same model, clips, recipe and seed."""
    for name, value in OUTSIDE.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    ds = recordings("ns1", units="all")
    monkeypatch.setattr(data, "load", lambda name, **options: ds)
    train, test = data.ns1.paper_split(ds)
    model = population.build("gru", ds.n_bands, ds.n_neurons)
    asked = []

    def fit(model, train, validation, recipe, **options):
        asked.append(results.fit_key(model, train, validation, test, recipe))
        raise RuntimeError("enough")

    monkeypatch.setattr(fitting, "fit", fit)
    status, _, err = strflab("fit", "gru", "--data", "ns1", "--load", "units=all", "--out", "x", "--device", "cpu")
    assert (status, err.splitlines()[-1]) == (1, "strflab fit: enough")
    assert asked == [results.fit_key(model, train, None, test, population.recipe("gru"))]
