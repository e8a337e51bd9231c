"""The linear receptive field and the linear-nonlinear model.

    r[n, t] = g( b[n] + sum_{f, k} w[n, f, k] s[f, t - k] ),      g(z) = z for the linear model

Aertsen & Johannesma 1981, doi 10.1007/BF00337152; Theunissen, Sen & Doupe 2000,
doi 10.1523/JNEUROSCI.20-06-02315.2000; Chichilnisky 2001, doi 10.1080/713663221.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.layers.readouts import STRFReadout
from strflab.models.base import Model
from strflab.validation import integer


class Linear(Model):
    """One causal spectro-temporal filter a neuron.

    Parameters
    ----------
    n_frequency_bands : F
    temporal_window_size : T, length of the filters in frames
    out_neurons : N
    kernel : how the filters are parametrised (`strflab.layers.CausalSTRFConv`)
    norm : None, or "batch": a BatchNorm1d a neuron, as some published fits used it. In training mode it lets other
        clips and later frames into a prediction, so it is off by default
    output_activation, prefiltering, wav2spec : see `Model`; the output is the identity

    Examples
    --------
    >>> import torch
    >>> Linear(out_neurons=3)(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int = 9,
        out_neurons: int = 1,
        *,
        kernel: Any = None,
        norm: str | None = None,
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        integer("temporal_window_size", temporal_window_size)
        self.readout: STRFReadout = STRFReadout(
            n_frequency_bands,
            temporal_window_size,
            self.in_channels,
            out_neurons,
            kernel=kernel,
            norm=norm,
            activation=self.make_output_activation(),
        )

    @classmethod
    def from_strf(cls, strf: ArrayLike, intercept: ArrayLike) -> Linear:
        """Return the linear model with these receptive fields, as closed-form estimators find them.

        Parameters
        ----------
        strf : (N, F, T), last tap at lag 0
        intercept : (N,) rate to silence

        Raises
        ------
        ValueError : the shapes are not these

        Examples
        --------
        >>> import numpy as np
        >>> Linear.from_strf(np.ones((3, 34, 9)), np.zeros(3)).out_neurons
        3
        """
        weight, bias = torch.as_tensor(strf, dtype=torch.float32), torch.as_tensor(intercept, dtype=torch.float32)
        if weight.dim() != 3 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"strf of shape {tuple(weight.shape)}, intercept {tuple(bias.shape)}: must be (N, F, T), (N,)"
            )
        n_neurons, n_bands, n_lags = weight.shape
        model = Linear(n_bands, n_lags, n_neurons)
        model.load_state_dict({"readout.strf.kernel.weight": weight[:, None], "readout.strf.bias": bias})
        model.fitted = True
        return model.eval()

    def STRF_weight(self) -> Tensor:
        """The filter that is applied (N, C, F, T), last tap at lag 0; a normalisation's gain is folded in."""
        return self.readout.STRF_weight()

    def STRF_bias(self) -> Tensor:
        """The constant that is added before the nonlinearity (N,)."""
        return self.readout.STRF_bias()


class LinearNonlinear(Linear):
    """One causal spectro-temporal filter a neuron, then a static nonlinearity; parameters as for `Linear`.

    The output is a `strflab.layers.ParametricSoftplus` unless `output_activation` says otherwise.
    """

    default_activation = "parametric_softplus"
