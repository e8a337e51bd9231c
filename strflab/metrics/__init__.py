"""Scores of predicted responses, one value a neuron, aware of the noise that no model can predict.

The prediction comes first, (B, N, 1, T), then the response, (B, N, R, T) with NaN where a repeat, neuron or frame is
missing; lists of clips of different lengths will do as well. `lengths=` or `mask=` say which frames count, and
`centre=` says over what means are removed. Torch in, torch out; NumPy in, NumPy out; float64 in between. `scores`
computes all but the coherences in one pass.
"""

from strflab.metrics.coherence import (
    Coherence,
    coherence,
    coherence_ceiling,
    coherence_information,
    coherence_information_ceiling,
)
from strflab.metrics.comparison import Comparison, Summary, compare, summarize
from strflab.metrics.correlation import (
    Correlator,
    corrcoef,
    fve,
    normalized_corrcoef,
    r_ceiling,
    scores,
    signal_power_explained,
)
from strflab.metrics.noise_ceiling import (
    ccmax,
    ccmax_split_half,
    noise_power,
    noise_ratio,
    psth,
    signal_power,
    snr,
)

__all__ = [
    "Coherence",
    "Comparison",
    "Correlator",
    "Summary",
    "ccmax",
    "ccmax_split_half",
    "coherence",
    "coherence_ceiling",
    "coherence_information",
    "coherence_information_ceiling",
    "compare",
    "corrcoef",
    "fve",
    "noise_power",
    "noise_ratio",
    "normalized_corrcoef",
    "psth",
    "r_ceiling",
    "scores",
    "signal_power",
    "signal_power_explained",
    "snr",
    "summarize",
]
