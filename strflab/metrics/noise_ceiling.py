"""How much of a response the stimulus drives: signal power, noise power and the best score that a model can have.

    TP = mean over repeats of the variance over time,   y = mean over repeats (the PSTH)
    SP = (R var(y) - TP) / (R - 1),   NP = TP - SP,   CCmax = sqrt(SP / var(y))

Sahani & Linden (2003), "How linear are auditory cortical responses?", Advances in Neural Information Processing
Systems 15. Hsu, Borst & Theunissen (2004), doi:10.1088/0954-898X_15_2_002. Schoppe, Harper, Willmore, King & Schnupp
(2016), doi:10.3389/fncom.2016.00010.

Uneven repeats. SP is written frame by frame, so that the number of repeats R_t may differ between frames: the variance
of the PSTH less the noise that it still holds, s2_t / R_t on average, where s2_t is the unbiased variance of the
repeats in frame t; the noise that is removed together with the mean is taken off again (see `_moments.py`). With even
repeats this is the formula above, exactly. Every frame weighs the same, whatever its R_t. A frame with one repeat says
nothing about noise, and a rate-dependent noise cannot be borrowed from other frames: what is corrected for noise, here
and in `correlation.py`, uses the frames with two repeats or more, in all its parts.

Powers have the mean removed over the concatenated clips (centre="concatenated") or clip by clip (centre="clip"), and
are divided by the number of frames. The same repeat index is the same trial on all clips; nothing changes on average if
it is not. SP is unbiased, so it may come out below zero: ratios to it are then NaN.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab.metrics._clips import ArrayLike, read_clips, tensor
from strflab.metrics._moments import TINY, HalfSums, PsthSums, ratio, statistics


def psth(response: ArrayLike) -> Any:
    """The mean over repeats, NaN in frames that no repeat has.

    Parameters
    ----------
    response : (B, N, R, T) or (N, R, T), or a list of (N, R_k, T_k), spikes per bin
        NaN where missing.

    Returns
    -------
    (B, N, T) or (N, T), or a list of (N, T_k), in the response's own precision

    Raises
    ------
    ValueError
        If the response has no repeat axis.

    Examples
    --------
    >>> psth(np.array([[[0.0, 1.0], [2.0, np.nan]]]))
    array([[1., 1.]])
    """
    if isinstance(response, list | tuple):
        return [psth(x) for x in response]
    x = tensor(response, "response")
    if x.ndim not in (3, 4):
        raise ValueError(f"response must be (B, N, R, T) or (N, R, T), not {tuple(x.shape)}")
    mean = (x if x.is_floating_point() else x.double()).nanmean(-2)
    return mean if isinstance(response, Tensor) else mean.numpy()


def signal_power(
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Power of the part of the response that repeats with the stimulus, unbiased; it may be negative.

    Parameters
    ----------
    response : (B, N, R, T) or (N, R, T), or a list of (N, R_k, T_k), spikes per bin
        NaN where missing. Any frames, repeats or clips may be, each neuron's own.
    lengths : (B,) frames of each clip that count, the rest is padding
    mask : (B, T) or (B, N, T), or a list of (T_k,) or (N, T_k), True where a frame counts
    centre : over what the mean is removed, "concatenated" clips or each "clip"

    Returns
    -------
    (N,) float64, (spikes per bin)^2; NaN where no frame has two repeats

    Raises
    ------
    ValueError
        If a shape, a length, a mask or `centre` does not fit.

    References
    ----------
    Sahani & Linden (2003); for uneven repeats see the head of this file.

    Examples
    --------
    >>> signal_power(np.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]]))
    array([0.66666667])
    """
    return _of_psth(_signal, response, lengths, mask, centre)


def noise_power(
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Power of what differs from repeat to repeat, in a single repeat: NP = TP - SP.

    Parameters, units and errors are those of `signal_power`. Sahani & Linden (2003).

    Examples
    --------
    >>> noise_power(np.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]]))
    array([0.])
    """
    return _of_psth(_noise, response, lengths, mask, centre)


def snr(
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Signal power over noise power, SP / NP: NaN where SP <= 0, infinite where the repeats are all the same.

    Parameters and errors are those of `signal_power`. Sahani & Linden (2003).

    Examples
    --------
    >>> snr(np.array([[[0.0, 2.0, 4.0], [2.0, 2.0, 4.0]]]))
    array([3.])
    """
    return _of_psth(lambda s: 1 / _noise_ratio(s), response, lengths, mask, centre)


def noise_ratio(
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Noise power over signal power, NP / SP, the abscissa of Sahani & Linden (2003): NaN where SP <= 0.

    Parameters and errors are those of `signal_power`.

    Examples
    --------
    >>> noise_ratio(np.array([[[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]]))
    array([0.])
    """
    return _of_psth(_noise_ratio, response, lengths, mask, centre)


def ccmax(
    response: ArrayLike,
    *,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """The correlation that the true rate has with the PSTH, sqrt(SP / var(y)): NaN where SP <= 0.

    Parameters and errors are those of `signal_power`. Schoppe et al. (2016). See `ccmax_split_half` for the older way.

    Examples
    --------
    >>> ccmax(np.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]]))
    array([1.])
    """
    return _of_psth(_ccmax, response, lengths, mask, centre)


def ccmax_split_half(
    response: ArrayLike,
    *,
    n_splits: int = 126,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """The correlation that the true rate has with the PSTH, from the correlation c of halves of the repeats.

    CCmax = sqrt(2 / (1 + 1 / c)), with c the mean over distinct splits, all of them where there are no more than
    `n_splits` and otherwise that many drawn at random. An odd number of repeats, and halves that became unequal because
    repeats are missing, enter with the noise that their means have: c^-2 = (1 + x <1/a>)(1 + x <1/b>) is solved for the
    noise ratio x = NP / SP of halves of a and b repeats, and CCmax^2 = 1 / (1 + x <1/R>), <> being means over frames.
    A split uses the frames in which both of its halves have a repeat.

    Parameters
    ----------
    n_splits : splits at most; 126 are all that 10 repeats have
    seed : of the draw

    The others, and the errors, are those of `signal_power`.

    Returns
    -------
    (N,) float64, NaN where c <= 0

    References
    ----------
    Hsu, Borst & Theunissen (2004), doi:10.1088/0954-898X_15_2_002.

    Examples
    --------
    >>> ccmax_split_half(np.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]]))
    array([1.])
    """
    clips = read_clips(response, lengths=lengths, mask=mask)
    splits = half_splits(clips.n_repeats, n_splits, seed).to(clips.device)
    halves = statistics(clips, centre, min_repeats=2, splits=splits).halves
    assert halves is not None
    return clips.wrap(split_half_ceiling(halves))


def half_splits(n_repeats: int, n_splits: int, seed: int) -> Tensor:
    """Distinct splits of the repeats in two halves, (K, R) float64, ones in the first half.

    For an even number of repeats the first repeat is in the first half, as a split and its mirror image are the same.
    """
    if n_splits < 1:
        raise ValueError(f"n_splits={n_splits}: it must be 1 or more")
    if n_repeats < 2:
        return torch.zeros(1, n_repeats, dtype=torch.float64)
    free = n_repeats - (n_repeats % 2 == 0)  # repeats that may go to either half
    picks = n_repeats // 2 - (n_repeats % 2 == 0)
    total = math.comb(free, picks)
    rng = np.random.default_rng(seed)
    wanted = min(n_splits, total)
    found: dict[bytes, np.ndarray] = {}
    if total <= 4 * wanted:
        found = {h.tobytes(): h for h in rng.permutation(_combinations(free, picks))}
    while len(found) < wanted:
        order = rng.random((wanted, free)).argsort(1)
        found |= {h.tobytes(): h for h in order < picks}
    halves = np.stack(list(found.values())[:wanted])
    if n_repeats % 2 == 0:
        halves = np.concatenate([np.ones((wanted, 1), bool), halves], 1)
    return torch.from_numpy(halves.astype(np.float64))


def _combinations(free: int, picks: int) -> np.ndarray:
    from itertools import combinations

    chosen = np.array(list(combinations(range(free), picks)), dtype=int)
    halves = np.zeros((len(chosen), free), bool)
    np.put_along_axis(halves, chosen, True, 1)
    return halves


def split_half_ceiling(halves: HalfSums) -> Tensor:
    c = ratio(halves.ab, (halves.aa * halves.bb).sqrt())  # (N, K)
    c = c.nanmean(-1)
    n = halves.n.sum(-1)
    a, b, both = halves.per_a.sum(-1) / n, halves.per_b.sum(-1) / n, halves.per_all.sum(-1) / n
    noise = ((a + b).square() + 4 * a * b * (c**-2 - 1).clamp_min(0)).sqrt() - (a + b)
    return torch.where(c > 0, (1 + noise / (2 * a * b) * both).rsqrt(), torch.nan)


def signal_sum(sums: PsthSums) -> Tensor:
    """n times the signal power (N,), exactly zero where rounding error is all there is."""
    signal = sums.yy - sums.noise
    return torch.where(signal.abs() <= TINY * sums.yy, 0.0, signal)


def _signal(sums: PsthSums) -> Tensor:
    return torch.where(sums.n > 0, signal_sum(sums) / sums.n, torch.nan)


def _noise(sums: PsthSums) -> Tensor:
    return torch.where(sums.n > 0, sums.s2 / sums.n, torch.nan)


def _noise_ratio(sums: PsthSums) -> Tensor:
    return ratio(sums.s2, signal_sum(sums))


def _ccmax(sums: PsthSums) -> Tensor:
    signal = signal_sum(sums)
    return torch.where(signal > 0, ratio(signal, sums.yy).sqrt(), torch.nan)


def ceilings(sums: PsthSums) -> dict[str, Tensor]:
    """What this file says of the PSTH, for `scores`."""
    noise_ratio = _noise_ratio(sums)
    return {
        "signal_power": _signal(sums),
        "noise_power": _noise(sums),
        "snr": 1 / noise_ratio,
        "noise_ratio": noise_ratio,
        "ccmax": _ccmax(sums),
    }


def _of_psth(value, response: ArrayLike, lengths: Any, mask: Any, centre: str) -> Any:
    clips = read_clips(response, lengths=lengths, mask=mask)
    return clips.wrap(value(statistics(clips, centre, min_repeats=2).psth))
