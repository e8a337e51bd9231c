"""What every closed-form estimator shares: its data, its prediction, its score and its parameters.

Receptive fields h of N neurons, F bands and T lags predict, from a spectrogram x with silence (zeros) before it,

    y[n, t] = b[n] + sum_f sum_i h[n, f, T - 1 - i] x[f, t - i],        i = 0 .. T - 1 frames into the past.

Estimators follow scikit-learn's conventions: parameters are stored as given, what is learned ends in an underscore.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab.validation import integer, number


def lags_from_ms(ms: float, dt_ms: float) -> int:
    """Number of lags that cover a history, rounded once and at least 1.

    Parameters
    ----------
    ms : length of the history, in ms.
    dt_ms : length of a frame, in ms.

    >>> lags_from_ms(75, 5), lags_from_ms(0.3 / 0.1 * 5, 1.0)
    (15, 15)
    """
    return max(1, round(number("ms", ms, above=0) / number("dt_ms", dt_ms, above=0)))


def smooth_psth(psth: Sequence[Any], n_frames: int) -> list[np.ndarray]:
    """Smooth responses over time with a Hann window of unit mass, so that the rate keeps its size.

    Near a clip's ends and beside missing frames the window is renormalised to the frames that are there: a constant
    rate stays that constant. Missing frames stay missing.

    Parameters
    ----------
    psth : list of (N, T_k) responses.
    n_frames : full width of the window between its zeros, in frames; 1 changes nothing.

    >>> smooth_psth([np.full((1, 50), 3.0)], 21)[0].round(12).tolist() == [[3.0] * 50]
    True
    """
    integer("n_frames", n_frames)
    window = np.hanning(n_frames + 2)[1:-1]
    out = []
    for y in psth:
        y = np.asarray(y, dtype=np.float64)  # (N, T_k)
        there = np.isfinite(y)
        total, mass = (
            np.apply_along_axis(lambda row: np.convolve(row, window)[n_frames // 2 :][: len(row)], -1, a)
            for a in (np.where(there, y, 0.0), there.astype(np.float64))
        )
        out.append(np.divide(total, mass, out=np.full_like(y, np.nan), where=there))
    return out


class STRFEstimator:
    """Base of the estimators: parameters, `predict` and `score`; a subclass writes `fit` and `_check`."""

    strf_: np.ndarray  # (N, F, T), last tap at lag 0
    intercept_: np.ndarray  # (N,)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name.

        Parameters
        ----------
        deep : accepted as scikit-learn does; there is nothing deeper
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> STRFEstimator:
        """Set constructor arguments by name and return the estimator; an unknown name raises ValueError.

        Parameters
        ----------
        **params : by name
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"unknown parameter {name!r}; allowed: {', '.join(known)}")
            setattr(self, name, value)
        self._check()
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not (value is defaults[name].default or np.array_equal(value, defaults[name].default))
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def predict(self, X: Any) -> list[np.ndarray]:
        """Predict responses to each clip, with silence before it.

        Parameters
        ----------
        X : a dataset, or a list of (F, T_k) spectrograms.

        Returns a list of (N, T_k) rates, in the unit of the responses that were fitted.
        """
        self._check_fitted()
        stimuli, _ = as_clips(X)
        if stimuli[0].shape[0] != self.strf_.shape[1]:
            raise ValueError(f"X has {stimuli[0].shape[0]} bands; the receptive fields have {self.strf_.shape[1]}")
        strf = torch.from_numpy(self.strf_)
        return [causal_filter(x.double(), strf).numpy() + self.intercept_[:, None] for x in stimuli]

    def score(self, X: Any, Y: Any = None, metric: str | Callable = "corrcoef") -> np.ndarray:
        """Score the prediction of each neuron over all clips.

        Parameters
        ----------
        X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses.
        metric : name of a function of `strflab.metrics`, or a function of lists (prediction, response); those
            that need repeats, such as "normalized_corrcoef", need them in the response.

        Returns (N,) scores; an estimator with `edges="valid"` is scored on the frames that it is fitted on.
        """
        from strflab import metrics

        if isinstance(metric, str) and not hasattr(metrics, metric):
            raise ValueError(f"metric must be a function of strflab.metrics, got {metric!r}")
        function = getattr(metrics, metric) if isinstance(metric, str) else metric
        responses = X.responses if Y is None else Y
        skip = self.skipped_frames
        prediction = [p[:, skip:] for p in self.predict(X)]
        response = [_as_tensor(y)[..., skip:].double().numpy() for y in responses]
        return np.asarray(function(prediction, response))

    @property
    def skipped_frames(self) -> int:
        """Frames at the start of each clip that are neither fitted nor scored."""
        return 0

    def fit(self, X: Any, Y: Any = None) -> STRFEstimator:
        """Fit to a dataset, or to lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses.

        Parameters
        ----------
        X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses
        """
        raise NotImplementedError

    def _check(self) -> None:
        raise NotImplementedError

    def _check_fitted(self) -> None:
        if not hasattr(self, "strf_"):
            raise ValueError(f"this {type(self).__name__} is not fitted yet: call fit first")


def causal_filter(x: Tensor, strf: Tensor) -> Tensor:
    """Apply receptive fields (N, F, T), last tap at lag 0, to a clip (F, frames) that silence precedes: (N, frames).

    Parameters
    ----------
    x : (F, frames)
    strf : (N, F, T)
    """
    n_lags, frames = strf.shape[-1], x.shape[-1]
    y = x.new_zeros(strf.shape[0], frames)
    for lag in range(min(n_lags, frames)):  # a product per lag: no lagged copy of the stimulus
        y[:, lag:].addmm_(strf[:, :, n_lags - 1 - lag], x[:, : frames - lag])
    return y


def as_clips(X: Any, Y: Any = None, responses: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Check stimuli and responses and return them as lists of (F, T_k) and (N, T_k) tensors.

    Repeats (N, R_k, T_k) are averaged over those that are there; a frame that none has stays NaN. Without
    `responses`, the second list is empty.
    """
    if hasattr(X, "stimuli"):
        X, Y = X.stimuli, (X.psth if Y is None else Y)
    stimuli = [_as_tensor(x) for x in X]
    if not stimuli:
        raise ValueError("X must hold at least one clip, got none")
    for k, x in enumerate(stimuli):
        if x.ndim != 2 or x.shape[0] != stimuli[0].shape[0] or x.shape[1] < 1:
            raise ValueError(f"X[{k}] must be (F, T_k) with the same F in every clip, got shape {tuple(x.shape)}")
        if not torch.isfinite(x).all():
            raise ValueError(f"X[{k}] holds NaN or infinity; a stimulus must be finite")
    if not responses:
        return stimuli, []
    if Y is None:
        raise ValueError("Y must be a list of (N, T_k) or (N, R_k, T_k) responses, or X a dataset, got Y=None")
    targets = [y.nanmean(1) if y.ndim == 3 else y for y in map(_as_tensor, Y)]
    if len(targets) != len(stimuli):
        raise ValueError(f"Y must hold one response a clip, got {len(targets)} for {len(stimuli)} clips")
    for k, (x, y) in enumerate(zip(stimuli, targets)):
        if y.ndim != 2 or y.shape[0] != targets[0].shape[0] or y.shape[1] != x.shape[1]:
            raise ValueError(
                f"Y[{k}] must be (N, T_k) or (N, R_k, T_k) with the same N in every clip and T_k = {x.shape[1]}, "
                f"got shape {tuple(y.shape)} after averaging repeats"
            )
        if torch.isinf(y).any():
            raise ValueError(f"Y[{k}] holds infinity; a response must be finite, or NaN where missing")
    return stimuli, targets


def cross_validation_folds(cv: Any, n_clips: int) -> list[np.ndarray]:
    """Turn `cv` into the held-out clips of each fold: an int (every cv-th clip), "loo", or a list of index arrays."""
    if isinstance(cv, str):
        if cv != "loo":
            raise ValueError(f'cv must be an int, "loo" or a list of clip-index arrays, got {cv!r}')
        cv = n_clips
    if isinstance(cv, int | np.integer):
        if not 2 <= cv <= n_clips:
            raise ValueError(f"cv must be between 2 and the number of clips, {n_clips}, got {cv}")
        return [np.arange(n_clips)[k::cv] for k in range(cv)]
    folds = [np.asarray(fold) for fold in cv]
    every = np.concatenate(folds) if folds else np.zeros(0, int)
    if not np.issubdtype(every.dtype, np.integer) or len(folds) < 2 or len(set(every.tolist())) != len(every):
        raise ValueError(f"cv must list at least two folds of integer clip indices without overlap, got {cv!r}")
    if every.min() < 0 or every.max() >= n_clips or any(len(fold) == 0 for fold in folds):
        raise ValueError(f"cv must index clips 0 to {n_clips - 1}, each fold at least one, got {cv!r}")
    return folds


def _as_tensor(a: Any) -> Tensor:
    if not isinstance(a, Tensor):
        a = np.asarray(a)
        a = torch.from_numpy(a if a.flags.writeable else a.copy())
    a = a.detach().cpu()
    return a if a.is_floating_point() else a.float()
