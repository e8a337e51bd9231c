"""Fixed front-ends that weigh the short-time Fourier transform by a bank of filters.

    X[f, t] = sum_n w[n] x[e_t - L + n] exp(-2 pi i f n / n_fft),        e_t the end of frame t, L the window's length

    LogMel                  max(10 log10(M |X|^2), floor),               M triangular on a mel axis
    NS1Cochleagram          (max(10 log10(A |X|), floor) - mean) / std,  A triangular on a log axis
    Rahman2020Cochleagram   one of five compressions of U |X| or U |X|^2, U = A with rows that sum to 1

The window ends with the frame: these are causal. The published cochleagrams let it start with the frame, so that they
run one frame ahead of the ones here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.layers.frontends.base import LONGEST_MS, Frontend, band_range, decibel, level, mel_points, windows
from strflab.validation import choice, integer, number


class ShortTimeFourier(Frontend):
    """Base of the front-ends of this file; a subclass says how to compress the filters' output."""

    window: Tensor
    filters: Tensor

    def _set_transform(self, window: Tensor, filters: Tensor, centres: Tensor) -> None:
        """Keep the window (L,), the filters (F, n_fft / 2 + 1) and their centres (F,), Hz."""
        self.span = len(window)
        self.n_fft = 2 * (filters.shape[1] - 1)
        for name, value in (("window", window), ("filters", filters), ("centres", centres)):
            self.register_buffer(name, value.float(), persistent=False)

    @property
    def frequencies(self) -> Tensor:
        """Centre frequencies (F,), Hz."""
        return self.centres  # type: ignore[return-value]

    @property
    def reference(self) -> Tensor:
        return self.window

    def amplitude(self, x: Tensor, starts: Tensor) -> Tensor:
        """|X|: (B, T, n_fft / 2 + 1).

        Parameters
        ----------
        x : (B, samples) waveform
        starts : (T,) first sample of each frame
        """
        frames = windows(x, self.span, starts) * self.window
        return torch.fft.rfft(F.pad(frames, (0, self.n_fft - self.span))).abs()

    def weigh(self, spectrum: Tensor) -> Tensor:
        """The filters' sums of a spectrum (B, T, n_fft / 2 + 1): (B, F, T)."""
        return F.linear(spectrum, self.filters).transpose(1, 2)


class LogMel(ShortTimeFourier):
    """Causal log-mel spectrogram in decibels: the bands' powers of a sine of amplitude 1 sum to 1, 0 dB.

    Parameters
    ----------
    n_bands : F
    sample_rate : Hz; the default is that of NS1
    dt_ms : frame length, ms
    window_ms : length of the Hann window, ms, at least one frame
    low_hz, high_hz : lower edge of the lowest and upper edge of the highest filter, Hz; None: half the sample rate
    floor_db : lowest level

    Examples
    --------
    >>> LogMel(34, sample_rate=48_000)(torch.zeros(2, 1, 48_000)).shape
    torch.Size([2, 1, 34, 200])
    """

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        window_ms: float = 25.0,
        low_hz: float = 100.0,
        high_hz: float | None = None,
        floor_db: float = -80.0,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        self.floor_db = level("floor_db", floor_db)
        low, high = band_range(self.sample_rate, low_hz, high_hz)
        n_window = round(
            number("window_ms", window_ms, at_least=self.dt_ms, at_most=LONGEST_MS) / 1000 * self.sample_rate
        )
        window = torch.hann_window(n_window + 2, periodic=False, dtype=torch.float64)[1:-1]
        n_fft = 2 ** (2 * n_window - 1).bit_length()
        edges = mel_points(low, high, self.n_bands + 2)
        bins = torch.linspace(0, self.sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        filters = mel_filterbank(bins, edges)
        if not (filters.sum(1) > 0).all():
            raise ValueError(
                f"n_bands={n_bands}: a filter is narrower than a Fourier bin, {bins[1]:.3g} Hz; take fewer bands, or a "
                "longer window_ms"
            )
        scale = torch.sqrt(4 / (n_fft * window.square().sum()))
        self._set_transform(scale * window, filters, edges[1:-1])

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        return decibel(self.weigh(self.amplitude(x, starts) ** 2), self.floor_db)


class NS1Cochleagram(ShortTimeFourier):
    """The cochleagram of the NS1 recordings (Harper et al. 2016, doi 10.1371/journal.pcbi.1005113), made causal.

    Hamming windows of two frames, padded fourfold with zeros; triangular filters on the amplitude. The published one
    z-scores each clip by itself, which takes the whole of it: here mean and standard deviation are given. As published,
    a frame is `dt_ms` rounded to whole samples (244, 4.997 ms). Frame t + 1 is frame t of
    ``strflab.data.spectrogram.cochleagram(x, sample_rate, standardise=False)``, whose filters these are.

    Parameters
    ----------
    n_bands : F
    sample_rate : Hz
    dt_ms : frame length, ms
    low_hz, high_hz : centres of the lowest and the highest filter, Hz
    floor_db : lowest level
    mean, std : of the decibels of the training clips; 0 and 1 leave decibels

    Examples
    --------
    >>> NS1Cochleagram()(torch.zeros(1, 1, 24_400)).shape
    torch.Size([1, 1, 34, 100])
    """

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        low_hz: float = 500.0,
        high_hz: float = 22_627.0,
        floor_db: float = -40.0,
        mean: float = 0.0,
        std: float = 1.0,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        self.floor_db = level("floor_db", floor_db)
        self.mean, self.std = number("mean", mean), number("std", std, above=0)
        hop = whole_frame(self)
        filters, centres = log_filterbank(self.n_bands, hop, self.sample_rate, low_hz, high_hz)
        self._set_transform(torch.from_numpy(np.hamming(2 * hop)), filters, centres)

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        return (decibel(self.weigh(self.amplitude(x, starts)), self.floor_db) - self.mean) / self.std


# what each compression takes, and its value in the authors' released code
RAHMAN_2020: dict[str, dict[str, Any]] = {
    "log": {"floors_db": (-70.0,)},
    "log1plus": {},
    "power": {"floors_db": (-70.0,)},
    "hill": {"floors_db": (-70.0,), "saturations": (0.16,), "gain": 1e-2, "exponent": 1.77},
    "multithreshold": {
        "floors_db": (-15.0, -30.0, -40.0),
        "saturations": (6e-5, 3e-5, 1e-5),
        "gain": 1e-4,
        "exponent": 1.77,
    },
}


class Rahman2020Cochleagram(ShortTimeFourier):
    """The simple cochleagrams of Rahman et al. 2020, doi 10.1073/pnas.1922033117, made causal.

    With S = |X| and U the filters, by `compression`:

        log             max(20 log10(U S), floor)
        log1plus        log10(1 + U S)
        power           max(10 log10(U S^2), floor)
        hill            z^n / (s + z^n),   z = c (max(10 log10(U S^2), floor) - floor)
        multithreshold  the same at three floors, each with its s, for three types of fibre: F/3 bands each, in a row

    Window and zero-padding are those of `NS1Cochleagram`, constants those of the authors' released code. Nothing is
    z-scored.

    Parameters
    ----------
    n_bands : F; with several floors a multiple of their number
    sample_rate : Hz; samples are taken to lie in [-1, 1]
    dt_ms : frame length, ms, rounded to whole samples
    compression : see above
    low_hz, high_hz : centres of the lowest and the highest filter, Hz
    floors_db, saturations, gain, exponent : floor and s (lists, one a type of fibre), c and n above; None: as released

    Raises
    ------
    ValueError : also if a constant is given that the compression does not have

    Examples
    --------
    >>> Rahman2020Cochleagram(compression="hill")(torch.zeros(1, 1, 24_400)).shape
    torch.Size([1, 1, 34, 100])
    """

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        compression: str = "log",
        low_hz: float = 508.3,
        high_hz: float = 19_912.0,
        floors_db: Sequence[float] | None = None,
        saturations: Sequence[float] | None = None,
        gain: float | None = None,
        exponent: float | None = None,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        self.compression = choice("compression", compression, tuple(RAHMAN_2020))
        constants = dict(RAHMAN_2020[compression])
        given = {"floors_db": floors_db, "saturations": saturations, "gain": gain, "exponent": exponent}
        for name, value in given.items():
            if value is not None and name not in constants:
                raise ValueError(f"{name}={value!r}: compression={compression!r} has no such constant, leave it out")
            if value is not None:
                constants[name] = value
        self.floors_db = numbers("floors_db", constants.get("floors_db", (0.0,)))
        for floor in self.floors_db:
            level("floors_db", floor)
        self.saturations = numbers("saturations", constants.get("saturations", self.floors_db))
        self.gain = number("gain", constants.get("gain", 1.0), above=0)
        self.exponent = number("exponent", constants.get("exponent", 1.0), above=0)
        n_types = len(self.floors_db)
        if n_types > 1 and "saturations" not in constants:
            raise ValueError(f"floors_db={floors_db!r}: must be one number with compression={compression!r}")
        if len(self.saturations) != n_types:
            raise ValueError(f"saturations={saturations!r}: must be as many as floors_db, {n_types}")
        if self.n_bands % n_types:
            raise ValueError(f"n_bands={n_bands}: must be a multiple of the number of floors, {n_types}")
        hop = whole_frame(self)
        filters, centres = log_filterbank(self.n_bands // n_types, hop, self.sample_rate, low_hz, high_hz)
        window = torch.from_numpy(np.hamming(2 * hop))
        self._set_transform(window, filters / filters.sum(1, keepdim=True), centres.repeat(n_types))

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        amplitude = self.amplitude(x, starts)
        if self.compression == "log":
            return decibel(self.weigh(amplitude) ** 2, self.floors_db[0])
        if self.compression == "log1plus":
            return torch.log10(1 + self.weigh(amplitude))
        power = self.weigh(amplitude**2)
        if self.compression == "power":
            return decibel(power, self.floors_db[0])
        return torch.cat([self._hill(power, f, s) for f, s in zip(self.floors_db, self.saturations)], 1)

    def _hill(self, power: Tensor, floor: float, saturation: float) -> Tensor:
        z = (self.gain * (decibel(power, floor) - floor)) ** self.exponent
        return z / (saturation + z)


def mel_filterbank(bins: Tensor, edges: Tensor) -> Tensor:
    """Triangles of height 1 (F, n_bins) over the bins (Hz), the b-th from edge b by its peak at b + 1 to edge b + 2."""
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.minimum((bins - left) / (peak - left), (right - bins) / (right - peak)).clamp(min=0)


def log_filterbank(n_bands: int, hop: int, sample_rate: float, low_hz: float, high_hz: float) -> tuple[Tensor, Tensor]:
    """Return the triangular filters (F, 4 hop + 1) of `strflab.data.spectrogram` and their centres (F,), Hz."""
    from strflab.data.spectrogram import log_centres, triangular_filterbank

    band_range(sample_rate, low_hz, high_hz)
    integer("n_bands", n_bands, 2)
    try:
        centres = log_centres(low_hz, high_hz, n_bands)
        filters = triangular_filterbank(np.fft.rfftfreq(8 * hop, 1 / sample_rate), centres)
    except ValueError as error:
        raise ValueError(f"n_bands={n_bands}, low_hz={low_hz}, high_hz={high_hz}: {error}") from None
    return torch.from_numpy(filters), torch.from_numpy(centres)


def whole_frame(frontend: Frontend) -> int:
    """Round the frame to whole samples, as the published cochleagrams do, and return it."""
    hop = round(frontend.samples_per_frame)
    frontend.samples_per_frame = Fraction(hop)
    return hop


def numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Return `values` as a tuple of finite numbers."""
    if not isinstance(values, (tuple, list)) or not values:
        raise ValueError(f"{name}={values!r}: must be a list of numbers")
    return tuple(number(f"{name}[{i}]", v) for i, v in enumerate(values))
