"""Building blocks of convolutional population models: channel weights, one temporal filter a channel, a threshold.

    weights     y[j, t] = sum_i w[j, i] x[i, t]
    filters     y[j, t] = sum_k h[j, k] x[j, t - (T - 1) + k]
    threshold   y[j, t] = max(0, x[j, t] - theta[j])

The spectral weights with which such a model starts, Gaussian over the bands, and the filters that follow them are
together a separable receptive field: `strflab.layers.SeparableSTRF` with ``spectral="gaussian"``. Pennington & David
2023, doi 10.1371/journal.pcbi.1011110.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.causal import CausalLayer, with_past
from strflab.validation import integer


class ChannelWeights(CausalLayer):
    """A weighted sum of the channels of each frame, (B, n_in, 1, T) -> (B, n_out, 1, T), without a constant.

    Parameters
    ----------
    n_in, n_out : channels

    Examples
    --------
    >>> ChannelWeights(70, 80)(torch.zeros(2, 70, 1, 100)).shape
    torch.Size([2, 80, 1, 100])
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(integer("n_out", n_out), integer("n_in", n_in)))
        nn.init.uniform_(self.weight, -1 / math.sqrt(n_in), 1 / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x.squeeze(2), self.weight.unsqueeze(-1)).unsqueeze(2)


class TemporalFIR(CausalLayer):
    """One causal temporal filter a channel, (B, n, 1, T) -> (B, n, 1, T).

    Parameters
    ----------
    n : channels
    n_lags : length of the filters in frames; the last tap is lag 0

    Examples
    --------
    >>> TemporalFIR(80, 10)(torch.zeros(2, 80, 1, 100)).shape
    torch.Size([2, 80, 1, 100])
    """

    def __init__(self, n: int, n_lags: int):
        super().__init__()
        self.n_lags = integer("n_lags", n_lags)
        self.weight = nn.Parameter(torch.empty(integer("n", n), self.n_lags))
        nn.init.uniform_(self.weight, -1 / math.sqrt(n_lags), 1 / math.sqrt(n_lags))

    @property
    def memory(self) -> float:  # type: ignore[override]
        """The filters' length in frames."""
        return self.n_lags

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(F.pad(x.squeeze(2), (self.n_lags - 1, 0)))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, state = with_past(x.squeeze(2), self.n_lags - 1, state)
        return self._filter(x), state

    def _filter(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight.unsqueeze(1), groups=len(self.weight)).unsqueeze(2)


class ThresholdReLU(CausalLayer):
    """``max(0, x - theta)`` with a learnable threshold theta a channel, zero at the start; x is (B, n, 1, T).

    Parameters
    ----------
    n : channels
    """

    def __init__(self, n: int):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(integer("n", n)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x - self.threshold[:, None, None])
