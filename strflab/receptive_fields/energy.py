"""How far back a model hears: the energy of its gradient against lag.

    e[i] = sum_f W[f, lag i]^2 / sum_{f, j} W[f, lag j]^2,    memory = the smallest span of lags that holds 95 % of it

Used so of recurrent models by Rancon, Masquelier & Cottereau 2025, "Temporal recurrence as a general mechanism to
explain neural responses in the auditory system" (preprint); the measures of memory are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.receptive_fields._arrays import as_fields, ratio
from strflab.validation import number


@dataclass(frozen=True)
class GradientEnergy:
    """Energy against lag; NaN for a gradient that is zero.

    Parameters
    ----------
    lags : (T,) ms, from 0 up
    energy : (..., T) share of the energy at each lag: the first is at lag 0
    memory : (...) ms, the frames from the present back that hold `fraction` of the energy
    mean_lag : (...) ms, the lags' mean, weighted by energy
    fraction : of the energy, within `memory`
    """

    lags: np.ndarray
    energy: np.ndarray
    memory: np.ndarray
    mean_lag: np.ndarray
    fraction: float


def gradient_energy(gradmap: Tensor | ArrayLike, dt_ms: float, fraction: float = 0.95) -> GradientEnergy:
    """Return the energy of gradient maps, or of any receptive fields, against lag, and the memory that they show.

    Parameters
    ----------
    gradmap : (..., F, T), last tap at lag 0. Bring the channels that belong to one field into one axis with its
        bands: ``model.STRF_gradmap().flatten(1, 2)``
    dt_ms : frame length, ms
    fraction : of the energy, that `memory` is to hold

    Raises
    ------
    ValueError : an argument has the wrong shape or is out of range

    Examples
    --------
    >>> field = np.exp(-np.arange(100)[::-1] / 20.0)[None]  # tau 20 frames: 95 % of the energy in 1.5 tau
    >>> float(gradient_energy(field, dt_ms=5.0).memory)
    150.0
    """
    w = as_fields(gradmap)
    dt_ms = number("dt_ms", dt_ms, above=0)
    fraction = number("fraction", fraction, above=0, at_most=1)
    # a gradient may be small enough for its square to vanish
    w = ratio(w, np.broadcast_to(np.abs(w).max((-2, -1), keepdims=True), w.shape))
    energy = (w**2).sum(-2)[..., ::-1]
    energy = energy / energy.sum(-1, keepdims=True)
    lags = np.arange(w.shape[-1]) * dt_ms
    within = np.cumsum(energy, -1) < fraction - 1e-12
    memory = np.where(np.isnan(energy[..., 0]), np.nan, (1 + within.sum(-1)) * dt_ms)
    return GradientEnergy(lags, energy, memory, energy @ lags, fraction)
