"""The building blocks, each causal and each able to run on a sound in pieces (`strflab.layers.causal`)."""

from strflab.layers.activations import (
    NeuronActivation,
    ParametricDoubleExponential,
    ParametricSigmoid,
    ParametricSoftplus,
    Pointwise,
    make_activation,
)
from strflab.layers.attention import CausalSelfAttention, SinusoidalPosition, causal_attention
from strflab.layers.causal import CausalLayer, Chain
from strflab.layers.config import Configurable
from strflab.layers.contract import Broken, check
from strflab.layers.conv2d import CausalConv2dStack
from strflab.layers.decay import LearnableExponentialDecay, exponential_scan
from strflab.layers.frontends import (
    LEAF,
    Frontend,
    Gammatone,
    LogMel,
    NS1Cochleagram,
    Rahman2020Cochleagram,
    SincNet,
    make_frontend,
)
from strflab.layers.lmu import LMU
from strflab.layers.local import LocallyConnected1d
from strflab.layers.mamba import Mamba
from strflab.layers.norm import CausalLayerNorm
from strflab.layers.population import ChannelWeights, TemporalFIR, ThresholdReLU
from strflab.layers.prefilters import AdapTrans, ICAdaptation, Prefilter, make_prefiltering
from strflab.layers.readouts import LinearReadout, STRFReadout
from strflab.layers.recurrent import GRU, LSTM, RNN, Backbone, Recurrence, make_backbone
from strflab.layers.s4 import S4, S4D
from strflab.layers.strf import CausalSTRFConv, FullSTRF, ParametricSTRF, SeparableSTRF, STRFKernel

__all__ = [
    "GRU",
    "LEAF",
    "LMU",
    "LSTM",
    "RNN",
    "S4",
    "S4D",
    "AdapTrans",
    "Backbone",
    "Broken",
    "CausalConv2dStack",
    "CausalLayer",
    "CausalLayerNorm",
    "CausalSTRFConv",
    "CausalSelfAttention",
    "Chain",
    "ChannelWeights",
    "Configurable",
    "Frontend",
    "FullSTRF",
    "Gammatone",
    "ICAdaptation",
    "LearnableExponentialDecay",
    "LinearReadout",
    "LocallyConnected1d",
    "LogMel",
    "Mamba",
    "NS1Cochleagram",
    "NeuronActivation",
    "ParametricDoubleExponential",
    "ParametricSTRF",
    "ParametricSigmoid",
    "ParametricSoftplus",
    "Pointwise",
    "Prefilter",
    "Rahman2020Cochleagram",
    "Recurrence",
    "STRFKernel",
    "STRFReadout",
    "SeparableSTRF",
    "SincNet",
    "SinusoidalPosition",
    "TemporalFIR",
    "ThresholdReLU",
    "causal_attention",
    "check",
    "exponential_scan",
    "make_activation",
    "make_backbone",
    "make_frontend",
    "make_prefiltering",
]
