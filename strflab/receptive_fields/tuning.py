"""What a physiologist reads off a receptive field W[f, k]: where, how wide, how late, how separable, which sign.

Excitatory profiles sum the positive weights, over lags for the spectral one and over bands for the temporal one.

    best frequency    peak of the spectral profile (a parabola through three bands), Hz
    bandwidth         width of the spectral profile at half its peak, octaves
    latency           lag of the peak of the temporal profile (a parabola through three lags), ms
    separability      sigma_1^2 / sum_i sigma_i^2, of the singular values; 1 - it is the inseparability alpha_SVD
                      (Depireux, Simon, Klein & Shamma 2001, doi 10.1152/jn.2001.85.3.1220)
    balance           sum W / sum |W|, from 1, all excitation, to -1, all inhibition

Fields are (..., F, T), the last tap at lag 0, of numpy or torch; results are float64 of numpy, one value a field. A
measure that a field does not have, such as a best frequency without excitation, is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.receptive_fields._arrays import as_fields, as_frequencies, ratio
from strflab.receptive_fields.modulation import modulation_transfer_function
from strflab.validation import number


@dataclass(frozen=True)
class Tuning:
    """The measures of a set of fields, each an array with one value a field.

    Parameters
    ----------
    best_frequency : Hz
    bandwidth : octaves
    latency : ms
    separability : from 1 / min(F, T) to 1
    excitation_inhibition : from -1 to 1
    best_rate : temporal modulation of the peak of the modulation transfer function, Hz, not negative
    best_density : its spectral modulation, cycles an octave (cycles a kHz where the bands are evenly spaced)
    direction : from -1, all energy in rising sweeps, to 1, all in falling ones
    """

    best_frequency: np.ndarray
    bandwidth: np.ndarray
    latency: np.ndarray
    separability: np.ndarray
    excitation_inhibition: np.ndarray
    best_rate: np.ndarray
    best_density: np.ndarray
    direction: np.ndarray

    def records(self) -> list[dict[str, float]]:
        """Return a table: one record a field."""
        columns = {field.name: getattr(self, field.name).ravel() for field in fields(self)}
        return [dict(zip(columns, map(float, values))) for values in zip(*columns.values())]


def tuning(field: Tensor | ArrayLike, dt_ms: float, frequencies: ArrayLike) -> Tuning:
    """Return all measures of one field or of many.

    Parameters
    ----------
    field : (..., F, T) weights, last tap at lag 0
    dt_ms : frame length, ms
    frequencies : (F,) centres of the bands, Hz, increasing

    Raises
    ------
    ValueError : shapes disagree, a value is not finite, or `frequencies` do not increase from above 0

    Examples
    --------
    >>> field = np.zeros((3, 4))
    >>> field[1, 2] = 1.0
    >>> float(tuning(field, dt_ms=5.0, frequencies=[500, 1000, 2000]).latency)
    5.0
    """
    transfer = modulation_transfer_function(field, dt_ms, frequencies)
    best_rate, best_density = transfer.peak()
    return Tuning(
        best_frequency(field, frequencies),
        bandwidth(field, frequencies),
        latency(field, dt_ms),
        separability(field),
        excitation_inhibition(field),
        best_rate,
        best_density,
        transfer.direction(),
    )


def best_frequency(field: Tensor | ArrayLike, frequencies: ArrayLike, interpolate: bool = True) -> np.ndarray:
    """Return the frequency at which sound excites most, Hz: the peak of the excitatory spectral profile.

    Parameters
    ----------
    field : (..., F, T)
    frequencies : (F,) Hz
    interpolate : find the peak between the bands; False: return the frequency of a band
    """
    w = as_fields(field)
    octaves = np.log2(as_frequencies(frequencies, w.shape[-2]))
    peak, _ = _peak(_profile(w, -1), interpolate)
    return 2 ** _between(peak, octaves)


def bandwidth(field: Tensor | ArrayLike, frequencies: ArrayLike) -> np.ndarray:
    """Return the width of the excitatory spectral profile at half of its peak, octaves; NaN where the profile does not
    fall to half on both sides of the peak, within the bands.

    Parameters
    ----------
    field : (..., F, T)
    frequencies : (F,) Hz
    """
    w = as_fields(field)
    octaves = np.log2(as_frequencies(frequencies, w.shape[-2]))
    profile = _profile(w, -1)
    _, height = _peak(profile, True)
    upper = _between(_half(profile, height), octaves)
    lower = _between(_half(profile[..., ::-1], height), octaves[::-1])
    return upper - lower


def latency(field: Tensor | ArrayLike, dt_ms: float, interpolate: bool = True) -> np.ndarray:
    """Return the lag at which sound excites most, ms: the peak of the excitatory temporal profile.

    Parameters
    ----------
    field : (..., F, T), last tap at lag 0
    dt_ms : frame length, ms
    interpolate : find the peak between the lags; False: return a multiple of `dt_ms`
    """
    profile = _profile(as_fields(field), -2)[..., ::-1]
    return _peak(profile, interpolate)[0] * number("dt_ms", dt_ms, above=0)


def separability(field: Tensor | ArrayLike) -> np.ndarray:
    """Return the share of a field's energy that one product of a spectral and a temporal profile carries: 1 if it is
    such a product, and 1 minus the inseparability index alpha_SVD.

    Parameters
    ----------
    field : (..., F, T)
    """
    energy = np.linalg.svd(as_fields(field), compute_uv=False) ** 2
    return ratio(energy[..., 0], energy.sum(-1))


def excitation_inhibition(field: Tensor | ArrayLike) -> np.ndarray:
    """Return ``sum W / sum |W|``: 1 if all weights excite, -1 if all inhibit.

    Parameters
    ----------
    field : (..., F, T)
    """
    w = as_fields(field)
    return ratio(w.sum((-2, -1)), np.abs(w).sum((-2, -1)))


def _profile(w: np.ndarray, axis: int) -> np.ndarray:
    return np.maximum(w, 0).sum(axis)


def _peak(profile: np.ndarray, interpolate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Position, in steps from the first, and height of the highest point of profiles (..., n); NaN where all is 0."""
    n = profile.shape[-1]
    i = profile.argmax(-1)
    height = _at(profile, i)
    position = i.astype(np.float64)
    if interpolate:
        left, right = _at(profile, np.maximum(i - 1, 0)), _at(profile, np.minimum(i + 1, n - 1))
        inside = (i > 0) & (i < n - 1)
        curvature = np.where(inside, 2 * height - left - right, 0)
        shift = np.where(curvature > 0, (right - left) / np.where(curvature > 0, 2 * curvature, 1), 0)
        position, height = position + shift, height + shift * (right - left) / 4
    return np.where(height > 0, position, np.nan), np.where(height > 0, height, np.nan)


def _half(profile: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Where, after its peak, a profile (..., n) first falls to half of `height`, in steps from the first."""
    i = profile.argmax(-1)
    half = height[..., None] / 2
    below = (np.arange(profile.shape[-1]) > i[..., None]) & (profile <= half)
    j = np.maximum(below.argmax(-1), 1)
    above, under = _at(profile, j - 1), _at(profile, j)
    fall = np.where(above > under, above - under, 1)
    return np.where(below.any(-1), j - 1 + (above - half[..., 0]) / fall, np.nan)


def _at(profile: np.ndarray, i: np.ndarray) -> np.ndarray:
    return np.take_along_axis(profile, i[..., None], -1)[..., 0]


def _between(position: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The value of `grid` at positions between its entries."""
    return np.interp(position, np.arange(len(grid)), grid)
