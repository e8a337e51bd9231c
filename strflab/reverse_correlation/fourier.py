"""Normalised reverse correlation: the sound's own correlations divided out, one temporal frequency at a time.

With stimulus correlations C_ss(tau) (F x F) and stimulus-response correlations C_sr(tau) (F), both Fourier transformed,

    h(w) = C_ss(w)^-1 C_sr(w),      C_ss(w) = U diag(s) U',

where 1/s becomes 1/(s + tol max_w |C_ss(w)|) (ridge), or 0 below tol max_w |C_ss(w)| (truncation). A jackknife over
clips gives the standard error SE of h, and what is within n of them is faded out by
(1 + tanh(2 (|h| - n SE)/(eps + SE)))/2.

This is ridge, or principal-component, regression on the lagged stimulus: for long clips the Gram matrix of the lagged
stimulus is block-Toeplitz, the Fourier transform makes it block-diagonal, the blocks are C_ss(w), and one tolerance for
all frequencies is one penalty alpha = tol max|C_ss| times the number of frames. For white noise of variance v,
C_ss(w) = v and h(tau) = C_sr(tau) / (v (1 + tol)): the spike-triggered average, up to its scale.

Discretisation: correlations are unbiased averages over the frame pairs of all clips, about the mean over clips, at
lags up to +-max_lag; a Hann taper over those lags, the same for C_ss and C_sr, smooths the spectra (Blackman & Tukey);
the transform's length is the next fast one of at least 2 max_lag + 1. Only causal lags predict; acausal ones, where a
filter has no business, show the noise.

Theunissen, Sen & Doupe 2000, doi:10.1523/JNEUROSCI.20-06-02315.2000; Theunissen et al. 2001,
doi:10.1080/net.12.3.289.316.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab.reverse_correlation.base import STRFEstimator, as_clips, causal_filter, cross_validation_folds
from strflab.reverse_correlation.moments import Correlations, correlate
from strflab.validation import choice, integer, number

TOLERANCES = (0.1, 0.05, 0.01, 0.005, 1e-3, 5e-4, 1e-4, 5e-5)
SIGNIFICANCE = (0, 1, 2, 6)


def significance_mask(strf: Any, standard_error: Any, n: float) -> np.ndarray:
    """Fade out the part of a receptive field within n standard errors of zero.

    Parameters
    ----------
    strf, standard_error : arrays of one shape.
    n : standard errors where the mask is one half.

    >>> significance_mask(np.array([0.1, 2.0]), np.array([1.0, 1.0]), 1).round(3).tolist()
    [0.003, 1.964]
    """
    h, se = (torch.as_tensor(a) for a in (strf, standard_error))
    return _mask(h, se, n).numpy()


class NormalizedReverseCorrelation(STRFEstimator):
    """Linear receptive fields by normalised reverse correlation.

    Parameters
    ----------
    n_lags : frames of stimulus history, the present one included.
    tolerances : what to choose `tol` from, relative to the largest spectral power; descending is customary.
    significance : what to choose `n` from, in standard errors.
    method : "ridge" or "truncation".
    scoring : held-out clips choose tol and n by their coherence "information" or their "correlation".
    cv : "loo" (leave one clip out), a number of folds or a list of arrays of clip indices, at least three; the same
        folds make the jackknife.
    max_lag : longest lag of the correlations, frames; None: 2 n_lags. Shorter is smoother and biased, the more so the
        longer the stimulus' own correlations.
    n_acausal : lags after the response to estimate too, for display.
    dt_ms : length of a frame, for the information when fitting lists of arrays; a dataset brings its own.
    device : where to compute, such as "cuda"; None: the CPU.

    Attributes
    ----------
    strf_ (N, F, n_lags), masked, last tap at lag 0; intercept_ (N,), rate to silence; tolerance_ (N,);
    significance_ (N,); cv_scores_ (n_tolerances, n_levels, N), bits/s or correlation; filters_ and
    filters_standard_error_ (n_tolerances, N, F, n_lags + n_acausal), unmasked; lags_ of their taps, frames, from
    n_lags - 1 to -n_acausal; standard_error_ (N, F, n_lags), that of the chosen filter before the mask.

    While choosing, the filter that predicts a held-out fold never saw it; its standard error is taken from the other
    left-out filters, which did. Missing response frames (NaN) are left out of the averages.

    >>> x = [torch.randn(3, 400) for _ in range(5)]
    >>> nrc = NormalizedReverseCorrelation(n_lags=4, scoring="correlation").fit(x, [clip[:1] for clip in x])
    >>> nrc.strf_.shape, np.unravel_index(nrc.strf_[0].argmax(), (3, 4))
    ((1, 3, 4), (np.int64(0), np.int64(3)))
    """

    def __init__(
        self,
        n_lags: int = 75,
        tolerances: Any = TOLERANCES,
        significance: Any = SIGNIFICANCE,
        *,
        method: str = "ridge",
        scoring: str = "information",
        cv: Any = "loo",
        max_lag: int | None = None,
        n_acausal: int = 0,
        dt_ms: float | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.n_lags = n_lags
        self.tolerances = tolerances
        self.significance = significance
        self.method = method
        self.scoring = scoring
        self.cv = cv
        self.max_lag = max_lag
        self.n_acausal = n_acausal
        self.dt_ms = dt_ms
        self.device = device
        self._check()

    def fit(self, X: Any, Y: Any = None) -> NormalizedReverseCorrelation:
        """Fit to a dataset, or to lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses.

        Parameters
        ----------
        X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses
        """
        stimuli, responses = as_clips(X, Y, responses=True)
        dt_ms = getattr(X, "dt_ms", self.dt_ms)
        if self.scoring == "information" and dt_ms is None:
            raise ValueError('dt_ms must be given to choose by scoring="information" on arrays, got None')
        folds = cross_validation_folds(self.cv, len(stimuli))
        if len(folds) < 3:
            raise ValueError(f"cv must make at least 3 folds, for standard errors, got {len(folds)}")
        x = [clip.double().to(self.device) for clip in stimuli]
        y = [clip.double().to(self.device) for clip in responses]
        x_mean, y_mean = torch.cat(x, 1).mean(1, keepdim=True), torch.cat(y, 1).nanmean(1, keepdim=True)
        if bool(y_mean.isnan().any()):
            raise ValueError(f"Y holds no frame for neurons {torch.nonzero(y_mean.isnan()[:, 0]).flatten().tolist()}")
        sums = [correlate(a - x_mean, b - y_mean, self._max_lag) for a, b in zip(x, y)]
        total = Correlations(*map(sum, zip(*sums)))  # type: ignore[arg-type]
        self.lags_ = np.arange(self.n_lags - 1, -self.n_acausal - 1, -1)
        filters = self._solve(total)  # (tolerances, N, F, taps)
        left_out = torch.stack(  # (tolerances, folds, N, F, taps), float32: they only choose and give errors
            [self._solve(Correlations(*_left_out(total, sums, fold))).float() for fold in folds], dim=1
        )
        spread = (left_out - left_out.mean(1, keepdim=True)).double().square().sum(1)
        errors = (spread * (len(folds) - 1) / len(folds)).sqrt()
        held_out = np.concatenate(folds)
        self.cv_scores_ = np.stack(
            [self._score(h[..., : self.n_lags], x, y, folds, held_out, dt_ms) for h in left_out]
        )  # (tolerances, levels, N)
        best = np.nan_to_num(self.cv_scores_, nan=-np.inf).reshape(-1, len(y_mean)).argmax(0)
        tolerance, level = np.unravel_index(best, self.cv_scores_.shape[:2])
        self.tolerance_, self.significance_ = np.array(self.tolerances)[tolerance], np.array(self.significance)[level]
        self.filters_, self.filters_standard_error_ = filters.cpu().numpy(), errors.cpu().numpy()
        neurons = np.arange(len(y_mean))
        self.standard_error_ = self.filters_standard_error_[tolerance, neurons, :, : self.n_lags]
        self.strf_ = significance_mask(
            self.filters_[tolerance, neurons, :, : self.n_lags],
            self.standard_error_,
            torch.from_numpy(self.significance_)[:, None, None],  # type: ignore[arg-type]
        )
        drive = np.einsum("nft,f->n", self.strf_, x_mean[:, 0].cpu().numpy())
        self.intercept_ = y_mean[:, 0].cpu().numpy() - drive
        return self

    def _solve(self, sums: Correlations) -> Tensor:
        """Filters of every tolerance from correlations: (tolerances, N, F, taps)."""
        stimulus, response, n_fft = _spectra(sums)
        s, U = torch.linalg.eigh(stimulus)  # (w, F), (w, F, F)
        s, largest = s.clamp(min=0), s.max().clamp(min=torch.finfo(s.dtype).tiny)  # a taper can leave s just below zero
        projected = U.mH @ response  # (w, F, N)
        taps = torch.from_numpy(self.lags_ % n_fft).to(s.device)
        filters = []
        for tolerance in self.tolerances:
            floor = tolerance * largest
            if self.method == "ridge":
                gain = 1 / (s + floor)
            else:
                gain = torch.where(s >= floor, 1 / s.clamp(min=floor), 0.0)
            h = torch.fft.irfft(U @ (gain[..., None] * projected), n=n_fft, dim=0)  # (n_fft, F, N)
            filters.append(h[taps].permute(2, 1, 0))
        return torch.stack(filters)

    def _score(self, h: Tensor, x: list, y: list, folds: list, held_out: np.ndarray, dt_ms: Any) -> np.ndarray:
        """Score the left-out filters (folds, N, F, T) of one tolerance on what they left out: (levels, N)."""
        from strflab import metrics

        n_folds, n_neurons = h.shape[:2]
        deviation = h - h.mean(0)
        first, second = deviation.sum(0), deviation.square().sum(0)
        predictions: dict[int, np.ndarray] = {}
        for k, fold in enumerate(folds):
            others = (first - deviation[k]) / (n_folds - 1)
            variance = (second - deviation[k].square()) / (n_folds - 1) - others.square()
            error = (variance.clamp(min=0) * (n_folds - 2)).sqrt()
            masked = torch.cat([_mask(h[k], error, n) for n in self.significance])  # (levels * N, F, T)
            for clip in fold:
                predictions[clip] = causal_filter(x[clip].to(masked.dtype), masked).cpu().numpy()
        prediction = [predictions[clip] for clip in held_out]
        response = [y[clip].repeat(len(self.significance), 1).cpu().numpy() for clip in held_out]
        if self.scoring == "correlation":
            score = metrics.corrcoef(prediction, response)
        else:
            score = metrics.coherence_information(prediction, response, dt_ms=dt_ms)
        return np.asarray(score).reshape(-1, n_neurons)

    @property
    def _max_lag(self) -> int:
        return 2 * self.n_lags if self.max_lag is None else self.max_lag

    def _check(self) -> None:
        integer("n_lags", self.n_lags)
        integer("n_acausal", self.n_acausal, minimum=0)
        if self.max_lag is not None:
            integer("max_lag", self.max_lag)
        if self._max_lag < max(self.n_lags - 1, self.n_acausal):
            raise ValueError(f"max_lag must reach n_lags - 1 and n_acausal, got {self.max_lag}")
        choice("method", self.method, ("ridge", "truncation"))
        choice("scoring", self.scoring, ("information", "correlation"))
        for name, above in (("tolerances", 0.0), ("significance", -np.inf)):
            values = getattr(self, name)
            if not np.size(values):
                raise ValueError(f"{name} must hold at least one number, got {values!r}")
            for value in values:
                number(name, value, above=above, at_least=0.0)
        if self.dt_ms is not None:
            number("dt_ms", self.dt_ms, above=0)


def _left_out(total: Correlations, sums: list[Correlations], fold: np.ndarray) -> list[Tensor]:
    return [t - sum(sums[clip][i] for clip in fold) for i, t in enumerate(total)]


def _spectra(sums: Correlations) -> tuple[Tensor, Tensor, int]:
    """Hermitian stimulus spectra (w, F, F), cross spectra (w, F, N) and the length of their transform."""
    from scipy.fft import next_fast_len

    L = len(sums.stimulus) - 1
    n_fft = next_fast_len(2 * L + 1, real=True)
    taper = torch.hann_window(2 * L + 3, periodic=False, dtype=torch.float64, device=sums.stimulus.device)[1:-1]
    auto = sums.stimulus * (taper[L:] / sums.stimulus_pairs.clamp(min=1))[:, None, None]
    cross = sums.response * (taper[:, None] / sums.response_pairs.clamp(min=1))[:, None]

    def at_lags(causal: Tensor, acausal: Tensor) -> Tensor:  # lags 0 .. L, and -L .. -1, wrapped around
        gap = causal.new_zeros(n_fft - 2 * L - 1, *causal.shape[1:])
        return torch.fft.rfft(torch.cat([causal, gap, acausal]), dim=0)

    # C_ss(tau) = <x(t-tau) x(t)'>: the transpose of auto at positive lags
    return at_lags(auto.mT, auto[1:].flip(0)), at_lags(cross[L:], cross[:L]), n_fft


def _mask(h: Tensor, standard_error: Tensor, n: float | Tensor) -> Tensor:
    excess = (h.abs() - n * standard_error) / (torch.finfo(h.dtype).eps + standard_error)
    return h * (1 + torch.tanh(2 * excess)) / 2
