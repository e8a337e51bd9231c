"""The transformer: each frame weighs its own past by what it holds.

    z[t] = E s[., t - P + 1 .. t] + p[t]            patches of sound as one token a frame, and where they are in time
    a[t] = norm(z[t] + attention(z)[t])             causal, over the whole past or over the last W frames
    h[t] = norm(a[t] + V relu(U a[t] + c) + d)      once a layer; the next layer's z
    r[n, t] = w[n] . h[t] + b[n]

Vaswani et al. 2017, doi 10.48550/arXiv.1706.03762, in its encoder's form (normalisation after each sum); as a model of
auditory neurons Rancon, Masquelier & Cottereau 2025, "Temporal recurrence as a general mechanism to explain neural
responses in the auditory system" (preprint).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from strflab.layers.attention import CausalSelfAttention, SinusoidalPosition
from strflab.layers.causal import CausalLayer, Chain, with_past
from strflab.layers.readouts import LinearReadout
from strflab.models.base import Model
from strflab.validation import choice, integer

EXPANSION = 4  # width of the hidden dense layer, in token widths


class Transformer(Model):
    """Causal self-attention over patches of the spectrogram, then one linear readout a neuron.

    The bands are cut into patches; those of a frame, each embedded in `embedding_dim` features, are one token of width
    ``embedding_dim * F / freq_patch_size``. With `context_window` time and memory are linear in the length of the sound
    and a stream runs in constant memory; without it they are quadratic and the stream's state grows with the sound.

    Attention runs once over the whole sound, in the form of the authors' current code. An earlier release encoded a
    window of frames anew for every frame and averaged its tokens, with dropout and a dense layer of 32 units; that form
    is not here. There is no dropout: regularise by weight decay, a window or early stopping.

    Parameters
    ----------
    n_frequency_bands : F
    freq_patch_size : bands a patch, a divisor of F; None: F
    time_patch_size : P, frames a patch; the patch of frame t ends with t, so there is a token every frame
    context_window : W, tokens that a token sees in each layer, its own included; None: all of the past
    embedding_dim : features a patch
    n_heads, n_layers : heads, which divide the token width, and layers
    position : "sinusoidal" (added to the tokens; even token width) or "rope" (rotary, in each attention; heads of even
        width)
    out_neurons : N
    output_activation, prefiltering, wav2spec : see `Model`; the output is the identity

    Raises
    ------
    ValueError : one of these constraints does not hold

    Examples
    --------
    >>> import torch
    >>> Transformer(out_neurons=3, context_window=20)(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    def __init__(
        self,
        n_frequency_bands: int = 34,
        out_neurons: int = 1,
        *,
        freq_patch_size: int | None = None,
        time_patch_size: int = 1,
        context_window: int | None = None,
        embedding_dim: int = 48,
        n_heads: int = 1,
        n_layers: int = 1,
        position: str = "sinusoidal",
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        self.core: PatchEncoder = PatchEncoder(
            self.n_frequency_bands,
            self.in_channels,
            freq_patch_size=freq_patch_size,
            time_patch_size=time_patch_size,
            context_window=context_window,
            embedding_dim=embedding_dim,
            n_heads=n_heads,
            n_layers=n_layers,
            position=position,
        )
        self.readout = LinearReadout(self.core.width, self.out_neurons, activation=self.make_output_activation())


class PatchEncoder(CausalLayer):
    """Patches, their positions and the attention layers: (B, C, F, T) -> (B, width, 1, T); see `Transformer`."""

    def __init__(
        self,
        n_bands: int,
        n_in: int,
        *,
        freq_patch_size: int | None,
        time_patch_size: int,
        context_window: int | None,
        embedding_dim: int,
        n_heads: int,
        n_layers: int,
        position: str,
    ):
        super().__init__()
        height = n_bands if freq_patch_size is None else integer("freq_patch_size", freq_patch_size)
        if n_bands % height:
            raise ValueError(f"freq_patch_size={freq_patch_size}: must divide the number of bands, {n_bands}")
        length, embedding_dim = integer("time_patch_size", time_patch_size), integer("embedding_dim", embedding_dim)
        self.width = embedding_dim * (n_bands // height)
        choice("position", position, ("sinusoidal", "rope"))
        if position == "sinusoidal" and self.width % 2:
            raise ValueError(
                f"embedding_dim={embedding_dim}: with sinusoidal positions the width of a token, embedding_dim times "
                f"{n_bands // height} patches, must be even"
            )
        self.patchify = nn.Conv2d(n_in, embedding_dim, (height, length), stride=(height, 1))
        layers: list[nn.Module] = [SinusoidalPosition()] if position == "sinusoidal" else []
        for _ in range(integer("n_layers", n_layers)):
            layers.append(EncoderLayer(self.width, n_heads, context_window, rotary=position == "rope"))
        self.layers = Chain(*layers)

    @property
    def memory(self) -> float:  # type: ignore[override]
        """Frames that the last layer's output depends on: the patch, and W - 1 more a layer."""
        return self.layers.memory + self._n_past

    @property
    def _n_past(self) -> int:
        return self.patchify.kernel_size[1] - 1

    def forward(self, x: Tensor) -> Tensor:
        return self._frames(self.layers(self._tokens(F.pad(x, (self._n_past, 0)))))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        past, states = state or (None, None)
        x, past = with_past(x, self._n_past, past)
        x, states = self.layers.stream(self._tokens(x), states)
        return self._frames(x), (past, states)

    def _tokens(self, x: Tensor) -> Tensor:
        return self.patchify(x).flatten(1, 2).transpose(1, 2)  # (B, T, width)

    def _frames(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unsqueeze(2)  # (B, width, 1, T)


class EncoderLayer(CausalLayer):
    """Attention, then a dense layer, each added to its input and normalised: (B, T, H) -> (B, T, H)."""

    def __init__(self, width: int, n_heads: int = 1, context_window: int | None = None, rotary: bool = False):
        super().__init__()
        self.attention = CausalSelfAttention(width, n_heads, context_window, rotary)
        self.attention_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, EXPANSION * width)
        self.contract = nn.Linear(EXPANSION * width, width)
        self.dense_norm = nn.LayerNorm(width)

    @property
    def memory(self) -> float:  # type: ignore[override]
        """That of the attention."""
        return self.attention.memory

    def forward(self, x: Tensor) -> Tensor:
        return self._add(x, self.attention(x))

    def stream(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        heard, state = self.attention.stream(x, state)
        return self._add(x, heard), state

    def _add(self, x: Tensor, heard: Tensor) -> Tensor:
        x = self.attention_norm(x + heard)
        return self.dense_norm(x + self.contract(F.relu(self.expand(x))))
