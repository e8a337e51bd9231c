"""Ridge regression on the lagged stimulus, with a penalty for each neuron chosen by cross-validation over clips.

    h = argmin sum_t (y(t) - b - h . [x(t), .., x(t-T+1)])^2 + alpha |h|^2  =  (X'X + alpha)^-1 X'y    (X, y centred)

One eigendecomposition X'X = V diag(e) V' a fold serves every neuron and every penalty, and the held-out error is a
quadratic form of the held-out moments, so that no prediction is made while choosing: with moments (G, g, s) of the
held-out clips, the squared error of h is s - 2 h'g + h'G h. See `moments` for how G costs T products of F x F.

Where neighbouring taps belong together, `smoothness` replaces |h|^2 by h' K^-1 h, with K Gaussian in the distance
between bands and between lags; in the coordinates w = K^-1/2 h it is the same problem (Sahani & Linden 2003, "Evidence
optimization techniques for estimating stimulus-response functions", Advances in Neural Information Processing
Systems 15).

Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634; for receptive fields, Machens et al. 2004,
doi:10.1523/JNEUROSCI.4445-03.2004.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab.reverse_correlation.base import STRFEstimator, as_clips, cross_validation_folds
from strflab.reverse_correlation.moments import LaggedMoments, lagged_moments
from strflab.validation import choice, integer, number


class RidgeSTRF(STRFEstimator):
    """Linear receptive fields of all neurons at once by ridge regression.

    Parameters
    ----------
    n_lags : frames of stimulus history, the present one included (see `lags_from_ms`).
    alphas : penalties to choose from; None: 20 from 1e-7 to 1 times the trace of the lagged stimulus' covariance
        times the number of frames, so that they follow the scale of the stimulus.
    cv : folds over clips: an int (fold k holds out clips k, k + cv, ..), "loo", a list of arrays of clip indices, or
        None with a single penalty.
    smoothness : standard deviations, in bands and in frames, over which taps are expected to be alike; (0, 0) is plain
        ridge. One or so of each recovers a smooth field much better, above all from few repeats.
    fit_intercept : estimate a baseline rate.
    edges : "zeros" (silence precedes each clip, as for every model) or "valid" (each clip's first n_lags - 1 frames
        are neither fitted nor scored).
    scoring : what the choice maximises on held-out clips: "r2" (squared error) or "correlation" (mean over folds).
    rule : "best" score, or "one_standard_error": the strongest penalty whose score is not worse than the best by more
        than the standard error, over folds, of the difference. It predicts about as well; where a smooth sound leaves
        the fine structure of the field to noise, it recovers the field better.
    precision : "mixed" (float32 products of centred data and float32 scores, everything else in float64) or
        "float64". Without an intercept data cannot be centred, and their products are taken in float64.
    device : where to compute, such as "cuda"; None: the CPU.

    Attributes
    ----------
    strf_ (N, F, n_lags), last tap at lag 0; intercept_ (N,), rate to silence; alpha_ (N,); alphas_ (n_alphas,);
    cv_scores_ (n_alphas, N).

    Frames whose response is NaN are left out, exactly, for the neurons that miss them; neurons that miss the same
    frames are solved together. A neuron without a finite response raises ValueError; a silent one has a zero field.

    >>> x = [torch.randn(4, 300) for _ in range(6)]
    >>> RidgeSTRF(n_lags=3, cv=3).fit(x, [clip[:2] for clip in x]).strf_.shape
    (2, 4, 3)
    """

    def __init__(
        self,
        n_lags: int = 40,
        alphas: Any = None,
        cv: Any = 5,
        *,
        smoothness: tuple[float, float] = (0.0, 0.0),
        fit_intercept: bool = True,
        edges: str = "zeros",
        scoring: str = "r2",
        rule: str = "best",
        precision: str = "mixed",
        device: str | torch.device | None = None,
    ) -> None:
        self.n_lags = n_lags
        self.alphas = alphas
        self.cv = cv
        self.smoothness = smoothness
        self.fit_intercept = fit_intercept
        self.edges = edges
        self.scoring = scoring
        self.rule = rule
        self.precision = precision
        self.device = device
        self._check()

    def fit(self, X: Any, Y: Any = None) -> RidgeSTRF:
        """Fit to a dataset, or to lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses.

        Parameters
        ----------
        X, Y : a dataset, or lists of (F, T_k) spectrograms and (N, T_k) or (N, R_k, T_k) responses
        """
        stimuli, responses = as_clips(X, Y, responses=True)
        n_neurons, n_bands, n_clips = responses[0].shape[0], stimuli[0].shape[0], len(stimuli)
        folds = [] if self.cv is None else cross_validation_folds(self.cv, n_clips)
        masks = [torch.isfinite(y) for y in responses]
        if self.edges == "valid":
            for m in masks:
                m[:, : self.n_lags - 1] = False
        groups = _neurons_by_missing_frames(masks)
        self.alphas_ = self._penalties(stimuli)
        self.cv_scores_ = np.full((len(self.alphas_), n_neurons), np.nan)
        self.alpha_ = np.empty(n_neurons)
        self.strf_ = np.empty((n_neurons, n_bands, self.n_lags))
        self.intercept_ = np.zeros(n_neurons)
        for neurons in groups:
            one_group = len(groups) == 1  # then no copy
            y = responses if one_group else [r[neurons] for r in responses]
            self._fit_group(neurons.numpy(), stimuli, y, [m[neurons[0]] for m in masks], folds)
        return self

    @property
    def skipped_frames(self) -> int:
        """Frames at the start of each clip that are neither fitted nor scored."""
        return self.n_lags - 1 if self.edges == "valid" else 0

    def _fit_group(self, neurons: np.ndarray, x: list, y: list, masks: list, folds: list) -> None:
        """Choose penalties and solve for neurons that miss the same frames."""
        dtype = torch.float32 if self.precision == "mixed" and self.fit_intercept else torch.float64
        count = sum(int(m.sum()) for m in masks)
        bands, lags = _gaussian_root(len(x[0]), self.smoothness[0]), _gaussian_root(self.n_lags, self.smoothness[1])
        if self.smoothness[0] > 0:
            x = [bands @ clip.double() for clip in x]
        x_mean = torch.stack([clip.sum(1, dtype=torch.float64) for clip in x]).sum(0) / sum(c.shape[1] for c in x)
        y_sums = [torch.where(m, clip, 0).sum(1, dtype=torch.float64) for clip, m in zip(y, masks)]
        centre = float(self.fit_intercept)
        x_mean = (centre * x_mean).to(self.device)
        y_mean = (centre * torch.stack(y_sums).sum(0) / count).to(self.device)
        rest = np.setdiff1d(np.arange(len(x)), np.concatenate(folds)) if folds else np.arange(len(x))
        parts = [
            lagged_moments(
                [x[k] for k in fold], [y[k] for k in fold], [masks[k] for k in fold], self.n_lags, x_mean, y_mean, dtype
            )
            for fold in [*folds, *([rest] if len(rest) else [])]
        ]
        bands, lags = bands.to(self.device), lags.to(self.device)
        total = _sum(parts)
        gram = total.gram()
        alphas = torch.from_numpy(self.alphas_).to(total.auto.device)
        if folds:
            scores = self._cross_validate(total, gram, parts[: len(folds)], alphas, lags).cpu().numpy()
            self.cv_scores_[:, neurons] = scores.mean(0)
            best = self._choose(scores)
        else:
            best = np.zeros(len(neurons), int)
        self.alpha_[neurons] = self.alphas_[best]
        G, g, _, _ = self._statistics(total, gram, lags, self.fit_intercept)
        e, V = torch.linalg.eigh(G)
        chosen = alphas[torch.from_numpy(best).to(alphas.device)]
        h = _over_lags(lags, V @ ((V.T @ g) / (e.clamp(min=0)[:, None] + chosen)))  # (P, N)
        if self.fit_intercept:
            silence = total.cross[:, -1] / total.count + x_mean.repeat(self.n_lags)
            baseline = y_mean + total.total[:-1] / total.count - silence @ h
            self.intercept_[neurons] = baseline.cpu().numpy()
        h = h.T.unflatten(1, (self.n_lags, -1)).flip(1).transpose(1, 2)  # lag-major to (N, F, T)
        self.strf_[neurons] = (bands @ h).cpu().numpy()

    def _cross_validate(
        self, total: LaggedMoments, gram: Tensor, parts: list[LaggedMoments], alphas: Tensor, lags: Tensor
    ) -> Tensor:
        """Score each penalty on each held-out part, from moments alone: (folds, n_alphas, N)."""
        dtype = torch.float32 if self.precision == "mixed" else torch.float64
        n_neurons, scores, energies = len(total.square), [], []
        for held_out in parts:
            train = total - held_out
            if held_out.count == 0 or train.count == 0:  # these neurons were not recorded there
                continue
            own = held_out.gram()
            G, g, _, x_train = self._statistics(train, gram - own, lags, self.fit_intercept)
            e, V = torch.linalg.eigh(G)
            projected = V.T @ g  # (P, N)
            Gk, gk, sk, dx = self._statistics(held_out, own, lags, True)
            Gk, gk, V, projected = (a.to(dtype) for a in (Gk, gk, V, projected))
            gain = (1 / (e.clamp(min=0)[:, None] + alphas)).to(dtype)  # (P, n_alphas)
            dy = held_out.total[:-1] / held_out.count
            if self.fit_intercept:
                dx, dy = dx - x_train, dy - train.total[:-1] / train.count
            score = alphas.new_empty(len(alphas), n_neurons)
            chunk = max(1, 2**22 // gain.numel())
            for some in torch.arange(n_neurons, device=G.device).split(chunk):
                h = V @ (gain[:, :, None] * projected[:, None, some]).flatten(1)  # (P, n_alphas * neurons)
                shape = (len(alphas), len(some))
                power = (Gk @ h).mul_(h).sum(0).double().view(shape).clamp_(min=0)
                h = h.view(-1, *shape)
                covariance = (h * gk[:, None, some]).sum(0).double()
                if self.scoring == "correlation":
                    score[:, some] = torch.nan_to_num(covariance / torch.sqrt(power * sk[some]), 0.0, 0.0, 0.0)
                else:
                    offset = dy[some] - torch.einsum("pan,p->an", h, dx.to(dtype)).double()
                    score[:, some] = sk[some] - 2 * covariance + power + held_out.count * offset**2
            scores.append(score)
            energies.append(sk)
        if not scores:
            raise ValueError("cv leaves some neurons without both fitted and held-out frames in any fold")
        if self.scoring == "correlation":
            return torch.stack(scores)
        energy = torch.stack(energies).mean(0)  # common to all folds: their mean is the R^2 of all held-out frames
        return torch.where(energy > 0, 1 - torch.stack(scores) / energy, 0.0)

    def _choose(self, scores: np.ndarray) -> np.ndarray:
        """Index of each neuron's penalty, from the scores of each fold (K, n_alphas, N); ties go to the stronger."""
        mean = scores.mean(0)
        worse = scores[:, mean.argmax(0), np.arange(scores.shape[2])][:, None] - scores  # (K, n_alphas, N)
        margin = 0.0
        if self.rule == "one_standard_error" and len(scores) > 1:
            margin = worse.std(0, ddof=1) / np.sqrt(len(scores))
        good = worse.mean(0) <= margin
        strongest_first = np.argsort(-self.alphas_, kind="stable")
        return strongest_first[good[strongest_first].argmax(0)]

    def _statistics(self, moments: LaggedMoments, gram: Tensor, lags: Tensor, centred: bool) -> tuple[Tensor, ...]:
        """Gram, cross moments and sum of squares, about the mean or about zero, and the mean of the design."""
        G, g, square = moments.centred(gram) if centred else moments.raw(gram)
        mean = moments.cross[:, -1] / moments.count
        if self.smoothness[1] > 0:
            G, g, mean = _over_lags(lags, _over_lags(lags, G).T), _over_lags(lags, g), _over_lags(lags, mean)
        return G, g, square, mean

    def _penalties(self, stimuli: list[Tensor]) -> np.ndarray:
        if self.alphas is not None:
            return np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
        x = torch.cat(stimuli, 1).double()
        trace = self.n_lags * float((x - x.mean(1, keepdim=True) * self.fit_intercept).square().sum())
        return np.logspace(-7, 0, 20) * (trace or 1.0)

    def _check(self) -> None:
        integer("n_lags", self.n_lags)
        if self.alphas is not None:
            alphas = np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
            if alphas.ndim != 1 or not len(alphas) or not (np.isfinite(alphas) & (alphas > 0)).all():
                raise ValueError(f"alphas must be positive finite numbers, got {self.alphas!r}")
        if self.cv is None and (self.alphas is None or np.size(self.alphas) != 1):
            raise ValueError("cv=None needs a single penalty in alphas, got several to choose from")
        if len(self.smoothness) != 2:
            raise ValueError(f"smoothness must be two numbers, of bands and of frames, got {self.smoothness!r}")
        for sd in self.smoothness:
            number("smoothness", sd, at_least=0)
        choice("edges", self.edges, ("zeros", "valid"))
        choice("scoring", self.scoring, ("r2", "correlation"))
        choice("rule", self.rule, ("best", "one_standard_error"))
        choice("precision", self.precision, ("mixed", "float64"))


def _neurons_by_missing_frames(masks: list[Tensor]) -> list[Tensor]:
    """Group neurons whose scored frames are the same in every clip: index tensors that cover all neurons."""
    first = [m[:1] for m in masks]
    if all(bool((m == f).all()) for m, f in zip(masks, first)):
        groups = [torch.arange(len(masks[0]))]
    else:
        table: dict[bytes, list[int]] = {}
        for n, row in enumerate(torch.cat(masks, 1).numpy()):
            table.setdefault(np.packbits(row).tobytes(), []).append(n)
        groups = [torch.tensor(neurons) for neurons in table.values()]
    for neurons in groups:
        if not any(bool(m[neurons[0]].any()) for m in masks):
            raise ValueError(f"Y holds no frame to fit for neurons {neurons.tolist()}: all missing or before n_lags")
    return groups


def _sum(parts: list[LaggedMoments]) -> LaggedMoments:
    return LaggedMoments(
        sum(p.auto for p in parts),  # type: ignore[arg-type]
        torch.cat([p.entering for p in parts]),
        torch.cat([p.leaving for p in parts]),
        sum(p.cross for p in parts),  # type: ignore[arg-type]
        sum(p.total for p in parts),  # type: ignore[arg-type]
        sum(p.square for p in parts),  # type: ignore[arg-type]
    )


def _gaussian_root(n: int, sd: float) -> Tensor:
    """Symmetric square root of the Gaussian covariance of n neighbours: (n, n)."""
    if sd == 0:
        return torch.eye(n, dtype=torch.float64)
    at = torch.arange(n, dtype=torch.float64)
    e, V = torch.linalg.eigh(torch.exp(-((at[:, None] - at) ** 2) / (2 * sd**2)))
    return V @ (e.clamp(min=0).sqrt()[:, None] * V.T)


def _over_lags(root: Tensor, a: Tensor) -> Tensor:
    """Multiply the lags of a lag-major (T F, ..) tensor."""
    return (root @ a.reshape(len(root), -1)).view_as(a)
