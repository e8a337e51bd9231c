"""Which modulations of sound a receptive field passes: its transfer function for ripples.

A ripple s(x, t) = cos(2 pi (density x + rate t)), with x in octaves, drifts down in frequency where density and rate
have one sign, and up where they have two. A field W[x, t], whose last tap is the present, passes it with the gain of

    H(density, rate) = sum_x sum_t W[x, t] exp(-2 pi i (density x + rate t))

Chi, Gao, Guyton, Ru & Shamma 1999, doi 10.1121/1.428100; Singh & Theunissen 2003, doi 10.1121/1.1624067.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.receptive_fields._arrays import as_fields, as_frequencies, ratio
from strflab.validation import integer, number

EVEN = 0.02  # relative spread of the steps between bands up to which they are taken as one


@dataclass(frozen=True)
class ModulationTransfer:
    """The modulation transfer function of one field or of many; of the plane one half, whose mirror the other is.

    Parameters
    ----------
    gain : (..., n_densities, n_rates) |H|
    densities : (n_densities,) from 0 up, cycles an octave
    rates : (n_rates,) Hz; ripples of positive rate fall in frequency, those of negative rate rise
    unit : "octave", or "kHz" where the bands are evenly spaced in Hz: densities are then cycles a kHz
    """

    gain: np.ndarray
    densities: np.ndarray
    rates: np.ndarray
    unit: str

    def peak(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rate, Hz and without its sign, and the density of the greatest gain; NaN of an empty field."""
        flat = self.gain.reshape(*self.gain.shape[:-2], -1)
        density, rate = np.divmod(flat.argmax(-1), len(self.rates))
        found = flat.max(-1) > 0
        return np.where(found, np.abs(self.rates[rate]), np.nan), np.where(found, self.densities[density], np.nan)

    def direction(self) -> np.ndarray:
        """Return (falling - rising) / (falling + rising) of the energies for ripples that fall and that rise: 1 if all
        fall, -1 if all rise, NaN if there are neither."""
        energy = self.gain[..., self.densities > 0, :] ** 2
        falling = energy[..., self.rates > 0].sum((-2, -1))
        rising = energy[..., self.rates < 0].sum((-2, -1))
        return ratio(falling - rising, falling + rising)


def modulation_transfer_function(
    field: Tensor | ArrayLike, dt_ms: float, frequencies: ArrayLike, padding: int = 2
) -> ModulationTransfer:
    """Return the gain of receptive fields for ripples, by a two-dimensional Fourier transform.

    Bands that are evenly spaced neither in octaves nor in Hz (ERB, mel) are first interpolated to even octaves.

    Parameters
    ----------
    field : (..., F, T) weights, last tap at lag 0
    dt_ms : frame length, ms
    frequencies : (F,) centres of the bands, Hz, increasing; at least two
    padding : zeros extend the field to about this many times its size, for a finer grid of the same function

    Raises
    ------
    ValueError : shapes disagree, or a value is not allowed

    Examples
    --------
    >>> transfer = modulation_transfer_function(np.eye(8), 5.0, 500 * 2.0 ** np.arange(8))
    >>> bool(transfer.direction() < -0.8), transfer.unit  # its frequency rises
    (True, 'octave')
    """
    w = as_fields(field)
    f = as_frequencies(frequencies, w.shape[-2])
    if len(f) < 2:
        raise ValueError(f"frequencies={frequencies!r}: must be at least two, for a spectral modulation")
    dt = number("dt_ms", dt_ms, above=0) / 1000
    integer("padding", padding, 1, 64)
    w, step, unit = _evenly(w, f)
    # odd lengths, so that no ripple is its own mirror image
    n_x, n_t = (padding * n + (padding * n + 1) % 2 for n in w.shape[-2:])
    gain = np.abs(np.fft.fft2(w, (n_x, n_t)))[..., : n_x // 2 + 1, :]
    return ModulationTransfer(
        np.fft.fftshift(gain, -1),
        np.fft.fftfreq(n_x, step)[: n_x // 2 + 1],
        np.fft.fftshift(np.fft.fftfreq(n_t, dt)),
        unit,
    )


def _evenly(w: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, float, str]:
    """Fields on even steps of frequency, the step, and its unit."""
    for x, unit in ((np.log2(f), "octave"), (f / 1000, "kHz")):
        steps = np.diff(x)
        if np.ptp(steps) <= EVEN * steps.mean():
            return w, float(steps.mean()), unit
    x = np.log2(f)
    even = np.linspace(x[0], x[-1], len(x))
    i = np.clip(np.searchsorted(x, even) - 1, 0, len(x) - 2)
    share = ((even - x[i]) / (x[i + 1] - x[i]))[:, None]
    return w[..., i, :] * (1 - share) + w[..., i + 1, :] * share, float(even[1] - even[0]), "octave"
