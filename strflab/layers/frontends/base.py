"""What every front-end is: a waveform in, frames of `dt_ms` out, causal, whole or in pieces.

Frame t covers the samples up to (t + 1) h, h = sample_rate dt_ms / 1000, and depends on none after them. h need not be
whole (NS1: 48,828 Hz and 5 ms are 244.14 samples): it is kept as a fraction and each frame ends with the last sample
before its boundary, so frames stay aligned with the clock of the response for as long as the recording lasts.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.layers.causal import CausalLayer
from strflab.layers.config import Configurable
from strflab.validation import integer, number

SHORTEST_TRANSFORM = 1024  # samples
MOST_BANDS = 4096
LONGEST_MS = 1000.0  # of a frame, a window or a filter
FARTHEST_FLOOR_DB = 300.0  # whose power single precision still holds


class Frontend(CausalLayer, Configurable):
    """Base of the front-ends: (B, 1, samples) -> (B, 1, F, T), T = floor(samples / h).

    A subclass sets `span`, the samples up to its end that a frame depends on, and `reference`, a tensor of the dtype
    to compute in; it defines `analyse` and, where frames depend on earlier frames, `finish`.

    Parameters
    ----------
    n_bands : F
    sample_rate : samples a second, Hz
    dt_ms : frame length, ms, at least one sample
    """

    span: int

    def __init__(self, n_bands: int, sample_rate: float, dt_ms: float):
        super().__init__()
        self.n_bands = integer("n_bands", n_bands, 1, MOST_BANDS)
        self.sample_rate = number("sample_rate", sample_rate, above=0, at_most=1e6)
        self.dt_ms = number("dt_ms", dt_ms, above=0, at_most=LONGEST_MS)
        rate, dt = Fraction(self.sample_rate).limit_denominator(1000), Fraction(self.dt_ms).limit_denominator(10**6)
        self.samples_per_frame = (rate * dt / 1000).limit_denominator(10**6)
        if self.samples_per_frame < 1:
            raise ValueError(f"dt_ms={dt_ms}: must be at least one sample, {1000 / self.sample_rate:g} ms")

    @property
    def memory(self) -> float:  # type: ignore[override]
        """Samples that a frame depends on, to its end."""
        return self.span

    @property
    def frequencies(self) -> Tensor:
        """Centre frequencies (F,), Hz."""
        raise NotImplementedError

    @property
    def reference(self) -> Tensor:
        """A parameter or buffer, for its dtype and device."""
        raise NotImplementedError

    def analyse(self, x: Tensor, starts: Tensor) -> Tensor:
        """Return the frames (B, F, T) of `x` (B, samples) that depend on `span` samples from each of `starts` (T,)."""
        raise NotImplementedError

    def finish(self, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return frames (B, F, T) that may depend on earlier ones, and the state to go on from."""
        return frames, None

    def forward(self, x: Tensor) -> Tensor:
        return self._frames(F.pad(x[:, 0], (self.span, 0)), 0, x.shape[-1], None)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the frames that end within the samples `x`, none if none does, and the state for the next ones."""
        x = x[:, 0]
        if state is None:
            state = x.new_zeros(len(x), self.span), torch.zeros((), dtype=torch.int64), None
        past, n_heard, inner = state
        n_samples = x.shape[-1]
        x = torch.cat([past, x], -1)
        y, inner = self._frames(x, int(n_heard), n_samples, inner)
        return y, (x[:, n_samples:], n_heard + n_samples, inner)

    def _frames(self, x: Tensor, n_heard: int, n_samples: int, inner: Any) -> tuple[Tensor, Any]:
        """Frames that end within the last `n_samples` of `x`, before which `n_heard` were heard."""
        p, q = self.samples_per_frame.as_integer_ratio()
        first, last = n_heard * q // p, (n_heard + n_samples) * q // p
        tracing = torch.compiler.is_compiling()
        if not tracing and first == last:
            return x.new_zeros(len(x), 1, self.n_bands, 0), inner
        # the Fourier transform of a symbolic number of frames can be traced if there are two for certain
        frame = torch.arange(first, last + 2 if tracing else last, device=x.device)
        starts = (frame + 1) * p // q - n_heard  # frame t ends `span` samples later
        with torch.autocast(x.device.type, enabled=False):  # a Fourier transform in half precision hears its own noise
            y, inner = self.finish(self.analyse(x.to(self.reference.dtype), starts), inner)
        return y[..., : last - first].unsqueeze(1), inner


def windows(x: Tensor, n: int, starts: Tensor) -> Tensor:
    """(..., L) -> (..., len(starts), n): n samples from each start; the last sample stands for all that come after."""
    index = starts[:, None] + torch.arange(n, device=x.device)
    return x[..., index.clamp(max=x.shape[-1] - 1)]


def fft_filter(x: Tensor, responses: Tensor) -> Tensor:
    """Filter x (B, C, L) with impulse responses (F, K), one a channel, or all on the only channel.

    Overlap-save: Fourier transforms of one length over blocks of the signal, so that time and memory are linear in its
    length. Sample j of the result, (B, F, >= L - K + 1), is the filters' output at sample j + K - 1 of `x`, the first
    to which no sample before `x` contributes; what lies beyond L - K + 1 samples is meaningless.
    """
    n_taps = responses.shape[-1]
    n_fft = max(SHORTEST_TRANSFORM, 2 ** math.ceil(math.log2(2 * n_taps)))
    step = n_fft - n_taps + 1
    n_out = x.shape[-1] - n_taps + 1
    # a traced length is a symbol: its division must not be rounded by its remainder
    n_blocks = n_out // step + 2 if torch.compiler.is_compiling() else -(-n_out // step)
    blocks = windows(x, n_fft, step * torch.arange(n_blocks, device=x.device))  # (B, C, n, n_fft)
    spectrum = torch.fft.rfft(blocks) * torch.fft.rfft(responses, n_fft).unsqueeze(1)  # (B, F, n, n_fft / 2 + 1)
    return torch.fft.irfft(spectrum, n_fft)[..., n_taps - 1 :].flatten(-2)


def level(name: str, value: Any) -> float:
    """Return `value`, a floor in decibels."""
    return number(name, value, at_least=-FARTHEST_FLOOR_DB, at_most=FARTHEST_FLOOR_DB)


def decibel(power: Tensor, floor_db: float) -> Tensor:
    """``max(10 log10(power), floor_db)``."""
    return 10 * torch.log10(power.clamp(min=10 ** (floor_db / 10)))


def mel_points(low_hz: float, high_hz: float, n: int) -> Tensor:
    """Return `n` frequencies (Hz, double) equally spaced in mel, 2595 log10(1 + f / 700), both ends included."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (low_hz, high_hz))
    return 700 * (10 ** (torch.linspace(low, high, n, dtype=torch.float64) / 2595) - 1)


def band_range(sample_rate: float, low_hz: float, high_hz: float | None) -> tuple[float, float]:
    """Return the range in Hz, checked to lie between zero and half the sample rate, the default of its upper end."""
    nyquist = sample_rate / 2
    high = nyquist if high_hz is None else number("high_hz", high_hz, above=0, at_most=nyquist)
    if not number("low_hz", low_hz, at_least=0) < high:
        raise ValueError(f"low_hz={low_hz}: must be below high_hz, {high:g} Hz")
    return float(low_hz), high
