"""Other libraries, where they are installed: the same models and estimators, for the same work in the same run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def has(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(name) is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, what a peer prints or warns of is dropped."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def deepstrf(model: str, n_bands: int, n_neurons: int, **options: Any) -> Any:
    """A model of deepSTRF; `adaptrans_dt_ms` puts its AdapTrans before the model.

    >>> has("deepSTRF") and deepstrf("Linear", 34, 119).out_neurons or 119
    119
    """
    with quiet():
        from deepSTRF.models.audio import audio_zoo
        from deepSTRF.models.prefiltering import make_prefiltering

        dt_ms = options.pop("adaptrans_dt_ms", None)
        if dt_ms is not None:
            options["prefiltering"] = make_prefiltering("adaptrans", n_bands, dt_ms)
        return getattr(audio_zoo, model)(n_frequency_bands=n_bands, out_neurons=n_neurons, **options)


def deepstrf_epochs(model: torch.nn.Module, train: list[dict], validation: list[dict], batch: int, epochs: int) -> None:
    """Epochs of deepSTRF's own loop with its own scores; clips are {"stims": (1, F, T), "responses": (N, R, T)}."""
    from torch.utils.data import DataLoader

    with quiet():
        from deepSTRF.training.fitter import Fitter

        def joined(clips: list[dict]) -> dict[str, Tensor]:
            return {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}

        loaders = [DataLoader(clips, batch, shuffle=clips is train, collate_fn=joined) for clips in (train, validation)]
        Fitter(
            model,
            *loaders,
            max_epochs=epochs,
            patience=epochs,
            track_train_metrics=False,
            log_fn=lambda record: None,
        ).fit()


def deepstrf_scores(rate: Tensor, response: Tensor) -> None:
    """Those of our scores that deepSTRF has: CC, FVE, signal and noise power, SNR, CCnorm, split-half CCmax."""
    with quiet():
        from deepSTRF.metrics import performance as peer

        psth = response.nanmean(2, keepdim=True)
        peer.corrcoef(rate, psth, reduction="none")
        peer.fve(rate, psth, reduction="none")
        for power in (peer.signal_power, peer.noise_power, peer.snr):
            power(response, reduction="none")
        peer.normalized_corrcoef(rate, response, reduction="none")
        peer.normalized_corrcoef(rate, response, method="hsu", reduction="none")  # holds the split halves


def himalaya_ridge(X: list[np.ndarray], Y: list[np.ndarray], n_lags: int, alphas: np.ndarray, folds: int) -> np.ndarray:
    """himalaya's RidgeCV, a penalty a neuron, folds of whole clips, on the lagged design matrix that it is given."""
    from sklearn.model_selection import PredefinedSplit

    with quiet():
        from himalaya.ridge import RidgeCV

        design = np.concatenate([lagged(x, n_lags) for x in X])
        design -= design.mean(0)
        target = np.concatenate([y.T for y in Y])
        fold = np.concatenate([np.full(x.shape[1], k % folds) for k, x in enumerate(X)])
        fitted = RidgeCV(alphas=alphas, fit_intercept=True, cv=PredefinedSplit(fold)).fit(design, target)
        return fitted.coef_


def mtrf_ridge(X: list[np.ndarray], Y: list[np.ndarray], n_lags: int, alphas: np.ndarray, folds: int) -> np.ndarray:
    """mTRFpy's forward model, a penalty a neuron, folds of whole clips."""
    with quiet():
        from mtrf.model import TRF

        trf = TRF(direction=1)
        trf.train(
            [x.T.astype(float) for x in X],
            [y.T.astype(float) for y in Y],
            fs=200,
            tmin=0.0,
            tmax=(n_lags - 1) / 200,
            regularization=list(alphas),
            k=folds,
            reg_per_y_channel=True,
            verbose=False,
        )
        return trf.weights


def mne_ridge(X: list[np.ndarray], Y: list[np.ndarray], n_lags: int, alpha: float) -> np.ndarray:
    """MNE's ReceptiveField with one penalty and no cross-validation: it has none. All clips have one length."""
    with quiet():
        import mne

        mne.set_log_level("ERROR")
        field = mne.decoding.ReceptiveField(0.0, (n_lags - 1) / 200, 200.0, estimator=alpha, scoring="corrcoef")
        field.fit(np.stack([x.T for x in X], 1).astype(float), np.stack([y.T for y in Y], 1).astype(float))
        return field.coef_


def lagged(x: np.ndarray, n_lags: int) -> np.ndarray:
    """Every lagged copy of a sound (F, T) side by side: (T, F n_lags)."""
    padded = np.pad(x, ((0, 0), (n_lags - 1, 0)))
    return np.concatenate([padded[:, i : i + x.shape[1]] for i in range(n_lags)]).T
