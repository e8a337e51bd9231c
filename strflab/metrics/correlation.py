"""How well a prediction follows a response: correlations and explained variance, raw and corrected for noise.

With y the PSTH, p the prediction and SP the signal power of `noise_ceiling.py`:

    CC = cov(y, p) / sqrt(var(y) var(p))
    CCnorm = cov(y, p) / sqrt(var(p) SP)
    FVE = (var(y) - var(y - p)) / var(y)
    SPE = (var(y) - var(y - p)) / SP
    r_ceiling = <corr(r_i, p)> / sqrt(max(<corr(r_i, r_j)>, 0.01))

CCnorm: Schoppe, Harper, Willmore, King & Schnupp (2016), doi:10.3389/fncom.2016.00010. SPE: Sahani & Linden (2003),
NIPS 15. r_ceiling: Pennington & David (2023), doi:10.1371/journal.pcbi.1011110.

All of them take the prediction first, need no loop over neurons or repeats, and are computed in float64. Numerator and
denominator share their frames, their centring and their normalisation, so that the true rate has CCnorm = SPE = 1 in
expectation, but for what dividing by an uncertain SP adds: with two or three repeats of a noisy neuron CCnorm errs
upwards. CC and FVE use every frame that has a repeat; what is corrected for noise uses the frames with two or more.
A frame counts the same whatever its number of repeats. A neuron alone is NaN where its prediction is NaN in a scored
frame, its response does not vary, or a noise-corrected score has SP <= 0. A constant prediction has no correlation
(NaN) and explains nothing (FVE = SPE = 0).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strflab.metrics._clips import ArrayLike, read_clips, tensor
from strflab.metrics._moments import PairSums, PsthSums, Statistics, less, ratio, statistics
from strflab.metrics.noise_ceiling import ceilings, half_splits, signal_sum, split_half_ceiling

FLOOR = 0.01  # of the mean correlation between trials, in r_ceiling


def corrcoef(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    per_trial: bool = False,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Pearson's correlation of the prediction with the PSTH, or its mean over single trials.

    Parameters
    ----------
    prediction : (B, N, 1, T), (B, N, T) or (N, T), or a list of (N, T_k), spikes per bin
    response : (B, N, R, T) or (N, R, T), or a list of (N, R_k, T_k), spikes per bin
        NaN where missing. A PSTH, (B, N, T), (N, T) or a list of (N, T_k), is one repeat.
    per_trial : correlate with each trial, on the frames it has, and average over the trials that vary
    lengths : (B,) frames of each clip that count, the rest is padding
    mask : (B, T) or (B, N, T), or a list of (T_k,) or (N, T_k), True where a frame counts
    centre : over what means are removed, "concatenated" clips or each "clip"

    Returns
    -------
    (N,) float64, torch if the input is torch

    Raises
    ------
    ValueError
        If a shape, a length, a mask or `centre` does not fit.

    Examples
    --------
    >>> corrcoef(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[[2.0, 4.0, 6.0], [0.0, 2.0, 4.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    clips = read_clips(response, prediction, lengths, mask)
    found = statistics(clips, centre, min_repeats=1, pairs=per_trial)
    return clips.wrap(_per_trial(_pairs(found)) if per_trial else _corrcoef(found.psth))


class Correlator:
    """`corrcoef` with one PSTH that is scored again and again, as in every epoch of a fit: its part is computed once.

    Parameters
    ----------
    response : torch tensor (B, N, R, T), spikes per bin, NaN where missing

    Raises
    ------
    ValueError
        If the response, or later a prediction, has another shape.

    Examples
    --------
    >>> follow = Correlator(torch.tensor([[[[2.0, 4.0, 7.0]]]]))
    >>> follow(torch.tensor([[[[1.0, 2.0, 3.5]]]])).round(decimals=9)
    tensor([1.], dtype=torch.float64)
    """

    def __init__(self, response: Tensor):
        clips = read_clips(response)
        y = torch.cat([x.double().nanmean(1) for x in clips.responses], -1)  # (N, B T)
        heard = y.isfinite()
        self.heard = None if heard.all() else heard
        self.n = heard.sum(-1, dtype=torch.float64)
        power = y.square().nansum(-1)
        y = torch.where(heard, y - y.nanmean(-1, keepdim=True), 0)
        left = less(power, power - y.square().sum(-1))
        self.y = ratio(y, left.sqrt()[:, None])  # of length one
        self.shape = tuple(response.shape[:2]) + tuple(response.shape[3:])

    def __call__(self, prediction: Tensor, neurons: Tensor | None = None) -> Tensor:
        """Correlation of each neuron's prediction with its PSTH.

        Parameters
        ----------
        prediction : (B, N, 1, T), spikes per bin
        neurons : (K,) which neurons of the response K predictions (B, K, 1, T) are of; None: all in their order

        Returns
        -------
        Tensor : (N,) or (K,) float64, as from `corrcoef`
        """
        B, N, T = self.shape
        wanted = (B, N if neurons is None else len(neurons), 1, T)
        if tuple(prediction.shape) != wanted:
            raise ValueError(f"prediction is {tuple(prediction.shape)}: the response asks for {wanted}")
        p = prediction.to(self.y.device).squeeze(2).transpose(0, 1).flatten(1).double()
        y, n, heard = self.y, self.n, self.heard
        if neurons is not None:
            y, n, heard = y[neurons], n[neurons], None if heard is None else heard[neurons]
        if heard is not None:
            p = torch.where(heard, p, 0)
        power = p.square().sum(-1)
        return ratio((p * y).sum(-1), less(power, p.sum(-1).square() / n.clamp_min(1)).sqrt())


def normalized_corrcoef(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    signal_power: ArrayLike | None = None,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """CCnorm, the correlation with the PSTH over the one that the true rate has: 1 in expectation for the true rate.

    Parameters
    ----------
    signal_power : (N,) computed before by `signal_power` on the same frames with the same centre
        The response may then be the PSTH, and all its frames are scored. Use it to score one recording many times.

    The others, and the errors, are those of `corrcoef`.

    Returns
    -------
    (N,) float64; NaN where SP <= 0

    References
    ----------
    Schoppe, Harper, Willmore, King & Schnupp (2016), doi:10.3389/fncom.2016.00010.

    Examples
    --------
    >>> normalized_corrcoef(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[[0.0, 2.0, 6.0], [0.0, 2.0, 6.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    clips = read_clips(response, prediction, lengths, mask)
    if signal_power is None:
        sums = statistics(clips, centre, min_repeats=2).psth
        return clips.wrap(_normalized(sums, signal_sum(sums)))
    power = tensor(signal_power, "signal_power").to(clips.device, torch.float64)
    if tuple(power.shape) != (clips.n_neurons,):
        raise ValueError(f"signal_power is {tuple(power.shape)}: it must be ({clips.n_neurons},), one a neuron")
    sums = statistics(clips, centre, min_repeats=1).psth
    return clips.wrap(_normalized(sums, sums.n * power))


def fve(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Fraction of the PSTH's variance that the prediction explains, 1 - var(y - p) / var(y).

    Variances have their mean removed, so a constant offset costs nothing, and a wrong scale does. Not corrected for
    noise: the true rate scores CCmax^2. `signal_power_explained` is. Parameters and errors are those of `corrcoef`.

    Examples
    --------
    >>> fve(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 2.0, 4.0]]))
    tensor([0.7500], dtype=torch.float64)
    """
    clips = read_clips(response, prediction, lengths, mask)
    return clips.wrap(_fve(statistics(clips, centre, min_repeats=1).psth))


def signal_power_explained(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Normalised predictive power (P(y) - P(y - p)) / SP, `fve` corrected for noise: 1 on average for the true rate.

    Parameters and errors are those of `corrcoef`. NaN where SP <= 0. Sahani & Linden (2003).

    Examples
    --------
    >>> signal_power_explained(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[[0.0, 2.0, 4.0], [0.0, 2.0, 4.0]]]))
    tensor([0.7500], dtype=torch.float64)
    """
    clips = read_clips(response, prediction, lengths, mask)
    return clips.wrap(_explained(statistics(clips, centre, min_repeats=2).psth))


def r_ceiling(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Mean correlation with single trials over the root of the mean correlation between trials, floored at 0.01.

    Two trials are correlated on the frames that both have, and a trial without variance is left out of both means.
    Parameters and errors are those of `corrcoef`. Pennington & David (2023), doi:10.1371/journal.pcbi.1011110.

    Examples
    --------
    >>> r_ceiling(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[[0.0, 2.0, 6.0], [0.0, 2.0, 6.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    clips = read_clips(response, prediction, lengths, mask)
    return clips.wrap(_r_ceiling(_pairs(statistics(clips, centre, min_repeats=2, pairs=True))))


def scores(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    n_splits: int = 126,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> dict[str, Any]:
    """Every score of this file and of `noise_ceiling.py`, from one pass over the response.

    Parameters and errors are those of `corrcoef` and, for `n_splits` and `seed`, of `ccmax_split_half`.

    Returns
    -------
    dict of (N,) float64 under the names of the functions, and `corrcoef_per_trial`

    Examples
    --------
    >>> sorted(scores(torch.rand(1, 5), torch.rand(1, 4, 5)))[:3]
    ['ccmax', 'ccmax_split_half', 'corrcoef']
    """
    clips = read_clips(response, prediction, lengths, mask)
    splits = half_splits(clips.n_repeats, n_splits, seed).to(clips.device)
    found = statistics(clips, centre, min_repeats=2, pairs=True, splits=splits)
    raw = statistics(clips, centre, min_repeats=1, pairs=True) if found.singles else found
    assert found.halves is not None
    values = {
        "corrcoef": _corrcoef(raw.psth),
        "corrcoef_per_trial": _per_trial(_pairs(raw)),
        "normalized_corrcoef": _normalized(found.psth, signal_sum(found.psth)),
        "r_ceiling": _r_ceiling(_pairs(found)),
        "fve": _fve(raw.psth),
        "signal_power_explained": _explained(found.psth),
        "ccmax_split_half": split_half_ceiling(found.halves),
        **ceilings(found.psth),
    }
    return {name: clips.wrap(value) for name, value in values.items()}


def _corrcoef(sums: PsthSums) -> Tensor:
    return ratio(sums.yp, (sums.yy * sums.pp).sqrt())


def _normalized(sums: PsthSums, signal: Tensor) -> Tensor:
    return torch.where(signal > 0, ratio(sums.yp, (sums.pp * signal).sqrt()), torch.nan)


def _fve(sums: PsthSums) -> Tensor:
    return ratio(2 * sums.yp - sums.pp, sums.yy)


def _explained(sums: PsthSums) -> Tensor:
    return ratio(2 * sums.yp - sums.pp, signal_sum(sums))


def _pairs(found: Statistics) -> PairSums:
    assert found.pairs is not None
    return found.pairs


def _per_trial(pairs: PairSums) -> Tensor:
    return pairs.correlation()[:, 0, 1:].nanmean(-1)


def _r_ceiling(pairs: PairSums) -> Tensor:
    r = pairs.correlation()
    i, j = torch.triu_indices(r.shape[1] - 1, r.shape[1] - 1, offset=1, device=r.device) + 1
    return r[:, 0, 1:].nanmean(-1) / r[:, i, j].nanmean(-1).clamp_min(FLOOR).sqrt()
