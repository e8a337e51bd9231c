"""Normalisation over channels, never over time: each frame is normalised by itself, so the future cannot leak in."""

from __future__ import annotations

from torch import Tensor, nn

from strflab.layers.causal import CausalLayer
from strflab.validation import integer


class CausalLayerNorm(CausalLayer):
    """LayerNorm (Ba, Kiros & Hinton 2016, doi 10.48550/arXiv.1607.06450) over one axis of (B, C, F, T).

    Parameters
    ----------
    size : length of that axis
    dim : which axis: 1 (channels) or 2 (bands)
    """

    def __init__(self, size: int, dim: int = 1):
        super().__init__()
        self.dim = integer("dim", dim, 1, 2)
        self.norm = nn.LayerNorm(integer("size", size))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(self.dim, -1)).movedim(-1, self.dim)
