"""The network receptive field: hidden units with a receptive field each, and a weighted sum of them a neuron.

    u[j, t] = h( (w_j * s)[t] + b[j] ),    r[n, t] = g( sum_j v[n, j] u[j, t] + c[n] )

Harper, Schoppe, Willmore, Cui, Schnupp & King 2016, doi 10.1371/journal.pcbi.1005113.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from strflab.layers.activations import make_activation
from strflab.layers.causal import Chain
from strflab.layers.norm import CausalLayerNorm
from strflab.layers.readouts import LinearReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.models.base import Model
from strflab.validation import boolean, choice, integer


class HiddenFields(Model):
    """Base of the models whose first stage `core[0]` is a bank of n_hidden receptive fields."""

    n_hidden: int

    def STRFs(self, hidden_idx: int | Sequence[int] | None = None, polarity: str | int | None = None) -> Tensor:
        """Return the receptive fields of hidden units, as the model applies them to the sound.

        A LayerNorm after them is not folded in, and cannot be: what it subtracts and divides by is of the moment's
        sound. `STRF_gradmap` is the field of a neuron with everything in it.

        Parameters
        ----------
        hidden_idx : which hidden units: an index, several, or None for all
        polarity : which input channel of a prefilter with two: "ON" or 0, "OFF" or 1; None: all channels

        Returns
        -------
        Tensor (n_hidden, C, F, T), last tap at lag 0, without the axis of what was chosen by a single index

        Raises
        ------
        ValueError : there is no such unit or channel

        Examples
        --------
        >>> NetworkReceptiveField().STRFs(3, "ON").shape
        torch.Size([34, 9])
        """
        fields = self.core[0].STRF_weight()  # type: ignore[index]
        if polarity is not None:
            choice("polarity", polarity, ("ON", "OFF", 0, 1) if self.in_channels == 2 else ("ON", 0))
            fields = fields[:, 1 if polarity in ("OFF", 1) else 0]
        if hidden_idx is None:
            return fields
        if hasattr(hidden_idx, "tolist"):  # of numpy or torch
            hidden_idx = hidden_idx.tolist()
        if isinstance(hidden_idx, (list, tuple, range)):
            return fields[[self._unit(j) for j in hidden_idx]]
        return fields[self._unit(hidden_idx)]

    def _unit(self, index: Any) -> int:
        return integer("hidden_idx", index, -self.n_hidden, self.n_hidden - 1)


class NetworkReceptiveField(HiddenFields):
    """A feedforward network of receptive fields: one hidden layer that all neurons share.

    The paper fits one network a neuron (`out_neurons=1`), normalises no hidden layer, and its hidden units are
    1.7159 tanh(2x/3), its output a sigmoid: ``norm=False, hidden_activation="lecun_tanh",
    output_activation="sigmoid"``, or `strflab.papers.harper2016_nrf`.

    Parameters
    ----------
    n_frequency_bands : F
    temporal_window_size : T, length of the hidden units' filters in frames
    out_neurons : N
    n_hidden : hidden units H
    norm : LayerNorm over the hidden units of each frame, before their nonlinearity
    hidden_activation : h, see `strflab.layers.make_activation`
    kernel : how the filters are parametrised, see `strflab.layers.CausalSTRFConv`
    output_activation, prefiltering, wav2spec : see `Model`; the output is a `strflab.layers.ParametricSoftplus`

    Raises
    ------
    ValueError : an argument is out of range

    Examples
    --------
    >>> import torch
    >>> NetworkReceptiveField(out_neurons=3)(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    default_activation = "parametric_softplus"

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int = 9,
        out_neurons: int = 1,
        *,
        n_hidden: int = 20,
        norm: bool = True,
        hidden_activation: Any = "tanh",
        kernel: Any = None,
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        integer("temporal_window_size", temporal_window_size)
        self.n_hidden = integer("n_hidden", n_hidden)
        self.core = Chain(
            CausalSTRFConv(n_frequency_bands, temporal_window_size, self.in_channels, n_hidden, kernel),
            *([CausalLayerNorm(n_hidden)] if boolean("norm", norm) else []),
            make_activation("hidden_activation", hidden_activation, n_hidden),
        )
        self.readout: LinearReadout = LinearReadout(n_hidden, out_neurons, activation=self.make_output_activation())
