"""The published models: one function a model and paper, each returns a new model with the first weights drawn.

Harper et al. 2016, doi 10.1371/journal.pcbi.1005113; Rahman et al. 2019, doi 10.1371/journal.pcbi.1006618;
Pennington & David 2023, doi 10.1371/journal.pcbi.1011110. What a paper leaves to its data, the number of neurons and
of bands, is an argument.

Examples
--------
>>> count_parameters(pennington2023_cnn1dx2(out_neurons=849))
104985
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from strflab import models
from strflab.validation import choice

# the bands of aa1_mld are inferred: 31 to 33 give the published count
RANCON_STATENETS: dict[str, dict[str, Any]] = {
    "ns1": {"n_frequency_bands": 34, "rnn_type": "GRU", "kernel_size": 7, "stride": 3, "hidden_channels": 7},
    "aa1_mld": {"n_frequency_bands": 32, "rnn_type": "Mamba", "kernel_size": 7, "stride": 3, "hidden_channels": 7},
    "nat4_a1": {"n_frequency_bands": 18, "rnn_type": "LSTM", "kernel_size": 5, "stride": 2, "hidden_channels": 10},
}

DOUBLE_EXPONENTIAL = {"type": "double_exponential", "signed": True}  # four free parameters a neuron


def count_parameters(model: nn.Module) -> int:
    """Return the number of learnable parameters.

    Parameters
    ----------
    model : any

    Examples
    --------
    >>> count_parameters(models.Linear())
    307
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# ---- Harper et al. 2016


def harper2016_nrf(
    n_frequency_bands: int = 34,
    temporal_window_size: int = 20,
    out_neurons: int = 1,
    *,
    n_hidden: int = 20,
    released_code: bool = False,
) -> models.NetworkReceptiveField:
    """The network receptive field: 20 hidden units, no normalisation, a sigmoid output; one network a neuron.

    Weights start uniform in (-1/2, 1/2) / sqrt(fan_in + fan_out), constants at zero.

    Parameters
    ----------
    n_frequency_bands, temporal_window_size, out_neurons : F, T in frames, N
    n_hidden : hidden units, 20 in the paper
    released_code : False: hidden units 1.7159 tanh(2x/3), as in the paper; True: logistic ones, as in its code

    Examples
    --------
    >>> harper2016_nrf()(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 1, 1, 100])
    """
    model = models.NetworkReceptiveField(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        n_hidden=n_hidden,
        norm=False,
        hidden_activation="sigmoid" if released_code else "lecun_tanh",
        output_activation="sigmoid",
    )
    with torch.no_grad():
        fan_in = n_frequency_bands * temporal_window_size
        for weight, fans in (
            (model.STRFs(), fan_in + model.n_hidden),
            (model.readout.weight, model.n_hidden + out_neurons),
        ):
            weight.uniform_(-0.5, 0.5).div_(math.sqrt(fans))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model


# ---- Rahman et al. 2019


def rahman2019_dnet(
    n_frequency_bands: int = 34,
    temporal_window_size: int = 5,
    out_neurons: int = 1,
    *,
    output_decay: bool = True,
    leak: str = "after",
) -> models.DNet:
    """The dynamic network: 20 hidden units and an output, logistic, each with a leak; no normalisation.

    Time constants start at 1 + d^2 frames with d drawn from an exponential distribution of mean 2. Where the paper's
    network starts a sound is replaced by the steady state of the first frame.

    Parameters
    ----------
    n_frequency_bands, temporal_window_size, out_neurons : F, T in frames (25 ms of 5 ms frames), N
    output_decay : True: hidden and output units leak, as in the released code; False: the hidden ones only
    leak : "after" the sigmoid, as in the released code, or "before" it, its second form

    Examples
    --------
    >>> rahman2019_dnet()(torch.zeros(1, 1, 34, 100)).shape
    torch.Size([1, 1, 1, 100])
    """
    model = models.DNet(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        norm=False,
        output_activation="sigmoid",
        output_decay=output_decay,
        leak=leak,
    )
    draw_time_constants(model)
    return model


@torch.no_grad()
def draw_time_constants(model: models.DNet) -> None:
    """Draw the time constants of a dynamic network as its paper does: 1 + d^2 frames, d exponential with mean 2."""
    for decay in model.decays():
        decay.d.exponential_(1 / 2)


def rahman2019_ln(
    n_frequency_bands: int = 34, temporal_window_size: int = 40, out_neurons: int = 1
) -> models.LinearNonlinear:
    """The linear-nonlinear model that a dynamic network is measured against: one filter of 200 ms (of 5 ms frames) a
    neuron, then a sigmoid with baseline, amplitude, midpoint and width.

    Parameters
    ----------
    n_frequency_bands, temporal_window_size, out_neurons : F, T in frames, N
    """
    return models.LinearNonlinear(
        n_frequency_bands, temporal_window_size, out_neurons, output_activation="parametric_sigmoid"
    )


# ---- Pennington & David 2023: 18 bands, frames of 10 ms


def pennington2023_ln(
    out_neurons: int = 1, n_frequency_bands: int = 18, temporal_window_size: int = 25, *, rank: int = 5
) -> models.LinearNonlinear:
    """LN: for each neuron five Gaussian spectral channels with a temporal filter each, summed; 140 parameters.

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    rank : channels of a neuron

    Examples
    --------
    >>> count_parameters(pennington2023_ln())
    140
    """
    return models.LinearNonlinear(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        kernel={"type": "separable", "rank": rank, "spectral": "gaussian"},
        output_activation=DOUBLE_EXPONENTIAL,
    )


def pennington2023_pop_ln(
    out_neurons: int, n_frequency_bands: int = 18, temporal_window_size: int = 25, *, n_channels: int = 120
) -> models.ConvNet1D:
    """pop-LN: 120 Gaussian channels with a temporal filter each, which the neurons weigh.

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    n_channels : that the neurons share
    """
    return models.ConvNet1D(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        n_channels=n_channels,
        n_hidden=None,
        rectify=False,
        output_activation=DOUBLE_EXPONENTIAL,
    )


def pennington2023_single_cnn(
    out_neurons: int = 1, n_frequency_bands: int = 18, temporal_window_size: int = 25, *, n_channels: int = 6
) -> models.ConvNet1D:
    """single-CNN: six rectified channels, for one neuron.

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    n_channels : of the neuron
    """
    return models.ConvNet1D(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        n_channels=n_channels,
        n_hidden=None,
        output_activation=DOUBLE_EXPONENTIAL,
    )


def pennington2023_cnn1d(
    out_neurons: int,
    n_frequency_bands: int = 18,
    temporal_window_size: int = 25,
    *,
    n_channels: int = 100,
    n_hidden: int = 120,
) -> models.ConvNet1D:
    """1D-CNN: 100 rectified channels, a rectified dense layer of 120.

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    n_channels : of the first stage
    n_hidden : units of the dense layer
    """
    return models.ConvNet1D(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        n_channels=n_channels,
        n_hidden=n_hidden,
        output_activation=DOUBLE_EXPONENTIAL,
    )


def pennington2023_cnn1dx2(
    out_neurons: int,
    n_frequency_bands: int = 18,
    temporal_window_size: tuple[int, int] = (15, 10),
    *,
    n_channels: tuple[int, int] = (70, 80),
    n_hidden: int = 100,
) -> models.ConvNet1D:
    """1Dx2-CNN: two convolutional stages, 70 channels of 15 frames and 80 of 10, a rectified dense layer of 100.

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    n_channels : of the two stages
    n_hidden : units of the dense layer
    """
    return models.ConvNet1D(
        n_frequency_bands,
        temporal_window_size,
        out_neurons,
        n_channels=n_channels,
        n_hidden=n_hidden,
        output_activation=DOUBLE_EXPONENTIAL,
    )


def pennington2023_cnn2d(
    out_neurons: int,
    n_frequency_bands: int = 18,
    temporal_window_size: int = 8,
    *,
    c_hidden: int = 10,
    n_hidden: int = 90,
) -> models.ConvNet2D:
    """2D-CNN: three layers of ten filters of 8 frames by 3 bands, rectified, a rectified dense layer of 90.

    A layer is padded with what silence gives there, not with zeros (`strflab.layers.CausalConv2dStack`).

    Parameters
    ----------
    out_neurons : N
    n_frequency_bands : F
    temporal_window_size : T, frames of history
    c_hidden : filters a layer
    n_hidden : units of the dense layer
    """
    return models.ConvNet2D(
        n_frequency_bands,
        None,
        out_neurons,
        kernel_size=(3, temporal_window_size),
        c_hidden=c_hidden,
        n_hidden=n_hidden,
        norm=False,
        hidden_activation="relu",
        padding="same",
        output_activation=DOUBLE_EXPONENTIAL,
    )


# ---- Rancon, Masquelier & Cottereau 2025


def rancon2025_statenet(dataset: str = "ns1", out_neurons: int = 1) -> models.Model:
    """StateNet as sized for a data set: bands, backbone, and kernel, stride and channels of its encoder.

    BatchNorm follows the encoder, where our own default is LayerNorm: while training it lets later frames and other
    clips into a prediction. The published counts of parameters (30,465, 32,334 and 40,271, for one neuron) leave none
    to an output nonlinearity, so the output here is linear.

    Parameters
    ----------
    dataset : "ns1" (GRU), "aa1_mld" (Mamba) or "nat4_a1" (LSTM)
    out_neurons : N

    Raises
    ------
    ValueError : no such data set
    """
    options = RANCON_STATENETS[choice("dataset", dataset, RANCON_STATENETS)]
    return models.build("StateNet", **options, out_neurons=out_neurons, norm="batch", output_activation="identity")
