"""Front-ends that filter the waveform itself, band by band, and then keep a value a frame.

    Gammatone   fixed      h_b[t] = t^3 exp(-2 pi 1.019 ERB(f_b) t) exp(2 pi i f_b t)           mean power, compressed
    SincNet     learnable  h_b[n] = (2 f2 sinc(2 f2 n) - 2 f1 sinc(2 f1 n)) hamming[n]          largest magnitude, in dB
    LEAF        learnable  h_b[n] = exp(2 pi i f_b n) exp(-n^2 / 2 s_b^2) / (sqrt(2 pi) s_b)    power, low-passed, sPCEN

Gammatone: Patterson et al. 1992 with the bandwidths of Glasberg & Moore 1990, doi 10.1016/0378-5955(90)90170-T.
SincNet: Ravanelli & Bengio 2018, doi 10.1109/SLT.2018.8639585. LEAF: Zeghidour, Teboul, de Chaumont Quitry &
Tagliasacchi 2021, doi 10.48550/arXiv.2101.08596.

Causality costs a delay where a filter is centred: half its length, and for LEAF half its low-pass window as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from strflab.layers.decay import scan
from strflab.layers.frontends.base import (
    LONGEST_MS,
    Frontend,
    band_range,
    decibel,
    fft_filter,
    level,
    mel_points,
    windows,
)
from strflab.validation import number

GAMMATONE_TAIL = 20.0  # of the envelope u^3 exp(-u), which is then 1e-5 of its peak


class Gammatone(Frontend):
    """Fourth-order gammatone filters, equally spaced in ERB numbers; the power of their envelopes in each frame.

    The filters' gain at their centre is 1: a sine of amplitude 1 there has power 1, 0 dB.

    Parameters
    ----------
    n_bands : F
    sample_rate : Hz; the default is that of NS1
    dt_ms : frame length, ms
    low_hz, high_hz : lowest and highest centre frequency; None: the filter whose band ends at half the sample rate
    exponent : None: decibels; else the root-mean-square envelope to this power
    floor_db : lowest level, dB, with an exponent as well

    Examples
    --------
    >>> Gammatone(34, sample_rate=48_000)(torch.zeros(2, 1, 48_000)).shape
    torch.Size([2, 1, 34, 200])
    """

    responses: Tensor
    centres: Tensor

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        low_hz: float = 500.0,
        high_hz: float | None = None,
        exponent: float | None = None,
        floor_db: float = -80.0,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        self.exponent = None if exponent is None else number("exponent", exponent, above=0)
        self.floor_db = level("floor_db", floor_db)
        if high_hz is None:  # f + ERB(f) / 2 = sample_rate / 2
            high_hz = (self.sample_rate - 24.7) / (2 + 24.7 * 0.00437)
        low, high = band_range(self.sample_rate, number("low_hz", low_hz, above=0), high_hz)
        centres = erb_points(low, high, self.n_bands)  # (F,)
        decay = 2 * math.pi * 1.019 * erb(centres)  # 1/s
        n_taps = 1 + math.ceil(GAMMATONE_TAIL / float(decay.min()) * self.sample_rate)
        t = torch.arange(n_taps, dtype=torch.float64) / self.sample_rate
        u = decay[:, None] * t  # (F, K)
        envelope = u**3 * torch.exp(-u) * decay[:, None] / self.sample_rate / 3
        phase = 2 * math.pi * centres[:, None] * t
        self.pool = round(self.samples_per_frame)
        self.span = n_taps + self.pool - 1
        self.register_buffer("centres", centres.float(), persistent=False)
        responses = torch.cat([envelope * phase.cos(), envelope * phase.sin()])  # (2 F, K)
        self.register_buffer("responses", responses.float(), persistent=False)

    @property
    def frequencies(self) -> Tensor:
        """Centre frequencies (F,), Hz."""
        return self.centres

    @property
    def reference(self) -> Tensor:
        return self.responses

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        power = squared_modulus(fft_filter(x.unsqueeze(1), self.responses))
        power = windows(power, self.pool, starts).mean(-1)  # (B, F, T)
        if self.exponent is None:
            return decibel(power, self.floor_db)
        # the slope of a root at zero is infinite
        return power.clamp(min=10 ** (self.floor_db / 10)) ** (self.exponent / 2)


class SincNet(Frontend):
    """Band-pass filters of learnable edges; the largest magnitude in each frame, in decibels.

    The magnitude's maximum over a frame is the paper's rectification and max-pooling. The paper normalises over time
    after it, which is not causal; decibels take its place. Edges start equally spaced in mel.

    Parameters
    ----------
    n_bands : F
    sample_rate : Hz; the default is that of NS1
    dt_ms : frame length, ms
    kernel_ms : length of the filters, ms, rounded up to an odd number of samples
    low_hz, high_hz : the range that the filters divide at the start, Hz; None: half the sample rate
    min_low_hz, min_band_hz : no filter starts below the one or is narrower than the other, Hz
    floor_db : lowest level

    Examples
    --------
    >>> SincNet(34, sample_rate=48_000)(torch.zeros(2, 1, 48_000)).shape
    torch.Size([2, 1, 34, 200])
    """

    taper: Tensor

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        kernel_ms: float = 16.0,
        low_hz: float = 100.0,
        high_hz: float | None = None,
        min_low_hz: float = 50.0,
        min_band_hz: float = 50.0,
        floor_db: float = -80.0,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        self.floor_db = level("floor_db", floor_db)
        low, high = band_range(self.sample_rate, low_hz, high_hz)
        self.min_low = number("min_low_hz", min_low_hz, at_least=0, at_most=low) / self.sample_rate  # cycles a sample
        self.min_band = number("min_band_hz", min_band_hz, above=0, at_most=high - low) / self.sample_rate
        edges = mel_points(low, high, self.n_bands + 1) / self.sample_rate
        self.low = nn.Parameter((edges[:-1] - self.min_low).float())
        self.band = nn.Parameter((edges.diff() - self.min_band).clamp(min=0).float())
        n_taps = odd_samples("kernel_ms", kernel_ms, self.sample_rate)
        taper = torch.hamming_window(n_taps, periodic=False, dtype=torch.float64)
        self.register_buffer("taper", taper.float(), persistent=False)
        self.pool = round(self.samples_per_frame)
        self.span = n_taps + self.pool - 1

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """Lower and upper edges (F,), cycles a sample."""
        low = self.min_low + self.low.abs()
        return low, (low + self.min_band + self.band.abs()).clamp(max=0.5)

    @property
    def frequencies(self) -> Tensor:
        """Centre frequencies (F,), Hz."""
        low, high = self.edges
        return (low + high) / 2 * self.sample_rate

    @property
    def reference(self) -> Tensor:
        return self.low

    def responses(self) -> Tensor:
        """Impulse responses (F, K)."""
        low, high = (edge[:, None] for edge in self.edges)
        n = centred(len(self.taper), self.low)
        # the difference of the two sincs, as a product that does not cancel
        return 2 * (high - low) * torch.sinc((high - low) * n) * torch.cos(math.pi * (high + low) * n) * self.taper

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        y = fft_filter(x.unsqueeze(1), self.responses())
        return decibel(windows(y, self.pool, starts).abs().amax(-1) ** 2, self.floor_db)


class LEAF(Frontend):
    """Gabor filters, squared modulus, Gaussian low-pass and per-channel energy normalisation, all of it learnable.

        E[b, t] = max(floor, (g_b * |h_b * x|^2)[t])
        M[b, t] = (1 - s_b) M[b, t-1] + s_b E[b, t],    M[b, -1] = E[b, 0]
        y[b, t] = (E / M^alpha_b + delta_b)^(1/r_b) - delta_b^(1/r_b)

    Filters start at the centres and bandwidths of a mel filterbank. As published, the window that holds the filters is
    also that of the low-pass; the Gaussian g here sums to 1.

    Parameters
    ----------
    n_bands : F
    sample_rate : Hz; the default is that of NS1
    dt_ms : frame length, ms
    window_ms : length of the filters and of the low-pass, ms, rounded up to an odd number of samples
    low_hz, high_hz : range of the mel filterbank, Hz; None: half the sample rate
    smoothing_ms : time constant of M at the start (the default is the published 0.04 a frame of 10 ms)
    alpha, delta, root : at the start, with alpha <= 1 and root >= 1 throughout
    floor : lowest energy E

    Examples
    --------
    >>> LEAF(34, sample_rate=48_000)(torch.zeros(2, 1, 48_000)).shape
    torch.Size([2, 1, 34, 200])
    """

    def __init__(
        self,
        n_bands: int = 34,
        sample_rate: float = 48_828.0,
        dt_ms: float = 5.0,
        window_ms: float = 25.0,
        low_hz: float = 60.0,
        high_hz: float | None = None,
        smoothing_ms: float = 245.0,
        alpha: float = 0.96,
        delta: float = 2.0,
        root: float = 2.0,
        floor: float = 1e-5,
    ):
        super().__init__(n_bands, sample_rate, dt_ms)
        low, high = band_range(self.sample_rate, low_hz, high_hz)
        self.n_taps = odd_samples("window_ms", window_ms, self.sample_rate)
        self.span = 2 * self.n_taps - 1
        edges = mel_points(low, high, self.n_bands + 2) / self.sample_rate  # cycles a sample
        # the square root of a triangle is above half its height over three quarters of its base
        fwhm = 0.75 * (edges[2:] - edges[:-2])
        self.centre = nn.Parameter((2 * math.pi * edges[1:-1]).float())  # radians a sample
        self.sd = nn.Parameter((math.sqrt(2 * math.log(2)) / (math.pi * fwhm)).float())  # samples
        self.pool_width = self._constant(0.4)
        smoothing = 1 - math.exp(-self.dt_ms / number("smoothing_ms", smoothing_ms, above=0))
        self.smoothing = self._constant(smoothing)
        self.alpha = self._constant(number("alpha", alpha, at_least=0, at_most=1))
        self.delta = self._constant(number("delta", delta, above=0))
        self.root = self._constant(number("root", root, at_least=1))
        self.floor = number("floor", floor, above=0)

    def _constant(self, value: float) -> nn.Parameter:
        return nn.Parameter(torch.full((self.n_bands,), value))

    @property
    def memory(self) -> float:  # type: ignore[override]
        """Infinite: the normalisation remembers."""
        return float("inf")

    @property
    def frequencies(self) -> Tensor:
        """Centre frequencies (F,), Hz."""
        return self.centre.clamp(0, math.pi) / (2 * math.pi) * self.sample_rate

    @property
    def reference(self) -> Tensor:
        return self.centre

    def responses(self) -> Tensor:
        """Impulse responses (2 F, K), the real parts and then the imaginary ones."""
        n = centred(self.n_taps, self.centre)
        # between the widths at which the response spans half the spectrum and two bins of the window
        narrowest = math.sqrt(2 * math.log(2)) / math.pi
        sd = self.sd.clamp(4 * narrowest, self.n_taps * narrowest)[:, None]
        envelope = torch.exp(-0.5 * (n / sd) ** 2) / (math.sqrt(2 * math.pi) * sd)
        phase = self.centre.clamp(0, math.pi)[:, None] * n
        return torch.cat([envelope * phase.cos(), envelope * phase.sin()])

    def low_pass(self) -> Tensor:
        """Gaussian windows (F, K) that sum to 1."""
        n = centred(self.n_taps, self.pool_width)
        sd = self.pool_width.clamp(2 / self.n_taps, 0.5)[:, None] * (self.n_taps - 1) / 2
        return torch.softmax(-0.5 * (n / sd) ** 2, -1)

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        power = squared_modulus(fft_filter(x.unsqueeze(1), self.responses()))
        return fft_filter(power, self.low_pass())[..., starts].clamp(min=self.floor)

    def finish(self, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
        s = self.smoothing.clamp(0, 1)
        state = frames[..., 0] if state is None else state
        mean = scan(s[:, None] * frames, 1 - s, state)  # (B, F, T)
        alpha, root, delta = self.alpha.clamp(max=1), self.root.clamp(min=1), self.delta.clamp(min=1e-6)
        alpha, power, delta = alpha[:, None], 1 / root[:, None], delta[:, None]
        return (frames / mean**alpha + delta) ** power - delta**power, mean[..., -1]


def erb(frequency: Tensor) -> Tensor:
    """Equivalent rectangular bandwidth of the human auditory filter, Hz (Glasberg & Moore 1990)."""
    return 24.7 * (1 + 0.00437 * frequency)


def erb_points(low_hz: float, high_hz: float, n: int) -> Tensor:
    """Return `n` frequencies (Hz, double) equally spaced in ERB numbers, both ends included."""
    low, high = (math.log(1 + 0.00437 * f) for f in (low_hz, high_hz))
    return torch.expm1(torch.linspace(low, high, n, dtype=torch.float64)) / 0.00437


def squared_modulus(y: Tensor) -> Tensor:
    """(B, 2 F, L), real parts before imaginary ones -> (B, F, L)."""
    real, imaginary = y.chunk(2, 1)
    return real**2 + imaginary**2


def centred(n: int, like: Tensor) -> Tensor:
    """The numbers -(n - 1)/2 to (n - 1)/2."""
    return torch.arange(n, device=like.device, dtype=like.dtype) - (n - 1) / 2


def odd_samples(name: str, ms: float, sample_rate: float) -> int:
    """Return the duration in samples, rounded up to an odd number of at least 3."""
    n = math.ceil(number(name, ms, above=0, at_most=LONGEST_MS) / 1000 * sample_rate)
    return max(3, n + 1 - n % 2)
