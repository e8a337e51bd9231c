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


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The valid convolution of (B, C, F, T) with (C', C, K_F, K_T), in half of the time where channels are few.

    A CPU's convolution fills its vector registers with channels. Where there are few, neighbouring frames stand in for
    them: frames ``P t + q`` become channels, and the kernel a Toeplitz matrix over the phases q. It has more zeros than
    the other has idle lanes.
    """
    n_out, n_in, _, n_lags = weight.shape
    phases = _phases(n_in, n_out, n_lags)
    if phases == 1 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.conv2d(x, weight, bias)
    n_frames = x.shape[-1] - n_lags + 1
    n_blocks, n_taps = -(-n_frames // phases), -(-(n_lags - 1) // phases) + 1
    length = (n_blocks + n_taps - 1) * phases
    x = F.pad(x, (0, length - x.shape[-1])).permute(0, 2, 3, 1)  # (B, F, T, C)
    x = x.unflatten(2, (-1, phases)).flatten(3).permute(0, 3, 1, 2)  # (B, phases C, F, T / phases)
    y = F.conv2d(x, _toeplitz(weight, phases, n_taps), bias.repeat(phases)).permute(0, 2, 3, 1)
    y = y.unflatten(3, (phases, n_out)).flatten(2, 3)  # (B, F', n_blocks phases, C')
    return y[:, :, :n_frames].permute(0, 3, 1, 2)


def _phases(n_in: int, n_out: int, n_lags: int) -> int:
    """How many frames stand in for channels: 1 where channels are many or taps are few."""
    if n_lags < 4 or max(n_in, n_out) > 16:
        return 1
    return 4 if n_in > 1 else 8


def _toeplitz(weight: Tensor, phases: int, n_taps: int) -> Tensor:
    """Each phase q to each p: (C', C, K_F, K_T) as (phases C', phases C, K_F, n_taps), tap ``phases j + q - p``."""
    n_lags = weight.shape[-1]
    padded = F.pad(weight, (phases - 1, n_taps * phases - n_lags))
    shifted = padded.unfold(-1, n_taps * phases, 1).flip(3)  # (C', C, K_F, p, phases j + q)
    shifted = shifted.unflatten(-1, (n_taps, phases))
    return shifted.permute(3, 0, 5, 1, 2, 4).flatten(2, 3).flatten(0, 1)
