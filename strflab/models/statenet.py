"""StateNet: all of the memory in a recurrent network, none in a window of delays.

    z_t = encoder(s_t),    x_t = sigmoid(norm(z_t)),    h_t = backbone(x_t, h_{t-1}),    r_t = g(W h_t + b)

The encoder sees one frame of the spectrogram at a time. Rancon, Masquelier & Cottereau 2025, "Temporal recurrence as a
general mechanism to explain neural responses in the auditory system" (preprint).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from strflab.layers.activations import Pointwise
from strflab.layers.causal import Chain
from strflab.layers.local import LocallyConnected1d
from strflab.layers.norm import CausalLayerNorm
from strflab.layers.readouts import LinearReadout
from strflab.layers.recurrent import Recurrence, make_backbone
from strflab.models.base import Model
from strflab.validation import choice, integer

WIDEST = 8192  # features: the weights of a backbone grow with the square


class StateNet(Model):
    """A spectral encoder, a recurrent backbone of the same width H = hidden_channels * P, and a linear readout.

    P = (F - kernel_size) // stride + 1 are the places along frequency where the encoder stands.

    Parameters
    ----------
    n_frequency_bands : F
    temporal_window_size : taken so that every model has it; there is no window, and it changes nothing
    out_neurons : N
    kernel_size, stride : bands that a place of the encoder reads, and from one place to the next
    hidden_channels : features a place
    connectivity : "LC", each place has weights of its own (`strflab.layers.LocallyConnected1d`); "CONV", all places
        share them; "FC", every feature reads all bands
    rnn_type : backbone (`strflab.layers.make_backbone`): "GRU", "LSTM", "RNN" or "vanilla", "LMU", "Mamba", "S4",
        "S4D", a dict with such a name as "type" and its options, or a `strflab.layers.Backbone`
    norm : "layer", a LayerNorm over the features of a place; "batch", a BatchNorm a feature, as in the published fits,
        which in training mode lets other clips and later frames into a prediction; None
    output_activation, prefiltering, wav2spec : see `Model`; the output is a `ParametricSoftplus`

    The published networks have ``norm="batch"``, one neuron and no parameters in the output nonlinearity.

    Raises
    ------
    ValueError : an argument is out of range, or `kernel_size` exceeds F

    Examples
    --------
    >>> import torch
    >>> StateNet(out_neurons=3, rnn_type="LSTM")(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    default_activation = "parametric_softplus"

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int = 1,
        out_neurons: int = 1,
        *,
        kernel_size: int = 7,
        stride: int = 3,
        hidden_channels: int = 7,
        connectivity: str = "LC",
        rnn_type: Any = "GRU",
        norm: str | None = "layer",
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        integer("temporal_window_size", temporal_window_size)
        stride, n_features = integer("stride", stride), integer("hidden_channels", hidden_channels)
        if integer("kernel_size", kernel_size) > n_frequency_bands:
            raise ValueError(f"kernel_size={kernel_size!r}: must be at most n_frequency_bands, {n_frequency_bands}")
        size = n_features * ((n_frequency_bands - kernel_size) // stride + 1)
        if size > WIDEST:
            raise ValueError(f"hidden_channels={hidden_channels!r}: makes {size} features a frame, at most {WIDEST}")
        backbone = make_backbone(rnn_type, size)
        if isinstance(rnn_type, dict):
            # a saved dict is made into a backbone before its width is known here: save the backbone itself
            self.__dict__["_arguments"]["rnn_type"] = backbone
        self.core: Chain = Chain(
            OrderedDict(
                encoder=make_encoder(
                    connectivity, n_frequency_bands, kernel_size, stride, self.in_channels, n_features
                ),
                norm=make_norm(norm, n_features),
                sigmoid=Pointwise("sigmoid"),
                recurrence=Recurrence(backbone),
            )
        )
        self.readout: LinearReadout = LinearReadout(size, out_neurons, activation=self.make_output_activation())


def make_encoder(
    connectivity: str, n_bands: int, kernel_size: int, stride: int, n_in: int, n_features: int
) -> nn.Module:
    """Return a layer (B, n_in, F, T) -> (B, n_features, P, T) that treats each frame by itself."""
    choice("connectivity", connectivity, ("LC", "FC", "CONV"))
    if connectivity == "LC":
        return LocallyConnected1d(n_bands, kernel_size, stride, n_in, n_features)
    if connectivity == "CONV":
        return nn.Conv2d(n_in, n_features, (kernel_size, 1), (stride, 1))
    n_places = (n_bands - kernel_size) // stride + 1
    dense = nn.Conv1d(n_in * n_bands, n_features * n_places, 1)
    return nn.Sequential(nn.Flatten(1, 2), dense, nn.Unflatten(1, (n_features, n_places)))


def make_norm(norm: str | None, n_features: int) -> nn.Module:
    """Return the normalisation of (B, n_features, P, T) over features, or over clips, places and frames."""
    choice("norm", norm, ("layer", "batch", None))
    if norm == "layer":
        return CausalLayerNorm(n_features)
    return nn.BatchNorm2d(n_features) if norm == "batch" else nn.Identity()
