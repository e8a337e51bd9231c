"""The building blocks, each causal and each able to run on a sound in pieces (`strflab.layers.causal`)."""

from strflab.layers.activations import (
    NeuronActivation,
    ParametricDoubleExponential,
    ParametricSigmoid,
    ParametricSoftplus,
    Pointwise,
    make_activation,
)
from strflab.layers.causal import CausalLayer, Chain
from strflab.layers.config import Configurable
from strflab.layers.conv2d import CausalConv2dStack
from strflab.layers.decay import LearnableExponentialDecay, exponential_scan
from strflab.layers.norm import CausalLayerNorm
from strflab.layers.population import ChannelWeights, TemporalFIR, ThresholdReLU
from strflab.layers.prefilters import AdapTrans, ICAdaptation, Prefilter, make_prefiltering
from strflab.layers.readouts import LinearReadout, STRFReadout
from strflab.layers.strf import CausalSTRFConv, FullSTRF, ParametricSTRF, SeparableSTRF, STRFKernel

__all__ = [
    "AdapTrans",
    "CausalConv2dStack",
    "CausalLayer",
    "CausalLayerNorm",
    "CausalSTRFConv",
    "Chain",
    "ChannelWeights",
    "Configurable",
    "FullSTRF",
    "ICAdaptation",
    "LearnableExponentialDecay",
    "LinearReadout",
    "NeuronActivation",
    "ParametricDoubleExponential",
    "ParametricSTRF",
    "ParametricSigmoid",
    "ParametricSoftplus",
    "Pointwise",
    "Prefilter",
    "STRFKernel",
    "STRFReadout",
    "SeparableSTRF",
    "TemporalFIR",
    "ThresholdReLU",
    "exponential_scan",
    "make_activation",
    "make_prefiltering",
]
