"""Locally connected layer: a convolution along frequency whose weights differ from place to place.

    y[o, p, t] = b[o, p] + sum_{c, k} w[o, c, k, p] x[c, p S + k, t]

Neighbouring bands meet as in a convolution, but each part of the tonotopic axis has filters of its own, as in
Rancon, Masquelier & Cottereau 2025.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from strflab.layers.causal import CausalLayer
from strflab.validation import integer


class LocallyConnected1d(CausalLayer):
    """Unshared filters along frequency, (B, C, F, T) -> (B, C_out, P, T) with ``P = (F - K) // S + 1``.

    Parameters
    ----------
    n_bands : F
    kernel_size : K, bands that a filter reads
    stride : S, bands from one place to the next; where (F - K) is no multiple of it the last bands are not read
    n_in, n_out : channels C and C_out

    Raises
    ------
    ValueError : an argument is no positive integer, or `kernel_size` exceeds `n_bands`

    Examples
    --------
    >>> LocallyConnected1d(34, 7, 3, 1, 7)(torch.zeros(2, 1, 34, 100)).shape
    torch.Size([2, 7, 10, 100])
    """

    def __init__(self, n_bands: int, kernel_size: int, stride: int, n_in: int, n_out: int):
        super().__init__()
        n_bands, n_in, n_out = integer("n_bands", n_bands), integer("n_in", n_in), integer("n_out", n_out)
        self.kernel_size, self.stride = integer("kernel_size", kernel_size), integer("stride", stride)
        if self.kernel_size > n_bands:
            raise ValueError(f"kernel_size={kernel_size!r}: must be at most the number of bands, {n_bands}")
        self.n_places = (n_bands - self.kernel_size) // self.stride + 1
        bound = 1 / math.sqrt(n_in * self.kernel_size)
        shape = (n_out, n_in, self.kernel_size, self.n_places)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_out, self.n_places).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, self.kernel_size, self.stride)  # (B, C, P, T, K)
        patches = patches.permute(0, 2, 1, 4, 3).flatten(2, 3)  # (B, P, C K, T)
        weight = self.weight.permute(3, 0, 1, 2).flatten(2)  # (P, C_out, C K)
        return (weight @ patches + self.bias.t().unsqueeze(-1)).transpose(1, 2)
