"""Chapter 1's analysis on a small simulated neuron, and each of its measures against a plain one."""

import numpy as np
import pytest

from strflab import data, metrics
from strflab import reverse_correlation as rc
from strflab.papers import theunissen2000 as paper

CLIPS, SHUFFLES, BANDS = 8, 2, {"fine": 4, "coarse": 8}


def neuron(dt_ms, n_bands):
    return data.load(
        "simulated", n_neurons=1, n_clips=CLIPS, seconds=(0.6, 0.8), dt_ms=dt_ms, n_bands=n_bands, n_repeats=3
    )


@pytest.fixture(scope="module")
def fine():
    return neuron(1.0, BANDS["fine"])


@pytest.fixture(scope="module")
def coarse():
    return neuron(5.0, BANDS["coarse"])


@pytest.fixture(scope="module")
def result(fine, coarse):
    return paper.analyse(fine, coarse, n_shuffles=SHUFFLES, n_boot=20)


def test_every_array_that_the_chapter_shows(fine, coarse, result):
    tolerances, levels, lags = 8, 4, 75
    bands, few = BANDS["fine"], BANDS["coarse"]
    points = len(result["noise_ratio"])
    shapes = {
        "fine_frequencies": (bands,),
        "coarse_frequencies": (few,),
        "autocorrelation": (bands // 2, 201),
        "modulation_power": result["modulation_spectral"].shape + result["modulation_temporal"].shape,
        "modulation_temporal": result["modulation_temporal"].shape,
        "modulation_spectral": result["modulation_spectral"].shape,
        "sta": (bands, lags),
        "strf": (bands, lags),
        "tolerance": (1,),
        "significance": (1,),
        "tolerances": (tolerances,),
        "levels": (levels,),
        "information": (tolerances, levels),
        "fields": (tolerances, bands, lags + 25),
        "fields_error": (tolerances, bands, lags + 25),
        "field_lags": (lags + 25,),
        "predictions": (len(paper.ESTIMATORS), sum(coarse.n_frames)),
        "clip_frames": (CLIPS,),
        "scores": (len(paper.ESTIMATORS), 2),
        "scores_low": (len(paper.ESTIMATORS), 2),
        "scores_high": (len(paper.ESTIMATORS), 2),
        "shuffled": (SHUFFLES,),
        "ccmax": (1,),
        "shown_psth": (coarse.n_frames[paper.SHOWN_CLIP],),
        "ridge_strf": (few, 20),
        "drive": (20,),
        "drive_rate": (20,),
        "drive_error": (20,),
        "curve_drive": (100,),
        "curve_rate": (100,),
        "power_train": (points,),
        "power_test": (points,),
        "noise_ratio": (points,),
        "bounds": (2, 4),
    }
    assert {name: np.shape(value) for name, value in result.items()} == shapes
    assert (result["scores_low"] <= result["scores"]).all()
    assert (result["scores"] <= result["scores_high"]).all()
    assert (np.diff(result["drive"]) > 0).all()
    assert (np.diff(result["curve_rate"]) >= 0).all()
    assert result["autocorrelation"][0, 100] == pytest.approx(1.0)


def test_no_array_holds_the_recording(fine, coarse, result):
    for ds in (fine, coarse):
        for sound in ds.stimuli:
            assert not any(np.shape(value)[-2:] == tuple(sound.shape) for value in result.values())


def test_predictions_are_those_of_fits_that_never_saw_the_clip(coarse, result):
    clips = paper.held_out_predictions(result)
    assert [p.shape for p in clips] == [(len(paper.ESTIMATORS), n) for n in coarse.n_frames]
    i = paper.ESTIMATORS.index(paper.RIDGE)
    again = rc.cross_val_predict(paper.estimator(paper.RIDGE, 20), coarse, cv=paper.FOLDS)
    for kept, prediction in zip(clips, again, strict=True):
        np.testing.assert_allclose(kept[i], prediction[0], atol=1e-6)
    r = metrics.corrcoef([p[:, 19:] for p in again], [y[..., 19:] for y in coarse.responses])
    assert result["scores"][i, 0] == pytest.approx(r[0])


def test_estimators_find_what_the_neuron_hears(result):
    average, normalised, ridge, ln = result["scores"][:, 0]
    assert normalised > average
    assert min(ridge, ln) > 0.5
    assert np.abs(result["shuffled"]).max() < 0.5 * ridge


def test_stored_result_is_checked_against_the_recording(fine, coarse, result):
    paper.verify(result, fine, coarse)
    raised = result["scores"].copy()
    raised[paper.ESTIMATORS.index(paper.RIDGE)] += 0.01
    with pytest.raises(ValueError, match="'ridge' do not give their stored scores"):
        paper.verify(result | {"scores": raised}, fine, coarse)
    with pytest.raises(ValueError, match="spike-triggered average is not the recording's"):
        paper.verify(result | {"sta": 1.01 * result["sta"]}, fine, coarse)
    with pytest.raises(ValueError, match="not as long as the recording's clips"):
        paper.verify(result, fine, coarse.select(clips=range(CLIPS - 1)))


def test_scaled_average_has_the_gain_and_offset_that_fit_best(coarse):
    fitted = paper.estimator(paper.STA, 20).fit(coarse)
    drive = np.concatenate(fitted.predict(coarse), 1)[0]
    rate = np.concatenate([y.numpy() for y in coarse.psth], 1)[0]
    slope, offset = np.polyfit(drive, rate, 1)
    assert slope == pytest.approx(1.0, abs=1e-4)
    assert offset == pytest.approx(0.0, abs=1e-4)
    average = rc.spike_triggered_average(coarse, n_lags=20)[0]
    assert np.corrcoef(average.ravel(), fitted.strf_[0].ravel())[0, 1] == pytest.approx(1.0)
