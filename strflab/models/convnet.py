"""Convolutional networks: over bands and frames (`ConvNet2D`), and over frames alone (`ConvNet1D`).

`ConvNet1D` is a row of stages from a few channels, which all neurons share, to the neurons:

    u1[j, t] = max(0, sum_{f, k} g_j[f] h_j[k] s[f, t - k] - theta_j)              bands to channels
    u2[i, t] = max(0, sum_k h'_i[k] sum_j w[i, j] u1[j, t - k] - theta'_i)         channels to channels
    r[n, t]  = dexp( sum_i v[n, i] u2[i, t] + c[n] )                               channels to neurons

Pennington & David 2023, doi 10.1371/journal.pcbi.1011110.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strflab.layers.activations import FUNCTIONS
from strflab.layers.causal import Chain
from strflab.layers.conv2d import CausalConv2dStack
from strflab.layers.population import ChannelWeights, TemporalFIR, ThresholdReLU
from strflab.layers.readouts import LinearReadout
from strflab.layers.strf import CausalSTRFConv
from strflab.models.base import Model
from strflab.validation import boolean, choice, integer, integer_pair

DEFAULT_FRAMES = 9  # of ConvNet2D's kernels


class ConvNet2D(Model):
    """Three convolutions over bands and frames, then two dense layers on each frame.

    ``x_l = h( LayerNorm( W_l * x_{l-1} + b_l ) )``, l = 1, 2, 3; then channels and bands are flattened, and
    ``r = g( V h( U x_3 + c ) + d )``. The two-dimensional network of Pennington & David 2023 (doi
    10.1371/journal.pcbi.1011110) has no LayerNorm, rectifies, and keeps the bands with zeros beyond the edges:
    `strflab.papers.pennington2023_cnn2d`.

    Parameters
    ----------
    n_frequency_bands : F, more than 3 (K_F - 1) where `padding` is "valid"
    temporal_window_size : frames K_T of the kernels, in place of those of `kernel_size`; None: those
    out_neurons : N
    kernel_size : (bands K_F, frames K_T) of every kernel; a prediction depends on 3 (K_T - 1) + 1 frames
    c_hidden : channels of each convolution
    n_hidden : width of the hidden dense layer
    norm : LayerNorm over the channels of each band and frame, after each convolution
    hidden_activation : h, by its name in `strflab.layers.Pointwise`
    padding : over bands: "valid", none, or "same"
    output_activation, prefiltering, wav2spec : see `Model`; the output is a `strflab.layers.ParametricSoftplus`

    Raises
    ------
    ValueError : an argument is out of range, or the kernels take more bands away than there are

    Examples
    --------
    >>> ConvNet2D(out_neurons=3)(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 3, 1, 100])
    """

    default_activation = "parametric_softplus"

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int | None = None,
        out_neurons: int = 1,
        *,
        kernel_size: tuple[int, int] = (3, DEFAULT_FRAMES),
        c_hidden: int = 10,
        n_hidden: int = 20,
        norm: bool = True,
        hidden_activation: str = "leaky_relu",
        padding: str = "valid",
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        height, n_lags = integer_pair("kernel_size", kernel_size)
        if temporal_window_size is not None:
            if n_lags not in (DEFAULT_FRAMES, integer("temporal_window_size", temporal_window_size)):
                raise ValueError(
                    f"temporal_window_size={temporal_window_size!r}: contradicts kernel_size={kernel_size!r}; must be "
                    "None or the same number of frames"
                )
            n_lags = temporal_window_size
        integer("c_hidden", c_hidden)
        choice("hidden_activation", hidden_activation, FUNCTIONS)
        stack = CausalConv2dStack(
            n_frequency_bands, self.in_channels, c_hidden, (height, n_lags), 3, norm, hidden_activation, padding
        )
        self.core = Chain(stack)
        self.readout: LinearReadout = LinearReadout(
            c_hidden * stack.n_bands,
            out_neurons,
            hidden=integer("n_hidden", n_hidden),
            hidden_activation=hidden_activation,
            activation=self.make_output_activation(),
        )


class ConvNet1D(Model):
    """Population model of spectral weights, temporal filters and thresholds, which all neurons share.

    ==============  =========================================================================
    the paper's     arguments (18 bands of 10 ms frames)
    ==============  =========================================================================
    pop-LN          ``temporal_window_size=25, n_channels=120, n_hidden=None, rectify=False``
    single-CNN      ``temporal_window_size=25, n_channels=6, n_hidden=None``
    1D-CNN          ``temporal_window_size=25, n_channels=100, n_hidden=120``
    1Dx2-CNN        ``temporal_window_size=(15, 10), n_channels=(70, 80), n_hidden=100``
    ==============  =========================================================================

    They are in `strflab.papers`, as is the paper's LN, whose channels belong to one neuron each.

    Parameters
    ----------
    n_frequency_bands : F
    temporal_window_size : T, taps of the temporal filters in frames: one number for all stages, or one a stage
    out_neurons : N
    n_channels : channels of each convolutional stage
    n_hidden : None, or the width of each dense layer (rectified too) between them and the neurons
    rectify : rectify above a learned threshold after every stage; False: one linear stage, then the neurons
    kernel : how the filters of the first stage are parametrised, see `strflab.layers.CausalSTRFConv`; None: a
        Gaussian over bands times a free temporal filter, one a channel
    output_activation, prefiltering, wav2spec : see `Model`; the output is a
        `strflab.layers.ParametricDoubleExponential`, which stays above zero; the paper's may go below:
        ``output_activation={"type": "double_exponential", "signed": True}``

    Raises
    ------
    ValueError : an argument is out of range; several stages that are not rectified

    Examples
    --------
    >>> ConvNet1D(18, (15, 10), 3, n_channels=(70, 80), n_hidden=100)(torch.zeros(1, 1, 18, 50)).shape
    torch.Size([1, 3, 1, 50])
    """

    default_activation = "double_exponential"

    def __init__(
        self,
        n_frequency_bands: int = 34,
        temporal_window_size: int | Sequence[int] = 9,
        out_neurons: int = 1,
        *,
        n_channels: int | Sequence[int] = 100,
        n_hidden: int | Sequence[int] | None = 120,
        rectify: bool = True,
        kernel: Any = None,
        output_activation: Any = None,
        prefiltering: Any = None,
        wav2spec: Any = None,
    ):
        super().__init__(n_frequency_bands, out_neurons, output_activation, prefiltering, wav2spec)
        channels = _sizes("n_channels", n_channels)
        lags = _sizes("temporal_window_size", temporal_window_size)
        dense = [] if n_hidden is None else _sizes("n_hidden", n_hidden)
        if len(lags) == 1:
            lags *= len(channels)
        if len(lags) != len(channels):
            raise ValueError(
                f"temporal_window_size={temporal_window_size!r}: must be one number, or one for each of the "
                f"{len(channels)} stages of n_channels={n_channels!r}"
            )
        if not boolean("rectify", rectify) and len(channels) + len(dense) > 1:
            raise ValueError("rectify=False: needs one stage and n_hidden=None, for linear stages in a row are one")
        kernel = {"type": "separable", "spectral": "gaussian"} if kernel is None else kernel

        stages: list[nn.Module] = [
            CausalSTRFConv(n_frequency_bands, lags[0], self.in_channels, channels[0], kernel, bias=False)
        ]
        if rectify:
            stages.append(ThresholdReLU(channels[0]))
        for n_in, n_out, n_lags in zip(channels, channels[1:], lags[1:]):
            stages += [ChannelWeights(n_in, n_out), TemporalFIR(n_out, n_lags), ThresholdReLU(n_out)]
        widths = [channels[-1], *dense]
        for n_in, n_out in itertools.pairwise(widths):
            stages += [ChannelWeights(n_in, n_out), ThresholdReLU(n_out)]
        self.rectify = rectify
        self.core = Chain(*stages)
        self.readout: LinearReadout = LinearReadout(widths[-1], out_neurons, activation=self.make_output_activation())

    def STRF_weight(self) -> Tensor:
        """The filter that is applied before the nonlinearity (N, C, F, T), last tap at lag 0, where ``rectify=False``:
        the channels' filters weighted by the neurons."""
        if self.rectify:
            return super().STRF_weight()
        return torch.einsum("nj,jcft->ncft", self.readout.weight, self.core[0].STRF_weight())  # type: ignore


def _sizes(name: str, value: Any) -> list[int]:
    """Return one size or several as a list of them."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(f"{name}={value!r}: must be an integer from 1, or several")
        return [integer(f"{name}[{i}]", v) for i, v in enumerate(value)]
    return [integer(name, value)]
