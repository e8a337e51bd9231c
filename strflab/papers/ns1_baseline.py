"""The NS1 baseline: how far closed-form models get, by the length of the history that they see.

Ridge with a penalty a unit by 8-fold cross-validation over the 16 training clips, then a sigmoid fitted to its output;
scored by CCnorm over the four test clips of Harper et al. 2016 (doi 10.1371/journal.pcbi.1005113), concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strflab import metrics
from strflab import reverse_correlation as rc
from strflab.data import NeuralDataset, ns1

HISTORIES_MS = (25, 50, 100, 200)
FOLDS = 8
EXTRAPOLATED_MS = 100  # history of the fields whose power is extrapolated to zero noise
NOISIEST = 2.0  # noise power of a unit's PSTH over its signal power, up to which it takes part


def fit(train: NeuralDataset, history_ms: float) -> rc.LinearNonlinearSTRF:
    """Return the linear-nonlinear model of every unit for this much history.

    Parameters
    ----------
    train : clips to fit and to choose penalties by
    history_ms : of the filters, ms
    """
    n_lags = rc.lags_from_ms(history_ms, train.dt_ms)
    alphas = 10.0 ** np.arange(1, 7.5, 0.5)
    return rc.LinearNonlinearSTRF(rc.RidgeSTRF(n_lags=n_lags, alphas=alphas, cv=FOLDS, edges="valid"), "sigmoid").fit(
        train
    )


def score(estimator: rc.STRFEstimator, test: NeuralDataset) -> np.ndarray:
    """Return CCnorm (N,) on the frames whose whole history was heard.

    Parameters
    ----------
    estimator : fitted
    test : clips that it was not fitted to
    """
    skip = estimator.skipped_frames
    predictions = [p[:, skip:] for p in estimator.predict(test)]
    return np.asarray(metrics.normalized_corrcoef(predictions, [r[..., skip:].numpy() for r in test.responses]))


def analyse(ds: NeuralDataset, histories_ms: Sequence[float] = HISTORIES_MS, n_shown: int = 8) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter: scores of both models by history, and the fields of the best units.

    Parameters
    ----------
    ds : NS1, or the set that stands in for it
    histories_ms : to compare, ms
    n_shown : units whose fields are kept
    """
    train, test = ns1.paper_split(ds)
    linear, nonlinear = [], []
    for history in histories_ms:
        fitted = fit(train, history)
        linear.append(score(fitted.linear, test))
        nonlinear.append(score(fitted, test))
    shown = np.argsort(-np.nan_to_num(nonlinear[-1]))[:n_shown]
    return {
        "histories_ms": np.array(histories_ms, float),
        "linear": np.stack(linear),  # (histories, N)
        "nonlinear": np.stack(nonlinear),
        "shown": shown,
        "shown_strfs": fitted.linear.strf_[shown].astype(np.float32),
        "frequencies": ds.frequencies,
        "ccmax": test.ccmax,
        "best_psth": test.psth[0][shown[0]].numpy(),
        "best_linear": fitted.linear.predict(test)[0][shown[0]],
        "best_nonlinear": fitted.predict(test)[0][shown[0]],
    } | _explainable(ds)


def _explainable(ds: NeuralDataset) -> dict[str, np.ndarray]:
    """Predictive power of linear fields against noise over the population, and the lines to zero noise."""
    ridge = rc.RidgeSTRF(n_lags=rc.lags_from_ms(EXTRAPOLATED_MS, ds.dt_ms), cv=4, edges="valid")
    points = rc.predictive_power(ridge, ds, cv=4)
    train, test, noise = points.npp_train[0], points.npp_test[0], points.noise_ratio[0]
    used = np.isfinite(noise) & (noise < NOISIEST)
    lines = rc.extrapolate(train[used], test[used], noise[used])
    return {
        "power_train": train,
        "power_test": test,
        "noise_ratio": noise,
        "bounds": np.array([[b.intercept, b.slope, *b.intercept_interval] for b in (lines.lower, lines.upper)]),
    }
