"""Spectro-temporal filters and the ways to parametrise them.

    y[n, t] = b[n] + sum_{c, f, k} w[n, c, f, k] x[c, f, t - (T - 1) + k]

`CausalSTRFConv` is the convolution: T - 1 frames of zeros stand before the sound, the last tap is lag 0. A kernel
class says where w comes from: `FullSTRF` (every tap free), `SeparableSTRF` (a sum of `rank` products of a spectral
and a temporal profile) or `ParametricSTRF` (a sum of Gaussians on the frequency-by-time grid; Khalfaoui-Hassani,
Masquelier & Pellegrini 2023, doi 10.48550/arXiv.2306.00817).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.causal import CausalLayer, with_past
from strflab.layers.config import Configurable, make_part
from strflab.layers.convolve import convolve
from strflab.layers.prefilters import Adapted
from strflab.validation import boolean, choice, integer


class STRFKernel(nn.Module, Configurable):
    """A way to parametrise filters. It holds no weights until `bind` gives it a shape."""

    shape: tuple[int, int, int, int] | None = None

    def bind(self, n_bands: int, n_lags: int, n_in: int, n_out: int) -> STRFKernel:
        """Return a copy of this kernel with weights for filters (n_out, n_in, n_bands, n_lags)."""
        bound = copy.deepcopy(self)
        bound.shape = (n_out, n_in, n_bands, n_lags)
        bound.make_parameters(*bound.shape)
        return bound

    def make_parameters(self, n_out: int, n_in: int, n_bands: int, n_lags: int) -> None:
        """Create the parameters of filters (n_out, n_in, n_bands, n_lags)."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        """Return the filters (n_out, n_in, n_bands, n_lags)."""
        raise NotImplementedError

    def rescale(self, gain: Tensor) -> None:
        """Multiply each output channel's filters by `gain` (n_out,)."""
        raise NotImplementedError


class FullSTRF(STRFKernel):
    """Every tap is a parameter: the filter of a convolution."""

    def make_parameters(self, n_out: int, n_in: int, n_bands: int, n_lags: int) -> None:
        self.weight = nn.Parameter(torch.empty(n_out, n_in, n_bands, n_lags))
        nn.init.uniform_(self.weight, -_bound(n_in, n_bands, n_lags), _bound(n_in, n_bands, n_lags))

    def forward(self) -> Tensor:
        return self.weight

    def rescale(self, gain: Tensor) -> None:
        self.weight.mul_(gain[:, None, None, None])


class SeparableSTRF(STRFKernel):
    """Filters of low rank: ``w[f, k] = sum_r spectral[r, f] temporal[r, k]``.

    With ``spectral="gaussian"`` a spectral profile is ``exp(-((f/F - mu) / (s/10))^2 / 2)`` over its sum, f = 0 .. F-1,
    with mu and s to be learned, as in Pennington & David 2023, doi 10.1371/journal.pcbi.1011110 (there s is free; here
    the standard deviation is never below a tenth of a band, where the profile is one band already).

    Parameters
    ----------
    rank : number of products that are summed, at most min(F, T)
    spectral : "full", every band a parameter, or "gaussian"

    Examples
    --------
    >>> CausalSTRFConv(34, 9, 1, 2, kernel=SeparableSTRF(rank=2)).STRF_weight().shape
    torch.Size([2, 1, 34, 9])
    """

    MINIMAL_SD = 0.1  # bands

    def __init__(self, rank: int = 1, spectral: str = "full"):
        super().__init__()
        self.rank = integer("rank", rank)
        self.gaussian = choice("spectral", spectral, ("full", "gaussian")) == "gaussian"

    def make_parameters(self, n_out: int, n_in: int, n_bands: int, n_lags: int) -> None:
        if self.rank > min(n_bands, n_lags):
            raise ValueError(f"rank={self.rank}: must be at most min(F, T) = {min(n_bands, n_lags)}")
        shape = (n_out, n_in, self.rank)
        if self.gaussian:
            self.mu = nn.Parameter(torch.rand(shape))
            self.s = nn.Parameter(torch.ones(shape))
            scale = 1 / math.sqrt(3 * n_in * self.rank * n_lags)
        else:  # the product then has the variance of a full filter
            scale = (_bound(n_in, n_bands, n_lags) ** 2 / 3 / self.rank) ** 0.25
            self.spectral = nn.Parameter(torch.randn(*shape, n_bands) * scale)
        self.temporal = nn.Parameter(torch.randn(*shape, n_lags) * scale)

    def rescale(self, gain: Tensor) -> None:
        self.temporal.mul_(gain[:, None, None, None])

    def forward(self) -> Tensor:
        spectral = self._gaussians() if self.gaussian else self.spectral
        return torch.einsum("oirf,oirt->oift", spectral, self.temporal)

    def _gaussians(self) -> Tensor:
        """Spectral profiles of unit mass (n_out, n_in, rank, F)."""
        n_bands = self.shape[2]  # type: ignore[index]
        sd = (self.s.abs() / 10).clamp(min=self.MINIMAL_SD / n_bands).unsqueeze(-1)
        grid = torch.arange(n_bands, device=sd.device, dtype=sd.dtype) / n_bands
        return torch.softmax(-0.5 * ((grid - self.mu.unsqueeze(-1)) / sd) ** 2, -1)  # exp(-z^2/2) over its sum


class ParametricSTRF(STRFKernel):
    """Filters that are sums of Gaussians on the grid of bands and frames, each of unit mass.

    The g-th has a learnable weight, centre (band, tap) and widths; a standard deviation is ``|s| + 0.27`` grid
    steps, so that a Gaussian is never narrower than the grid can carry.

    Parameters
    ----------
    num_gaussians : Gaussians a filter
    """

    MINIMAL_SD = 0.27

    def __init__(self, num_gaussians: int = 1):
        super().__init__()
        self.num_gaussians = integer("num_gaussians", num_gaussians)

    def make_parameters(self, n_out: int, n_in: int, n_bands: int, n_lags: int) -> None:
        shape = (n_out, n_in, self.num_gaussians)
        self.weight = nn.Parameter((2 * torch.rand(shape) - 1) / math.sqrt(n_in * self.num_gaussians))
        self.centre = nn.Parameter(torch.stack([torch.rand(shape) * (n - 1) for n in (n_bands, n_lags)]))
        self.width = nn.Parameter(torch.stack([torch.full(shape, n / 10) for n in (n_bands, n_lags)]))

    def rescale(self, gain: Tensor) -> None:
        self.weight.mul_(gain[:, None, None])

    def forward(self) -> Tensor:
        _, _, n_bands, n_lags = self.shape  # type: ignore[misc]
        spectral, temporal = self._profile(0, n_bands), self._profile(1, n_lags)
        return torch.einsum("oig,oigf,oigt->oift", self.weight, spectral, temporal)

    def _profile(self, axis: int, n: int) -> Tensor:
        """Gaussians of unit mass on ``0 .. n - 1``: (n_out, n_in, num_gaussians, n)."""
        centre = self.centre[axis][..., None]
        sd = self.width[axis].abs()[..., None] + self.MINIMAL_SD
        grid = torch.arange(n, device=centre.device, dtype=centre.dtype)
        return torch.softmax(-0.5 * ((grid - centre) / sd) ** 2, -1)  # exp(-z^2/2) over its sum


class CausalSTRFConv(CausalLayer):
    """The causal convolution of a spectrogram with spectro-temporal filters.

    Parameters
    ----------
    n_bands, n_lags, n_in, n_out : bands F, filter length T in frames, input and output channels
    kernel : None or "full", "separable", "parametric", a dict with one of these as "type" and its options, or an
        `STRFKernel`
    bias : add one constant an output channel

    Examples
    --------
    >>> CausalSTRFConv(34, 9, 1, 20)(torch.zeros(2, 1, 34, 100)).shape
    torch.Size([2, 20, 1, 100])
    """

    def __init__(self, n_bands: int, n_lags: int, n_in: int, n_out: int, kernel: Any = None, bias: bool = True):
        super().__init__()
        self.n_lags = integer("n_lags", n_lags)
        n_bands, n_in, n_out = integer("n_bands", n_bands), integer("n_in", n_in), integer("n_out", n_out)
        kernel = make_part("kernel", "full" if kernel is None else kernel, STRFKernel, KERNELS)
        self.kernel = kernel.bind(n_bands, self.n_lags, n_in, n_out)
        self.bias = nn.Parameter(torch.empty(n_out)) if boolean("bias", bias) else None
        if self.bias is not None:
            nn.init.uniform_(self.bias, -_bound(n_in, n_bands, n_lags), _bound(n_in, n_bands, n_lags))

    @property
    def memory(self) -> float:  # type: ignore[override]
        """The filter's length in frames."""
        return self.n_lags

    def STRF_weight(self) -> Tensor:
        """The filters (n_out, n_in, F, T), last tap at lag 0."""
        return self.kernel()

    def forward(self, x: Tensor | Adapted) -> Tensor:
        if isinstance(x, Adapted):
            return x.prefilter.convolved(x.x, self.kernel(), self.bias).unsqueeze(2)
        return self._convolve(F.pad(x.flatten(1, 2), (self.n_lags - 1, 0)))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, state = with_past(x.flatten(1, 2), self.n_lags - 1, state)
        return self._convolve(x), state

    def _convolve(self, x: Tensor) -> Tensor:
        # bands are channels of a convolution over time only: (B, C F, T) with (C_out, C F, n_lags)
        return convolve(x.unsqueeze(2), self.kernel().flatten(1, 2).unsqueeze(2), self.bias)


KERNELS: dict[str, type] = {"full": FullSTRF, "separable": SeparableSTRF, "parametric": ParametricSTRF}


def _bound(n_in: int, n_bands: int, n_lags: int) -> float:
    """Half-width of the uniform law from which a filter with this fan-in is drawn."""
    return 1 / math.sqrt(n_in * n_bands * n_lags)
