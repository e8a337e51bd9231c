"""A stack of convolutions over bands and frames, causal in time.

    x_0 = sound, x_l = g( norm( W_l * x_{l-1} + b_l ) ),    l = 1 .. L

Silence stands before the sound, and has passed through every layer by its first frame: the sound is padded once, not
each layer.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.activations import Pointwise
from strflab.layers.causal import CausalLayer
from strflab.layers.convolve import convolve
from strflab.layers.norm import CausalLayerNorm
from strflab.validation import boolean, choice, integer, integer_pair


class CausalConv2dStack(CausalLayer):
    """`n_layers` convolutions (B, C, F, T) -> (B, n_channels, F', T).

    Parameters
    ----------
    n_bands, n_in, n_channels : F, channels of the input, channels of every layer
    kernel_size : (bands, frames) of every kernel
    n_layers : L
    norm : LayerNorm over the channels of each band and frame, after each convolution
    activation : g, by its name in `strflab.layers.Pointwise`
    padding : over bands, "valid": a layer takes K_F - 1 of them away; "same": zeros beyond the edges keep them

    Raises
    ------
    ValueError : fewer bands than the kernels take away

    Examples
    --------
    >>> CausalConv2dStack(34, 1, 10, (3, 9))(torch.zeros(2, 1, 34, 100)).shape
    torch.Size([2, 10, 28, 100])
    """

    def __init__(
        self,
        n_bands: int,
        n_in: int,
        n_channels: int,
        kernel_size: tuple[int, int],
        n_layers: int = 3,
        norm: bool = True,
        activation: str = "leaky_relu",
        padding: str = "valid",
    ):
        super().__init__()
        n_bands, n_in = integer("n_bands", n_bands), integer("n_in", n_in)
        n_channels, n_layers = integer("n_channels", n_channels), integer("n_layers", n_layers)
        height, self.n_lags = integer_pair("kernel_size", kernel_size)
        lost = 0 if choice("padding", padding, ("valid", "same")) == "same" else n_layers * (height - 1)
        if n_bands <= lost:
            raise ValueError(
                f"kernel_size={kernel_size!r}: {n_layers} kernels of {height} bands take {lost} bands away, "
                f"n_frequency_bands={n_bands} must be more"
            )
        self.n_bands = n_bands - lost
        self.edges = ((height - 1) // 2, height // 2) if padding == "same" else (0, 0)
        self.convs = nn.ModuleList(
            nn.Conv2d(n_channels if i else n_in, n_channels, (height, self.n_lags)) for i in range(n_layers)
        )
        self.norms = nn.ModuleList(
            CausalLayerNorm(n_channels) if boolean("norm", norm) else nn.Identity() for _ in self.convs
        )
        self.activation = Pointwise(activation)

    @property
    def memory(self) -> float:  # type: ignore[override]
        """Frames that an output depends on: L (K_T - 1) + 1."""
        return len(self.convs) * (self.n_lags - 1) + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x)[0]

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        past = self.n_lags - 1
        if state is None:
            x, state = F.pad(x, (len(self.convs) * past, 0)), [None] * len(self.convs)
        states = []
        for conv, norm, before in zip(cast(list[nn.Conv2d], self.convs), self.norms, state):
            x = x if before is None else torch.cat([before, x], -1)
            states.append(x[..., x.shape[-1] - past :])
            x = self.activation(norm(convolve(F.pad(x, (0, 0, *self.edges)), conv.weight, cast(Tensor, conv.bias))))
        return x, states
