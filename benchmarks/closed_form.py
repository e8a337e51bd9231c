"""Ridge receptive fields with a penalty a neuron, against the lagged design matrix that others build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import Row, in_turns, peak_mb, seconds
from strflab.reverse_correlation import RidgeSTRF

BANDS, NEURONS, CLIPS, FOLDS = 34, 119, 20, 5
ALPHAS = np.logspace(0, 6, 20)


def problem(n_frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Correlated sound and the noisy responses of a population of linear neurons to it."""
    rng = np.random.default_rng(0)
    smooth = np.exp(-np.abs(np.subtract.outer(np.arange(BANDS), np.arange(BANDS))) / 4)
    weight = rng.normal(size=(NEURONS, BANDS))
    X = [(smooth @ rng.normal(size=(BANDS, n_frames))).astype(np.float32) for _ in range(CLIPS)]
    Y = [(weight @ x + 20 * rng.normal(size=(NEURONS, n_frames))).astype(np.float32) for x in X]
    return X, Y


def run() -> list[Row]:
    rows = [_row(1000, 15, compare=True), _row(1000, 40), _row(10_000, 15)]
    return rows + _beside_peers(1000, 15)


def _beside_peers(n_frames: int, n_lags: int) -> list[Row]:
    """The same problem in other libraries, where they are installed, each in turns with ours."""
    X, Y = problem(n_frames)
    what = f"{BANDS} bands x {n_lags} lags, {CLIPS} clips x {n_frames} frames, {NEURONS} neurons"
    searched = f"{what}, {len(ALPHAS)} penalties, {FOLDS} folds"
    rows = []
    for name, label, peer, repeats in (  # himalaya takes a minute
        ("himalaya", "himalaya RidgeCV, a penalty a neuron", peers.himalaya_ridge, 1),
        ("mtrf", "mTRFpy, a penalty a neuron", peers.mtrf_ridge, 3),
    ):
        if peers.has(name):
            ours, theirs = in_turns(
                lambda: RidgeSTRF(n_lags=n_lags, alphas=ALPHAS, cv=FOLDS).fit(X, Y),
                lambda peer=peer: peer(X, Y, n_lags, ALPHAS, FOLDS),
                repeats=repeats,
            )
            rows.append(Row(searched, ours, label, theirs))
    if peers.has("mne"):
        ours, theirs = in_turns(
            lambda: RidgeSTRF(n_lags=n_lags, alphas=ALPHAS[10:11]).fit(X, Y),
            lambda: peers.mne_ridge(X, Y, n_lags, float(ALPHAS[10])),
        )
        rows.append(Row(f"{what}, one penalty", ours, "MNE ReceptiveField", theirs))
    return rows


def _row(n_frames: int, n_lags: int, compare: bool = False) -> Row:
    X, Y = problem(n_frames)
    return Row(
        f"{BANDS} bands x {n_lags} lags, {CLIPS} clips x {n_frames} frames, {NEURONS} neurons, "
        f"{len(ALPHAS)} penalties, {FOLDS} folds",
        seconds(lambda: RidgeSTRF(n_lags=n_lags, alphas=ALPHAS, cv=FOLDS).fit(X, Y), repeats=5),
        "lagged design matrix, float64, NumPy" if compare else "",
        seconds(lambda: _plain(X, Y, n_lags), repeats=1) if compare else None,
        peak_mb(_prepared, n_frames, n_lags),
    )


def _prepared(n_frames: int, n_lags: int) -> Callable[[], Any]:
    X, Y = problem(n_frames)
    RidgeSTRF(n_lags=2, alphas=ALPHAS[:2], cv=2).fit([x[:, :50] for x in X], [y[:, :50] for y in Y])
    return lambda: RidgeSTRF(n_lags=n_lags, alphas=ALPHAS, cv=FOLDS).fit(X, Y)


def _plain(X: list[np.ndarray], Y: list[np.ndarray], n_lags: int) -> np.ndarray:
    """The usual way: every lagged copy of the stimulus side by side, float64, scores from predictions."""
    design = [peers.lagged(x.astype(float), n_lags) for x in X]
    targets = [y.T.astype(float) for y in Y]
    scores = np.zeros((len(ALPHAS), NEURONS))
    for fold in range(FOLDS):
        learn = [k for k in range(CLIPS) if k % FOLDS != fold]
        A, b = np.concatenate([design[k] for k in learn]), np.concatenate([targets[k] for k in learn])
        mean_a, mean_b = A.mean(0), b.mean(0)
        A, b = A - mean_a, b - mean_b
        e, V = np.linalg.eigh(A.T @ A)
        c = V.T @ (A.T @ b)
        held = [k for k in range(CLIPS) if k % FOLDS == fold]
        A_test = (np.concatenate([design[k] for k in held]) - mean_a) @ V
        y_test = np.concatenate([targets[k] for k in held])
        for i, alpha in enumerate(ALPHAS):
            scores[i] += ((A_test @ (c / (e + alpha)[:, None]) + mean_b - y_test) ** 2).mean(0)
    return scores
