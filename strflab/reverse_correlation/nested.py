"""Nested cross-validation: every clip is predicted by a fit that never saw it, penalties included."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from strflab.reverse_correlation.base import STRFEstimator, as_clips, cross_validation_folds


def cross_val_predict(estimator: STRFEstimator, X: Any, Y: Any = None, *, cv: Any = "loo") -> list[np.ndarray]:
    """Return a held-out prediction of each clip.

    The estimator chooses its penalty within the clips that it is given, so the choice is nested: what is predicted
    took part in nothing.

    Parameters
    ----------
    estimator : what to fit; copies are fitted, the argument stays as it is.
    X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses.
    cv : "loo", a number of folds or a list of arrays of clip indices.

    Returns
    -------
    list of (N, T_k) predicted rates, spikes per bin; NaN for clips that are in no fold

    >>> from strflab.reverse_correlation import RidgeSTRF
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.normal(size=(3, 200)) for _ in range(6)]
    >>> held_out = cross_val_predict(RidgeSTRF(n_lags=2, cv=3), x, [clip[:1] for clip in x], cv=3)
    >>> bool(np.corrcoef(held_out[0][0], x[0][0])[0, 1] > 0.99)
    True
    """
    stimuli, responses = as_clips(X, Y, responses=True)
    predictions: list[np.ndarray] = [np.full(y.shape, np.nan) for y in responses]
    for held_out in cross_validation_folds(cv, len(stimuli)):
        learn = np.setdiff1d(np.arange(len(stimuli)), held_out)
        fitted = copy.deepcopy(estimator).fit([stimuli[k] for k in learn], [responses[k] for k in learn])
        for k, prediction in zip(held_out, fitted.predict([stimuli[k] for k in held_out])):
            predictions[k] = prediction
    return predictions
