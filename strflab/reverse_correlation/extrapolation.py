"""How much of the explainable response a model class captures: extrapolation to a noiseless recording.

The predictive power of a prediction p of a response y is what it takes off the response's variance P; over the signal
power SP it is

    npp = (P(y) - P(y - p)) / SP,       P(y) - P(y - p) = 2 cov(y, p) - var(p).

On the training data, overfitting to noise raises it; on held-out data, noise in the estimate lowers it. Both effects
grow with the noise and vanish with it, so that lines against NP / SP meet zero noise above and below the power of the
best model of the class.

Sahani & Linden 2003, "How linear are auditory cortical responses?", Advances in Neural Information Processing
Systems 15.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from strflab.reverse_correlation.base import STRFEstimator, as_clips, cross_validation_folds
from strflab.validation import integer, number


@dataclass(frozen=True)
class Line:
    """A straight line with bootstrap intervals.

    Parameters
    ----------
    intercept, intercept_interval : value at zero, with its interval (lower, upper)
    slope, slope_interval : likewise
    """

    intercept: float
    slope: float
    intercept_interval: tuple[float, float]
    slope_interval: tuple[float, float]


@dataclass(frozen=True)
class Extrapolation:
    """Lines of predictive power against noise: at zero noise, `upper` and `lower` bound the model class.

    Parameters
    ----------
    upper : line through the training data
    lower : line through held-out data
    n_points : that the lines go through
    """

    upper: Line  # from the training data
    lower: Line  # from cross-validation
    n_points: int


class PredictivePower(NamedTuple):
    """Points for `extrapolate`, a row a draw of repeats, a column a neuron.

    Parameters
    ----------
    npp_train, npp_test : (points, N) predicted over signal power, of fitted and of held-out data
    noise_ratio : (points, N) NP / (r SP), r the number of repeats drawn
    n_repeats : (points,) r
    """

    npp_train: np.ndarray  # (points, N)
    npp_test: np.ndarray  # (points, N)
    noise_ratio: np.ndarray  # (points, N), NP / (r SP), r the number of repeats drawn
    n_repeats: np.ndarray  # (points,)


def extrapolate(
    npp_train: Any, npp_test: Any, noise_ratio: Any, *, n_bootstrap: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Extrapolation:
    """Fit lines of normalised predictive power against normalised noise power and read them at zero noise.

    Parameters
    ----------
    npp_train, npp_test : (n,) power on training and on held-out data, over signal power; a point is a neuron of a
        population, or a number of repeats of one neuron.
    noise_ratio : (n,) noise power over signal power. Points with a value that is not finite are left out.
    n_bootstrap, confidence, seed : of the intervals, over points.

    Raises ValueError with fewer than three points, or without two different noise ratios.

    >>> noise = np.linspace(1, 10, 30)
    >>> round(extrapolate(0.5 + 0.1 * noise, 0.3 - 0.02 * noise, noise).lower.intercept, 6)
    0.3
    """
    integer("n_bootstrap", n_bootstrap)
    number("confidence", confidence, above=0, at_most=1)
    train, test, noise = (np.asarray(a, dtype=np.float64).ravel() for a in (npp_train, npp_test, noise_ratio))
    if not len(train) == len(test) == len(noise):
        raise ValueError(
            f"npp_train, npp_test and noise_ratio must have one length, got {len(train)}, {len(test)}, {len(noise)}"
        )
    good = np.isfinite(train) & np.isfinite(test) & np.isfinite(noise)
    train, test, noise = train[good], test[good], noise[good]
    if len(noise) < 3 or np.ptp(noise) == 0:
        raise ValueError(f"noise_ratio must hold at least 3 finite points, not all equal, got {noise.tolist()}")
    draws = np.random.default_rng(seed).integers(len(noise), size=(n_bootstrap, len(noise)))
    tail = 50 * (1 - confidence)

    def line(power: np.ndarray) -> Line:
        slope, intercept = _regress(noise, power)
        slopes, intercepts = _regress(noise[draws], power[draws])
        spans = (tuple(np.nanpercentile(a, [tail, 100 - tail]).tolist()) for a in (intercepts, slopes))
        return Line(float(intercept), float(slope), *spans)

    return Extrapolation(upper=line(train), lower=line(test), n_points=len(noise))


def predictive_power(
    estimator: STRFEstimator,
    X: Any,
    Y: Any = None,
    *,
    n_repeats: Sequence[int] | None = None,
    n_draws: int = 4,
    cv: Any = 5,
    seed: int = 0,
) -> PredictivePower:
    """Measure normalised predictive power on training and held-out clips, with all or some of the repeats.

    With all repeats the neurons of a population are the points of the extrapolation: `npp_train[0]`, .. With
    several numbers of repeats each neuron has its own points: `npp_train[:, n]`, .. Signal and noise power always
    come from all repeats.

    Parameters
    ----------
    estimator : what to fit; a copy is fitted, the argument stays as it is.
    X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, R_k, T_k) responses.
    n_repeats : numbers of repeats to draw, each at most the fewest of any clip; None: all.
    n_draws : random draws of each number of repeats.
    cv : folds over clips, as for `RidgeSTRF`; training power is the mean over folds.
    seed : of the draws.
    """
    from strflab import metrics

    stimuli, psths = as_clips(X, Y, responses=True)
    responses = [np.asarray(y, dtype=np.float64) for y in (X.responses if Y is None else Y)]
    if any(y.ndim != 3 for y in responses):
        raise ValueError("Y must hold repeats, (N, R_k, T_k), to tell signal from noise power")
    fewest = min(y.shape[1] for y in responses)
    for r in n_repeats or ():
        integer("n_repeats", r, maximum=fewest)
    signal, noise = (np.asarray(power(responses)) for power in (metrics.signal_power, metrics.noise_power))
    signal = np.where(signal > 0, signal, np.nan)
    rng = np.random.default_rng(seed)
    folds = cross_validation_folds(cv, len(stimuli))
    rows: list[tuple] = []
    if n_repeats is None:
        counts = np.mean([np.isfinite(y).any(2).sum(1) for y in responses], axis=0)  # (N,)
        train, test = _powers(estimator, stimuli, [y.double().numpy() for y in psths], folds)
        rows.append((train / signal, test / signal, noise / (counts * signal), fewest))
    for r in n_repeats or ():
        for _ in range(1 if all(y.shape[1] == r for y in responses) else n_draws):
            drawn = [y[:, rng.choice(y.shape[1], r, replace=False)] for y in responses]
            _, psths = as_clips(stimuli, drawn, responses=True)
            train, test = _powers(estimator, stimuli, [y.double().numpy() for y in psths], folds)
            rows.append((train / signal, test / signal, noise / (r * signal), r))
    return PredictivePower(*(np.array(column) for column in zip(*rows)))


def _powers(estimator: STRFEstimator, stimuli: list, psths: list, folds: list) -> tuple[np.ndarray, np.ndarray]:
    """Predictive power (N,) on the training clips, mean over folds, and on all held-out clips together."""
    train, held_out_responses, held_out_predictions = [], [], []
    skip = estimator.skipped_frames
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(stimuli)), fold)
        fitted = copy.deepcopy(estimator).fit([stimuli[k] for k in rest], [psths[k] for k in rest])
        predictions = [p[:, skip:] for p in fitted.predict(stimuli)]
        train.append(_power([psths[k][:, skip:] for k in rest], [predictions[k] for k in rest]))
        held_out_responses += [psths[k][:, skip:] for k in fold]
        held_out_predictions += [predictions[k] for k in fold]
    return np.mean(train, axis=0), _power(held_out_responses, held_out_predictions)


def _power(responses: list, predictions: list) -> np.ndarray:
    y, p = np.concatenate(responses, 1), np.concatenate(predictions, 1)
    return np.nanvar(y, axis=1) - np.nanvar(y - p, axis=1)


def _regress(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept along the last axis, NaN where x does not vary."""
    dx = x - x.mean(-1, keepdims=True)
    variance = (dx**2).sum(-1)
    slope = (dx * y).sum(-1) / np.where(variance > 0, variance, np.nan)
    return slope, y.mean(-1) - slope * x.mean(-1)
