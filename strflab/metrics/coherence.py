"""Coherence of a prediction with a response, the information rate that it implies, and the ceiling that noise sets.

    gamma^2(f) = |S_py|^2 / (S_pp S_yy),     I = -integral log2(1 - gamma^2(f)) df     bits/s

Spectra are means over segments of a clip and over their orthogonal tapers (discrete prolate spheroidal sequences;
Thomson 1982, doi:10.1109/PROC.1982.12433). Leaving out one segment and taper at a time gives the jackknife: the bias
of gamma^2, which is 1/M for M such estimates of unrelated signals, is taken off, and the band is Student's t on the
scale of atanh(gamma). The ceiling is that of Hsu, Borst & Theunissen (2004), doi:10.1088/0954-898X_15_2_002.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strflab.metrics._clips import ArrayLike, Clips, choice, read_clips
from strflab.metrics._moments import CENTRES

WINDOW_MS = 500.0
MEMORY = 2**22  # float64 values that a block of neurons may take


class Coherence(NamedTuple):
    """Coherence of each neuron in each frequency, with its jackknife confidence band.

    Parameters
    ----------
    frequencies : (F,) Hz
    coherence : (N, F), magnitude, between 0 and 1
    lower, upper : (N, F) ends of the band
    """

    frequencies: Any  # (F,) Hz
    coherence: Any  # (N, F), magnitude, between 0 and 1
    lower: Any  # (N, F)
    upper: Any  # (N, F)


def coherence(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    dt_ms: float,
    window_ms: float | None = None,
    time_bandwidth: float = 3.0,
    confidence: float = 0.95,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Coherence:
    """Multitaper coherence of the prediction with the PSTH.

    Parameters
    ----------
    prediction : (B, N, 1, T), (B, N, T) or (N, T), or a list of (N, T_k), spikes per bin
    response : (B, N, R, T) or (N, R, T), or a list of (N, R_k, T_k), spikes per bin
        NaN where missing. A PSTH is one repeat.
    dt_ms : ms, length of a frame
    window_ms : ms, length of the segments, which do not overlap; what is left at a clip's end is not used
        Without it 500 ms, or the shortest clip if that is shorter.
    time_bandwidth : half the bandwidth of the estimate in units of 1 / window; 2 time_bandwidth - 1 tapers
    confidence : of the jackknife band
    lengths : (B,) frames of each clip that count, the rest is padding
    mask : (B, T) or (B, N, T), or a list, True where a frame counts
        A segment with a frame that does not count, or that no repeat has, is left out for that neuron.
    centre : over what means are removed, "concatenated" clips or each "clip"

    Returns
    -------
    Coherence(frequencies (F,) Hz, coherence (N, F), lower (N, F), upper (N, F))
        NaN for a neuron with fewer than two estimates, or that does not vary.

    Raises
    ------
    ValueError
        If the window is longer than a clip or too short for its tapers, or if segments times tapers are fewer than two,
        as the coherence of a single estimate is 1 whatever the signals.

    References
    ----------
    Thomson (1982), doi:10.1109/PROC.1982.12433.

    Examples
    --------
    >>> x = torch.randn(1, 2000)
    >>> bool(coherence(x, 2 * x, dt_ms=5.0).coherence.min() > 0.999)
    True
    """
    clips = read_clips(response, prediction, lengths, mask)
    frequencies, squared, lower, upper = _coherence(clips, dt_ms, window_ms, time_bandwidth, confidence, centre)
    return Coherence(clips.wrap(frequencies), *map(clips.wrap, (squared.clamp(0, 1).sqrt(), lower, upper)))


def coherence_ceiling(
    response: ArrayLike,
    *,
    dt_ms: float,
    window_ms: float | None = None,
    time_bandwidth: float = 3.0,
    confidence: float = 0.95,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Coherence:
    """The coherence that the true rate has with the PSTH.

    Hsu et al. (2004) take the coherence c of the mean of one half of the repeats with that of the other and, with all R
    repeats, 2 c / (1 + c) as gamma^2. Averaged over every half split the spectra of the halves have closed forms in the
    Fourier transforms X_r of the repeats, and the result is

        gamma^2 = S / S_yy,   S = (|sum_r X_r|^2 - sum_r |X_r|^2) / (R (R - 1)),   S_yy = |sum_r X_r / R|^2

    in means over segments and tapers: the signal power of `signal_power`, frequency by frequency. A repeat counts in
    the segments that it has complete, a segment where two repeats or more do. Other parameters and errors are those of
    `coherence`.

    Examples
    --------
    >>> x = torch.randn(1, 1, 2000).expand(1, 4, 2000)
    >>> bool(coherence_ceiling(x, dt_ms=5.0).coherence.min() > 0.999)
    True
    """
    clips = read_clips(response, None, lengths, mask)
    frequencies, squared, lower, upper = _ceiling(clips, dt_ms, window_ms, time_bandwidth, confidence, centre)
    return Coherence(clips.wrap(frequencies), *map(clips.wrap, (squared.clamp(0, 1).sqrt(), lower, upper)))


def coherence_information(
    prediction: ArrayLike,
    response: ArrayLike,
    *,
    dt_ms: float,
    window_ms: float | None = None,
    time_bandwidth: float = 3.0,
    band: tuple[float, float] | None = None,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Information rate -integral log2(1 - gamma^2(f)) df that a Gaussian channel of this coherence carries.

    gamma^2 enters with its bias removed and may be negative, so that unrelated signals have about 0 bits/s. Signals
    that are filtered versions of each other have no upper bound.

    Parameters
    ----------
    band : (lowest, highest) Hz of the integral; without it from 0 to half the frame rate

    The others, and the errors, are those of `coherence`.

    Returns
    -------
    (N,) float64, bits/s

    References
    ----------
    Hsu, Borst & Theunissen (2004), doi:10.1088/0954-898X_15_2_002.

    Examples
    --------
    >>> x = torch.randn(1, 20000)
    >>> bool(coherence_information(x, x + torch.randn(1, 20000), dt_ms=5.0) > 80)  # 100 Hz at 1 bit/s/Hz
    True
    """
    clips = read_clips(response, prediction, lengths, mask)
    frequencies, squared, *_ = _coherence(clips, dt_ms, window_ms, time_bandwidth, 0.95, centre)
    return clips.wrap(_information(frequencies, squared, band))


def coherence_information_ceiling(
    response: ArrayLike,
    *,
    dt_ms: float,
    window_ms: float | None = None,
    time_bandwidth: float = 3.0,
    band: tuple[float, float] | None = None,
    lengths: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    centre: str = "concatenated",
) -> Any:
    """Information rate of the true rate about the PSTH, bits/s, from `coherence_ceiling`.

    Parameters and errors are those of `coherence_information`. Hsu et al. (2004).

    Examples
    --------
    >>> x = torch.randn(1, 1, 20000) + torch.randn(1, 2, 20000)  # gamma^2 = 2 / 3
    >>> bool(coherence_information_ceiling(x, dt_ms=5.0) > 100)
    True
    """
    clips = read_clips(response, None, lengths, mask)
    frequencies, squared, *_ = _ceiling(clips, dt_ms, window_ms, time_bandwidth, 0.95, centre)
    return clips.wrap(_information(frequencies, squared, band))


def _coherence(clips: Clips, dt_ms, window_ms, time_bandwidth, confidence, centre) -> tuple[Tensor, ...]:
    window, tapers = _tapers(clips, dt_ms, window_ms, time_bandwidth, confidence)
    by_clip = choice("centre", centre, CENTRES) == "clip"
    means = [_valid(x, mask).nanmean(1) for x, _, mask in clips]  # (N, T_k), the PSTH
    signals = [torch.stack([p.double(), y], 1) for (_, p, _), y in zip(clips, means)]
    signals = [torch.where(y[:, None].isnan(), torch.nan, s) for s, y in zip(signals, means)]  # (N, 2, T_k)
    signals = _centred(signals, by_clip)
    broken = torch.stack([(s[:, :1].isnan() & ~s[:, 1:].isnan()).any((1, 2)) for s in signals]).any(0)

    def spectra(neurons: slice) -> tuple[Tensor, Tensor]:
        segments = torch.cat([_segments(s[neurons], window) for s in signals], 2)  # (n, 2, S, W)
        there = ~segments[:, 1].isnan().any(-1)  # (n, S)
        f = _transform(segments.nan_to_num(nan=0.0), tapers) * there[:, None, :, None, None]  # (n, 2, S, K, F)
        p, y = f.flatten(2, 3).unbind(1)  # (n, M, F)
        cross = p * y.conj()
        sums = torch.stack([cross.real, cross.imag, _power(p), _power(y)])
        return sums, there.repeat_interleave(len(tapers), 1)

    squared, lower, upper = _jackknife(clips, spectra, _gamma2, 4, window, tapers, confidence)
    lost = [torch.where(broken[:, None], torch.nan, v) for v in (squared, lower, upper)]
    return _frequencies(window, dt_ms, clips), *lost


def _ceiling(clips: Clips, dt_ms, window_ms, time_bandwidth, confidence, centre) -> tuple[Tensor, ...]:
    window, tapers = _tapers(clips, dt_ms, window_ms, time_bandwidth, confidence)
    by_clip = choice("centre", centre, CENTRES) == "clip"
    means = _repeat_means(clips, by_clip)

    def spectra(neurons: slice) -> tuple[Tensor, Tensor]:
        parts, weights = [], []
        for (x, _, mask), mean in zip(clips, means):
            segments = _segments(_valid(x[neurons], mask) - mean[neurons], window)  # (n, R, S, W)
            there = ~segments.isnan().any(-1)  # (n, R, S)
            count = there.sum(1).double()
            f = _transform(segments.nan_to_num(nan=0.0), tapers) * there[..., None, None]  # (n, R, S, K, F)
            whole, each = _power(f.sum(1)), _power(f).sum(1)  # (n, S, K, F)
            R, used = count.clamp_min(2)[..., None, None], (count >= 2)[..., None, None]
            parts.append(torch.stack([(whole - each) / (R * (R - 1)), whole / R**2]) * used)
            weights.append(count >= 2)
        sums = torch.cat(parts, 2).flatten(2, 3)  # (2, n, M, F)
        return sums, torch.cat(weights, 1).repeat_interleave(len(tapers), 1)

    found = _jackknife(clips, spectra, _share, clips.n_repeats, window, tapers, confidence)
    return _frequencies(window, dt_ms, clips), *found


def _gamma2(sums: Tensor) -> Tensor:
    real, imaginary, pp, yy = sums
    return (real.square() + imaginary.square()) / (pp * yy)


def _share(sums: Tensor) -> Tensor:
    return sums[0] / sums[1]


def _jackknife(
    clips: Clips, spectra: Callable, statistic: Callable, rows: int, window: int, tapers: Tensor, confidence: float
) -> tuple[Tensor, Tensor, Tensor]:
    """gamma^2 less its jackknife bias, and the band of gamma: three of (N, F)."""
    from scipy.stats import t as student

    size = sum(x.shape[-1] // window for x in clips.responses) * len(tapers) * (window + 2) * (rows + 2)
    at_once = max(1, MEMORY // size)
    results = []
    for start in range(0, clips.n_neurons, at_once):
        sums, used = spectra(slice(start, start + at_once))  # (Q, n, M, F), (n, M)
        M = used.sum(1).double()[:, None]  # (n, 1)
        total = sums.sum(2)
        left_out = statistic(total[:, :, None] - sums)  # (n, M, F)
        weight = used[..., None].double()
        mean = (weight * left_out).sum(1) / M
        squared = M * statistic(total) - (M - 1) * mean
        z = left_out.clamp(0, 1 - 1e-15).sqrt().atanh()
        spread = weight * (z - ((weight * z).sum(1) / M)[:, None]).square()
        error = ((M - 1) / M * spread.sum(1)).sqrt()
        reach = (
            torch.from_numpy(student.ppf((1 + confidence) / 2, (M - 1).clamp_min(1).cpu().numpy())).to(error) * error
        )
        centre = squared.clamp(0, 1 - 1e-15).sqrt().atanh()
        found = torch.stack([squared, (centre - reach).clamp_min(0).tanh(), (centre + reach).tanh()])
        results.append(torch.where(M < 2, torch.nan, found))
    return tuple(torch.cat(results, 1))


def _information(frequencies: Tensor, squared: Tensor, band: tuple[float, float] | None) -> Tensor:
    low, high = band if band is not None else (0.0, float(frequencies[-1]))
    if not 0 <= low < high:
        raise ValueError(f"band={band}: it must be (lowest, highest) in Hz, 0 <= lowest < highest")
    inside = (frequencies >= low - 1e-9) & (frequencies <= high + 1e-9)
    if inside.sum() < 2:
        raise ValueError(f"band={band} holds {int(inside.sum())} frequencies of {frequencies.tolist()}: it needs 2")
    bits = -torch.log2(1 - squared[:, inside].clamp_max(1))
    return torch.trapezoid(bits, frequencies[inside], dim=-1)


def _tapers(clips: Clips, dt_ms, window_ms, time_bandwidth, confidence) -> tuple[int, Tensor]:
    from scipy.signal.windows import dpss

    if not dt_ms > 0:
        raise ValueError(f"dt_ms={dt_ms}: it must be positive")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: it must be between 0 and 1")
    if not time_bandwidth >= 1:
        raise ValueError(f"time_bandwidth={time_bandwidth}: it must be 1 or more")
    frames = [x.shape[-1] for x in clips.responses]
    window = round(WINDOW_MS / dt_ms) if window_ms is None else round(window_ms / dt_ms)
    if window_ms is None:
        window = min(window, min(frames))
    if window > min(frames):
        raise ValueError(
            f"window_ms={window_ms} is {window} frames, longer than the shortest clip, {min(frames)} frames: "
            f"it must be {min(frames) * dt_ms:g} ms or less"
        )
    if window <= 2 * time_bandwidth:
        raise ValueError(
            f"a window of {window} frames has no room for time_bandwidth={time_bandwidth}: "
            f"it needs more than {2 * time_bandwidth:g} frames"
        )
    n_tapers = int(2 * time_bandwidth) - 1
    n_segments = sum(T // window for T in frames)
    if n_segments * n_tapers < 2:
        raise ValueError(
            f"{n_segments} segment of {window} frames and {n_tapers} taper give one estimate, and the coherence of one "
            "is 1 whatever the signals: shorten window_ms or raise time_bandwidth"
        )
    tapers = dpss(window, time_bandwidth, n_tapers)
    return window, torch.from_numpy(np.ascontiguousarray(tapers)).to(clips.device)


def _valid(x: Tensor, mask: Tensor | None) -> Tensor:
    x = x.double()
    if mask is None:
        return x
    return torch.where(mask[:, None] if mask.ndim == 2 else mask, x, torch.nan)


def _means(parts: list[Tensor], by_clip: bool) -> list[Tensor]:
    """Means of each clip, or over all clips, from the sum and the count of each."""
    if by_clip:
        return [total / count for total, count in parts]
    total, count = torch.stack(parts).sum(0)
    return [total / count] * len(parts)


def _sum_count(x: Tensor) -> Tensor:
    return torch.stack([x.nansum(-1, keepdim=True), (~x.isnan()).sum(-1, keepdim=True)])


def _centred(signals: list[Tensor], by_clip: bool) -> list[Tensor]:
    """Signals (N, C, T_k) less their mean over valid frames."""
    means = _means([_sum_count(s) for s in signals], by_clip)
    return [s - m for s, m in zip(signals, means)]


def _repeat_means(clips: Clips, by_clip: bool) -> list[Tensor]:
    """The PSTH's mean plus a repeat's mean distance from the PSTH (N, R_k, 1): its own mean, whatever it lacks."""
    whole, own = [], []
    for x, _, mask in clips:
        x = _valid(x, mask)
        y = x.nanmean(1, keepdim=True)
        more = (0, 0, 0, clips.n_repeats - x.shape[1])
        whole.append(_sum_count(y))
        own.append(torch.nn.functional.pad(_sum_count(x - y), more))
    means = zip(_means(whole, by_clip), _means(own, by_clip), clips.responses)
    return [y + m[:, : x.shape[1]] for y, m, x in means]


def _segments(x: Tensor, window: int) -> Tensor:
    """(..., T) -> (..., S, window)."""
    S = x.shape[-1] // window
    return x[..., : S * window].unflatten(-1, (S, window))


def _transform(segments: Tensor, tapers: Tensor) -> Tensor:
    return torch.fft.rfft(segments[..., None, :] * tapers)  # (..., S, K, F)


def _power(f: Tensor) -> Tensor:
    return f.real.square() + f.imag.square()


def _frequencies(window: int, dt_ms: float, clips: Clips) -> Tensor:
    return torch.fft.rfftfreq(window, dt_ms / 1000, dtype=torch.float64, device=clips.device)
