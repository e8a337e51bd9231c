import json
from functools import partial

import numpy as np
import pytest

from strflab import data, metrics, models, report, results
from strflab.fitting import Recipe
from strflab.results import stored_fits

RECIPE = Recipe(epochs=3)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("STRFLAB_PROFILE", raising=False)
    monkeypatch.setenv("STRFLAB_RESULTS", str(tmp_path))


@pytest.fixture(scope="module")
def ds():
    return data.load("simulated", n_neurons=3, n_clips=4, seconds=1.0)


def stored(ds, recipe=RECIPE, n_lags=4, **options):
    build = lambda: models.Linear(ds.n_bands, n_lags, ds.n_neurons)  # noqa: E731
    return results.fit(build, ds, recipe=recipe, progress=False, **options)


def test_second_call_loads_the_first(ds):
    first, second = stored(ds), stored(ds)
    assert not first.stored
    assert second.stored
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.history == second.history
    x = ds.stimuli[0][None, None]
    assert (first.model(x) == second.model(x)).all()
    assert second.record["device"] == "cpu"
    assert second.record["versions"]["torch"]
    assert not stored(ds, refit=True).stored


def test_whatever_decides_the_outcome_is_in_the_key(ds):
    kept = {
        stored(ds).record["key"],
        stored(ds, Recipe(epochs=3, seed=1)).record["key"],
        stored(ds, Recipe(epochs=4)).record["key"],
        stored(ds, n_lags=5).record["key"],
        stored(ds.select(clips=[0, 1, 2])).record["key"],
        stored(ds, test=ds.select(clips=[3])).record["key"],
    }
    assert len(kept) == 6
    assert {row["key"] for row in results.fits()} == kept


def test_scores_that_are_not_reproduced_are_an_error(ds):
    path = results.folder() / "fits" / stored(ds).record["key"] / "fit.json"
    told = json.loads(path.read_text())
    told["scores"][0] += 0.1
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"does not reproduce its own scores.*refit=True"):
        stored(ds)


def test_damaged_fit_is_refused_with_its_path(ds):
    key = stored(ds).record["key"]
    (results.folder() / "fits" / key / "fit.json").write_text("{")
    with pytest.raises(ValueError, match=rf"{key} is damaged"):
        stored(ds)
    with pytest.raises(FileNotFoundError, match="nothing"):
        results.load_fit("nothing")


def test_fits_compare_in_pairs_only_on_the_same_data(ds):
    a, b = stored(ds), stored(ds, Recipe(epochs=6))
    comparison = results.compare(a.record["key"], b)
    assert comparison.mean_difference == pytest.approx(np.nanmean(a.scores - b.scores))
    with pytest.raises(ValueError, match="different data"):
        results.compare(a, stored(ds.select(clips=[0, 1])))


def test_prune_deletes_what_is_not_wanted(ds):
    a, b = stored(ds, name="a"), stored(ds, Recipe(epochs=4), name="b")
    assert results.prune(keep=lambda row: row["name"] == "b") == [a.record["key"]]
    assert [row["name"] for row in results.fits()] == ["b"]
    assert b.record["key"] == results.fits()[0]["key"]


def test_fit_in_a_folder_of_its_own(ds, tmp_path):
    first = stored(ds, keep=False)
    results.save_fit(first, tmp_path / "mine" / "linear")
    (tmp_path / "mine" / "linear" / "notes").mkdir()
    again = results.load_fit(tmp_path / "mine" / "linear")
    np.testing.assert_array_equal(again.scores, first.scores)
    assert again.record == first.record
    assert results.compare(first, again).mean_difference == 0
    assert results.fits() == []
    assert [row["folder"] for row in results.fits(tmp_path / "mine")] == [str(tmp_path / "mine" / "linear")]
    with pytest.raises(FileNotFoundError, match="no stored fit 'none'"):
        results.load_fit(tmp_path / "none")


def test_log_of_a_rate_is_scored_as_a_rate(ds):
    recipe = Recipe(epochs=3, loss="poisson_log")
    kept = stored(ds, recipe)
    rates = [kept.model(x[None, None])[0, :, 0].detach().exp().double().numpy() for x in ds.stimuli]
    expected = metrics.normalized_corrcoef(rates, [y.numpy() for y in ds.responses])
    np.testing.assert_allclose(kept.scores, expected, atol=1e-4)
    assert stored(ds, recipe).stored


def test_model_that_was_fitted_otherwise_has_a_record_too(ds):
    model = models.Linear(ds.n_bands, 4, ds.n_neurons)
    one = results.recorded_fit(model, ds, settings={"estimator": "mine", "alpha": 1})
    other = results.recorded_fit(model, ds, settings={"estimator": "mine", "alpha": 2})
    assert len(one.record["key"]) == 16
    assert one.record["key"] != other.record["key"]
    assert (one.record["name"], one.record["epochs"], one.record["data"]["scored"]["clips"]) == (
        "Linear",
        0,
        ds.n_clips,
    )


# ---- what chapters computed


def recording(ds):
    """The data set under the name of a recording."""
    return data.NeuralDataset(
        stimuli=ds.stimuli, responses=ds.responses, dt_ms=ds.dt_ms, frequencies=ds.frequencies, name="recording"
    )


def test_full_run_on_a_recording_is_kept_and_shown_where_the_recording_is_not(ds):
    fresh = results.recorded("chapter", {"score": [0.5]}, recording(ds), report.setup("full", "cpu"))
    assert not fresh.stored
    shown = results.recorded("chapter", {"score": [0.1]}, ds, report.setup("smoke", "cpu"))
    assert shown.stored
    assert shown["score"].tolist() == [0.5]
    assert shown.provenance["datasets"][0]["name"] == "recording"
    assert results.available() == ["chapter"]


def test_smoke_run_never_replaces_what_is_kept(ds):
    results.recorded("chapter", {"score": [0.5]}, recording(ds), report.setup("full", "cpu"))
    results.recorded("chapter", {"score": [0.1]}, recording(ds), report.setup("smoke", "cpu"))
    assert results.load("chapter")["score"].tolist() == [0.5]


def test_missing_and_damaged_results_are_told_apart(ds):
    with pytest.raises(FileNotFoundError, match="chapter"):
        results.load("chapter")
    path = results.save("chapter", {"a": np.arange(3)}, {})
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        results.load("chapter")
    with pytest.raises(ValueError, match="name="):
        results.save("../chapter", {}, {})
    results.save("chapter", {"a": np.arange(3)}, {})
    with pytest.raises(KeyError, match="it holds a"):
        results.load("chapter")["b"]


def test_many_fits_are_those_of_one_by_one_and_are_kept(ds):
    build = partial(models.Linear, ds.n_bands, 4, ds.n_neurons)
    wanted = [{"build": build, "train": ds, "recipe": Recipe(epochs=2, seed=seed)} for seed in range(3)]
    kept = results.fit_all(wanted, n_jobs=2, progress=False)
    assert [k.stored for k in kept] == [False] * 3
    again = [results.fit(**arguments, progress=False) for arguments in wanted]
    assert [k.stored for k in again] == [True] * 3
    for first, second in zip(kept, again, strict=True):
        np.testing.assert_array_equal(first.scores, second.scores)


def test_what_is_kept_is_read_without_a_worker(ds, monkeypatch):
    build = partial(models.Linear, ds.n_bands, 4, ds.n_neurons)
    wanted = [{"build": build, "train": ds, "recipe": Recipe(epochs=2, seed=seed)} for seed in range(3)]
    results.fit_all(wanted[:2], n_jobs=1, progress=False)
    monkeypatch.setattr(stored_fits, "_fit_with", None)  # what a worker would call
    kept = results.fit_all([wanted[2], *wanted[:2]], n_jobs=2, progress=False)
    assert [k.stored for k in kept] == [False, True, True]
    assert [k.record["recipe"]["seed"] for k in kept] == [2, 0, 1]
    again = results.fit_all(wanted, n_jobs=2, progress=False)
    assert [k.stored for k in again] == [True] * 3


class TestComputed:
    """What takes long is computed once, on the recording."""

    @pytest.fixture
    def recording(self, ds):
        ds = ds.select(clips=[0, 1])
        ds.name = "made"
        return ds

    @pytest.fixture
    def calls(self):
        return []

    def ask(self, recording, calls, profile="full", **options):
        def compute():
            calls.append(1)
            return {"x": np.arange(3.0)}

        return results.computed("r", compute, recording, report.setup(profile, "cpu"), **options)

    def test_once_in_a_full_run_and_then_read_in_any(self, recording, calls):
        assert not self.ask(recording, calls).stored
        for profile in ("full", "smoke"):
            kept = self.ask(recording, calls, profile)
            assert kept.stored
            assert not kept.absent
            assert kept.provenance["datasets"][0]["name"] == "made"
        assert len(calls) == 1
        np.testing.assert_array_equal(kept["x"], [0, 1, 2])

    def test_again_for_other_data_another_version_or_on_request(self, recording, calls):
        self.ask(recording, calls)
        self.ask(recording.select(clips=[0]), calls)
        self.ask(recording, calls, version=2)
        self.ask(recording, calls, "smoke", version=2, refit=True)
        assert len(calls) == 4

    def test_a_smoke_run_computes_nothing_and_shows_nothing_that_does_not_belong(self, recording, calls):
        with pytest.raises(FileNotFoundError, match="no result 'r'"):
            self.ask(recording, calls, "smoke")
        self.ask(recording, calls)
        with pytest.raises(ValueError, match=r"another version.*profile='full'"):
            self.ask(recording, calls, "smoke", version=2)
        assert len(calls) == 1

    def test_without_the_recording_the_stored_result_is_shown_as_such(self, ds, recording, calls, capsys):
        self.ask(recording, calls)
        kept = self.ask(ds, calls)
        assert kept.stored
        assert kept.absent
        assert "The recording is not here" in capsys.readouterr().out
        assert report.record(report.setup("smoke", "cpu"), kept)["absent"]
        assert len(calls) == 1

    def test_what_is_stored_is_verified(self, recording, calls):
        def verify(kept, ds):
            raise ValueError(f"{kept.name} does not follow from {ds.name}")

        self.ask(recording, calls, verify=verify)
        with pytest.raises(ValueError, match="r does not follow from made"):
            self.ask(recording, calls, "smoke", verify=verify)
