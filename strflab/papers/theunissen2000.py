"""The analysis of chapter 1: normalised reverse correlation of one neuron's answers to song.

Theunissen, Sen & Doupe 2000, doi 10.1523/JNEUROSCI.20-06-02315.2000; Sahani & Linden 2003 for the extrapolation to a
noiseless recording. `analyse` computes all that the chapter draws and judges, as named arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strflab import metrics
from strflab import reverse_correlation as rc
from strflab.data import NeuralDataset
from strflab.reverse_correlation.base import as_clips

VERSION = 1
HISTORY_MS = 75  # of the normalised STRF, at 1 ms
ACAUSAL_MS = 25  # after the spike, where a filter has no business
RIDGE_HISTORY_MS = 100  # of the STRFs that predict, at 5 ms
FOLDS = 5
SHOWN_CLIP = 3
TOLERANCE = 1e-3  # between a stored score and that of the stored predictions
STA, NRC, RIDGE, LN = "spike-triggered average", "normalised", "ridge", "ridge + sigmoid"
ESTIMATORS = (STA, NRC, RIDGE, LN)


def estimator(name: str, n_lags: int) -> rc.STRFEstimator:
    """Return one of `ESTIMATORS`; each chooses its own penalty on the clips that it is given.

    Where a clip begins, the silence put before it would tell the time since its onset, which also a wrong song has:
    ridge leaves out each clip's first frames.

    Parameters
    ----------
    name : a key of `ESTIMATORS`
    n_lags : frames of history
    """
    if name == STA:
        return _ScaledAverage(n_lags)
    if name == NRC:
        return rc.NormalizedReverseCorrelation(n_lags, scoring="correlation")
    ridge = rc.RidgeSTRF(n_lags=n_lags, cv=FOLDS, edges="valid")
    return ridge if name == RIDGE else rc.LinearNonlinearSTRF(ridge, "sigmoid")


class _ScaledAverage(rc.STRFEstimator):
    """The spike-triggered average as a filter, with the gain and offset that fit the response best."""

    def __init__(self, n_lags: int) -> None:
        self.n_lags = n_lags

    def fit(self, X: Any, Y: Any = None) -> _ScaledAverage:
        stimuli, responses = as_clips(X, Y, responses=True)
        self.strf_ = rc.spike_triggered_average(stimuli, responses, n_lags=self.n_lags)
        self.intercept_ = np.zeros(len(self.strf_))
        drive, rate = np.concatenate(self.predict(stimuli), 1)[0], np.concatenate(responses, 1)[0]
        gain = np.cov(drive, rate)[0, 1] / drive.var(ddof=1)
        self.strf_ *= gain
        self.intercept_ += rate.mean() - gain * drive.mean()
        return self


def analyse(
    fine: NeuralDataset, coarse: NeuralDataset, n_shuffles: int = 19, n_boot: int = 200, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter: what its figures draw and its claims judge, but no sound.

    Parameters
    ----------
    fine : one neuron in frames of 1 ms, the lab's spectrogram: what the STRFs are drawn from
    coarse : the same in frames of 5 ms, log-spaced bands: what predictions are scored on
    n_shuffles : pairings of responses with the wrong sound
    n_boot : draws of clips for the intervals of the scores
    seed : of all that is drawn at random
    """
    return (
        {"fine_frequencies": fine.frequencies, "coarse_frequencies": coarse.frequencies}
        | _statistics(fine)
        | _fields(fine)
        | _predictions(coarse, n_shuffles, n_boot, seed)
        | _extrapolation(coarse, seed)
    )


def verify(result: Mapping[str, Any], fine: NeuralDataset, coarse: NeuralDataset) -> None:
    """Average the sound before each spike again, and score the stored predictions again.

    Parameters
    ----------
    result : what `analyse` returned
    fine, coarse : the recording that it was given

    Raises
    ------
    ValueError : they do not give what is stored
    """
    again = rc.spike_triggered_average(fine, n_lags=result["sta"].shape[1])[0]
    if again.shape != result["sta"].shape or not np.allclose(again, result["sta"], atol=1e-5 * np.abs(again).max()):
        raise ValueError("the stored spike-triggered average is not the recording's: run the chapter with refit=True")
    clips = held_out_predictions(result)
    if [p.shape[1] for p in clips] != list(coarse.n_frames):
        raise ValueError("stored predictions are not as long as the recording's clips: run the chapter with refit=True")
    skip = rc.lags_from_ms(RIDGE_HISTORY_MS, coarse.dt_ms) - 1
    responses = [r[..., skip:].numpy() for r in coarse.responses]
    for i, name in enumerate(ESTIMATORS):
        score = _scores([p[i : i + 1, skip:] for p in clips], responses)
        if not np.allclose(score, result["scores"][i], atol=TOLERANCE, equal_nan=True):
            off = np.nanmax(np.abs(score - result["scores"][i]))
            raise ValueError(
                f"stored predictions of {name!r} do not give their stored scores (off by {off:.2g}): run the chapter "
                "with refit=True"
            )


def held_out_predictions(result: Mapping[str, Any]) -> list[np.ndarray]:
    """Return what each of `ESTIMATORS` predicts for each clip, from the other folds: (4, T_k) spikes per bin.

    Parameters
    ----------
    result : of `analyse`
    """
    return np.split(result["predictions"], np.cumsum(result["clip_frames"])[:-1], axis=1)


def _statistics(ds: NeuralDataset) -> dict[str, np.ndarray]:
    """The second-order statistics of the sounds."""
    spectrum = rc.modulation_spectrum(ds, ds.dt_ms, ds.frequencies)
    covariance = rc.stimulus_autocorrelation(ds, 1 + round(100 / ds.dt_ms))  # (F, F, lags)
    scale = np.sqrt(covariance[..., covariance.shape[-1] // 2].diagonal())
    correlation = covariance / (scale[:, None, None] * scale[:, None])
    bands = len(ds.frequencies)
    by_distance = np.stack([correlation.diagonal(d).mean(-1) for d in range(bands // 2)])  # (distance, lags)
    return {
        "autocorrelation": by_distance,
        "modulation_power": spectrum.power,
        "modulation_temporal": spectrum.temporal,
        "modulation_spectral": spectrum.spectral,
    }


def _fields(ds: NeuralDataset) -> dict[str, np.ndarray]:
    """The spike-triggered average and the normalised STRF at every tolerance."""
    n_lags, n_acausal = rc.lags_from_ms(HISTORY_MS, ds.dt_ms), round(ACAUSAL_MS / ds.dt_ms)
    nrc = rc.NormalizedReverseCorrelation(n_lags=n_lags, n_acausal=n_acausal).fit(ds)
    return {
        "sta": rc.spike_triggered_average(ds, n_lags=n_lags)[0],
        "strf": nrc.strf_[0],
        "tolerance": nrc.tolerance_,
        "significance": nrc.significance_,
        "tolerances": np.array(nrc.tolerances),
        "levels": np.array(nrc.significance, float),
        "information": nrc.cv_scores_[..., 0],
        "fields": nrc.filters_[:, 0].astype(np.float32),
        "fields_error": nrc.filters_standard_error_[:, 0].astype(np.float32),
        "field_lags": nrc.lags_,
    }


def _predictions(ds: NeuralDataset, n_shuffles: int, n_boot: int, seed: int) -> dict[str, np.ndarray]:
    """Held-out scores of each estimator, with the right song and with wrong ones."""
    n_lags = rc.lags_from_ms(RIDGE_HISTORY_MS, ds.dt_ms)
    skip = n_lags - 1
    responses = [r[..., skip:].numpy() for r in ds.responses]
    every, scores, spread = [], [], []
    for name in ESTIMATORS:
        held_out = rc.cross_val_predict(estimator(name, n_lags), ds, cv=FOLDS)
        scored = [p[:, skip:] for p in held_out]
        scores.append(_scores(scored, responses))
        spread.append(_bootstrap(scored, responses, n_boot, seed))
        every.append(np.concatenate(held_out, 1)[0])
    rng = np.random.default_rng(seed)
    wrong = [_wrong_song(ds, 1 + i % (ds.n_clips - 1), rng) for i in range(n_shuffles)]
    shuffled = [
        metrics.corrcoef(
            [p[:, skip:] for p in rc.cross_val_predict(estimator(RIDGE, n_lags), x, y, cv=FOLDS)],
            [r[:, skip:] for r in y],
        )
        for x, y in wrong
    ]
    fitted = rc.LinearNonlinearSTRF(estimator(RIDGE, n_lags), "sigmoid").fit(ds)
    drive = [p[0, skip:] for p in fitted.linear.predict(ds)]
    return (
        {
            "predictions": np.array(every, np.float32),  # (estimators, frames of all clips)
            "clip_frames": np.array(ds.n_frames),
            "scores": np.array(scores),  # (estimators, 2): r and CCnorm
            "scores_low": np.array(spread)[:, 0],
            "scores_high": np.array(spread)[:, 1],
            "shuffled": np.concatenate(shuffled),
            "ccmax": ds.ccmax,
            "shown_psth": ds.psth[SHOWN_CLIP][0].numpy(),
            "ridge_strf": fitted.linear.strf_[0],
        }
        | _nonlinearity(np.concatenate(drive), np.concatenate([y[0, skip:].numpy() for y in ds.psth]), fitted)
    )


def _nonlinearity(drive: np.ndarray, rate: np.ndarray, fitted: rc.LinearNonlinearSTRF) -> dict[str, np.ndarray]:
    """The mean rate in twenty equally filled bins of the linear drive, and the fitted curve."""
    edges = np.quantile(drive, np.linspace(0, 1, 21))
    which = np.clip(np.searchsorted(edges, drive, side="right") - 1, 0, 19)
    groups = [rate[which == i] for i in range(20)]
    grid = np.linspace(edges[0], edges[-1], 100)
    return {
        "drive": np.array([drive[which == i].mean() for i in range(20)]),
        "drive_rate": np.array([g.mean() for g in groups]),
        "drive_error": np.array([g.std(ddof=1) / np.sqrt(len(g)) for g in groups]),
        "curve_drive": grid,
        "curve_rate": fitted.nonlinearity_.predict(grid[None])[0],
    }


def _extrapolation(ds: NeuralDataset, seed: int) -> dict[str, np.ndarray]:
    """Predictive power against noise as repeats are left out, and the lines to zero noise."""
    ridge = estimator(RIDGE, rc.lags_from_ms(RIDGE_HISTORY_MS, ds.dt_ms))
    most = min(r.shape[1] for r in ds.responses)
    repeats = [n for n in (2, 3, 4, 6, 8) if n < most] + [most]
    points = rc.predictive_power(ridge, ds, n_repeats=repeats, n_draws=3, cv=FOLDS, seed=seed)
    train, test, noise = points.npp_train[:, 0], points.npp_test[:, 0], points.noise_ratio[:, 0]
    lines = rc.extrapolate(train, test, noise, seed=seed)
    return {
        "power_train": train,
        "power_test": test,
        "noise_ratio": noise,
        "bounds": np.array([[b.intercept, b.slope, *b.intercept_interval] for b in (lines.lower, lines.upper)]),
    }


def _wrong_song(ds: NeuralDataset, step: int, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Each response beside the song `step` clips on, turned round by a random time, both cut to the shorter."""
    stimuli, responses = [], []
    for k in range(ds.n_clips):
        x, y = ds.stimuli[(k + step) % ds.n_clips].numpy(), ds.psth[k].numpy()
        n = min(x.shape[1], y.shape[1])
        stimuli.append(np.roll(x[:, :n], int(rng.integers(n // 4, 3 * n // 4)), axis=1))
        responses.append(y[:, :n])
    return stimuli, responses


def _scores(predictions: Sequence[ArrayLike], responses: Sequence[ArrayLike]) -> tuple[float, float]:
    """r with the PSTH, and CCnorm."""
    r, normalized = (f(predictions, responses)[0] for f in (metrics.corrcoef, metrics.normalized_corrcoef))
    return float(r), float(normalized)


def _bootstrap(predictions: list[np.ndarray], responses: list[np.ndarray], n_boot: int, seed: int) -> np.ndarray:
    """(2, 2) ends of the 95 % interval of both scores over clips."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(responses), size=(n_boot, len(responses)))
    values = [_scores([predictions[k] for k in draw], [responses[k] for k in draw]) for draw in draws]
    return np.nanpercentile(values, [2.5, 97.5], axis=0)
