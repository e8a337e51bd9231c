"""Adaptation before the model: each band's level now against the mean of its own past.

With the exponential mean of the past m[t] = sum_{j >= 1} (1 - a) a^(j-1) x[t - j], a recursion exact at any time
constant (no kernel is cut), in the steady state of the first frame:

    IC adaptation    max(0, x - m),   a = exp(-dt / tau),   tau = 500 - 105 log10(f) ms
    AdapTrans        ON = x - w m,    OFF = m - w x,        a and w learnable

Willmore, Schoppe, King, Schnupp & Harper 2016, doi 10.1523/JNEUROSCI.2441-15.2016; Rancon, Masquelier & Cottereau
2024, doi 10.1371/journal.pcbi.1012288.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.causal import CausalLayer
from strflab.layers.config import Configurable, make_part
from strflab.layers.decay import decay_matrix, powers, scan
from strflab.validation import boolean, integer, number

LOWEST_HZ, HIGHEST_HZ = 500.0, 22_627.0  # of the published cochleagram of NS1, where no frequencies are given


class Prefilter(CausalLayer, Configurable):
    """Base of the prefilters: (B, 1, F, T) -> (B, out_channels, F, T)."""

    memory = float("inf")
    out_channels = 1
    n_bands: int


class ICAdaptation(Prefilter):
    """Adaptation to mean sound level as in the inferior colliculus; nothing is learned.

    Parameters
    ----------
    n_bands : F
    frequencies : (F,) centre frequencies, Hz; None: F log-spaced ones from 500 to 22,627 Hz
    dt_ms : frame length, ms
    """

    def __init__(self, n_bands: int, frequencies: Sequence[float] | None = None, dt_ms: float = 5.0):
        super().__init__()
        self.n_bands = integer("n_bands", n_bands)
        dt_ms = number("dt_ms", dt_ms, above=0)
        tau = 500 - 105 * torch.log10(_frequencies(frequencies, self.n_bands))  # ms
        if not (tau > 0).all():
            raise ValueError(f"frequencies={frequencies!r}: must lie below 57.8 kHz, where the time constant is 0")
        self.register_buffer("a", torch.exp(-dt_ms / tau).float())  # (F,)
        self.a: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        past, state = mean_of_past(x, self.a[None], state)
        return F.relu(x - past), state


class AdapTrans(Prefilter):
    """Learnable ON and OFF responses to changes of level, one pair a band.

    Parameters
    ----------
    n_bands : F
    frequencies : (F,) centre frequencies, Hz, which set the time constants at the start as for `ICAdaptation`;
        None: log-spaced from 500 to 22,627 Hz
    dt_ms : frame length, ms
    init_w : weight of the opposing term at the start, in (0, 1)
    rectify : half-wave rectify both
    """

    out_channels = 2

    def __init__(
        self,
        n_bands: int,
        frequencies: Sequence[float] | None = None,
        dt_ms: float = 5.0,
        init_w: float = 0.75,
        rectify: bool = False,
    ):
        super().__init__()
        self.n_bands = integer("n_bands", n_bands)
        init_w = number("init_w", init_w, above=0, at_most=1)
        self.rectify = boolean("rectify", rectify)
        a = ICAdaptation(n_bands, frequencies, dt_ms).a
        self.d = nn.Parameter(torch.sqrt(1 / a - 1).repeat(2, 1))  # (2, F): polarity, band
        self.p = nn.Parameter(torch.full((self.n_bands,), math.sqrt(1 / init_w - 1)))  # (F,)

    @property
    def a(self) -> Tensor:
        """Forgetting factors a frame (2, F), ON then OFF."""
        return 1 / (1 + self.d**2)

    @property
    def w(self) -> Tensor:
        """Weights of the opposing term (F,)."""
        return 1 / (1 + self.p**2)

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        past, state = mean_of_past(x, self.a, state)  # (B, 2, F, T)
        return self._opposed(x, past), state

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The causal convolution of what `forward` gives with `weight`, in two fifths of the arithmetic.

        Both are linear, and the mean is a recursion: that of l frames after s is a^l of the one of then and a filter of
        the sound since. So ON and OFF are not formed. With V the part of `weight` for the means, and s = t - L + 1,

            sum_l V[l] m[s + l]  =  (sum_l V[l] a^l) m[s]  +  sum_k (1 - a) (sum_{l > k} V[l] a^(l-k-1)) x[s + k]

        Parameters
        ----------
        x : (B, 1, F, T)
        weight : (N, 2, F, L), last tap at lag 0
        bias : (N,) constants to add, or None

        Returns
        -------
        Tensor (B, N, T)
        """
        n_lags = weight.shape[-1]
        past, _ = mean_of_past(x, self.a, None)  # (B, 2, F, T)
        first = self._opposed(x[..., : n_lags - 1], past[..., : n_lags - 1])  # silence, and no mean of it, comes before
        first = F.conv1d(F.pad(first.flatten(1, 2), (n_lags - 1, 0)), weight.flatten(1, 2), bias)
        w, a = self.w[:, None], self.a
        on, off = weight.unbind(1)  # (N, F, L)
        of_means = torch.stack([-w * on, off], 1)
        of_sound = torch.einsum("npfl,pflk->nfk", of_means, (1 - a)[..., None, None] * decay_matrix(a, n_lags, after=1))
        of_sound = on - w * off + of_sound
        of_means = (of_means * powers(a, n_lags)).sum(-1).flatten(1)  # (N, 2 F)
        means = past[..., : x.shape[-1] - n_lags + 1].flatten(1, 2)  # (B, 2 F, T - L + 1)
        rest = torch.baddbmm(F.conv1d(x[:, 0], of_sound, bias), of_means.expand(len(x), -1, -1), means)
        return torch.cat([first, rest], -1)

    def _opposed(self, x: Tensor, past: Tensor) -> Tensor:
        """ON and OFF (B, 2, F, T) of the sound (B, 1, F, T) and the two means of its past."""
        w = self.w[:, None]
        y = torch.stack([x[:, 0] - w * past[:, 0], past[:, 1] - w * x[:, 0]], 1)
        return F.relu(y) if self.rectify else y


class Adapted(NamedTuple):
    """The output of an `AdapTrans` that is linear, not formed yet: a convolution that comes next can do without it."""

    prefilter: AdapTrans
    x: Tensor


PREFILTERS: dict[str, type] = {"ic_adaptation": ICAdaptation, "adaptrans": AdapTrans}


def make_prefiltering(
    kind: Any, n_bands: int, dt_ms: float = 5.0, frequencies: Sequence[float] | None = None, **options: Any
) -> Prefilter:
    """Return the prefilter that `kind` asks for.

    Parameters
    ----------
    kind : "ic_adaptation" or "adaptrans", a dict with such a name as "type" and its options, or a `Prefilter`
    n_bands : F
    dt_ms : frame length, ms
    frequencies : (F,) Hz; None: log-spaced from 500 to 22,627 Hz

    Raises
    ------
    ValueError : no such prefilter, or one made for another number of bands
    """
    if isinstance(kind, str):
        kind = {"type": kind}
    if isinstance(kind, dict):
        kind = {"n_bands": n_bands, "dt_ms": dt_ms, "frequencies": frequencies} | options | kind
    prefilter = make_part("prefiltering", kind, Prefilter, PREFILTERS)
    if prefilter.n_bands != n_bands:
        raise ValueError(f"prefiltering={kind!r}: made for {prefilter.n_bands} bands, must be {n_bands}")
    return prefilter


def mean_of_past(x: Tensor, a: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the exponential mean of the frames before each frame, and that of the frame after the last.

    Parameters
    ----------
    x : (B, 1, F, T)
    a : (P, F) forgetting factors, one a polarity and band
    state : (B, P, F) the mean before the first frame; None: the first frame, as if it had always been there
    """
    x = x.expand(-1, len(a), -1, -1)  # (B, P, F, T)
    if state is None:
        state = x[..., 0]
    means = scan(((1 - a)[..., None] * x).flatten(1, 2), a.flatten(), state.flatten(1, 2)).unflatten(1, a.shape)
    means = torch.cat([state.unsqueeze(-1), means], -1)  # (B, P, F, 1 + T)
    return means[..., :-1], means[..., -1]


def _frequencies(frequencies: Sequence[float] | None, n_bands: int) -> Tensor:
    if frequencies is None:
        return torch.logspace(math.log10(LOWEST_HZ), math.log10(HIGHEST_HZ), n_bands, dtype=torch.float64)
    try:
        f = torch.as_tensor(frequencies, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        f = torch.empty(0)
    if f.shape != (n_bands,) or not torch.isfinite(f).all() or (f <= 0).any():
        raise ValueError(f"frequencies={frequencies!r}: must be {n_bands} positive numbers, Hz")
    return f
