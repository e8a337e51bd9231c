"""Closed-form receptive fields: estimators with scikit-learn's conventions, and what surrounds them.

`RidgeSTRF` is the default; `NormalizedReverseCorrelation` works in the Fourier domain, with a jackknife;
`LinearNonlinearSTRF` adds a static output nonlinearity to either. All take a dataset, or lists of spectrograms (F, T_k)
and responses (N, T_k), and give `strf_` (N, F, T) with the last tap at lag 0.
"""

from strflab.reverse_correlation.base import STRFEstimator, lags_from_ms, smooth_psth
from strflab.reverse_correlation.extrapolation import (
    Extrapolation,
    Line,
    PredictivePower,
    extrapolate,
    predictive_power,
)
from strflab.reverse_correlation.fourier import NormalizedReverseCorrelation, significance_mask
from strflab.reverse_correlation.nested import cross_val_predict
from strflab.reverse_correlation.nonlinearity import LinearNonlinearSTRF, OutputNonlinearity
from strflab.reverse_correlation.ridge import RidgeSTRF
from strflab.reverse_correlation.stimulus import (
    ModulationSpectrum,
    modulation_spectrum,
    spike_triggered_average,
    stimulus_autocorrelation,
)

__all__ = [
    "Extrapolation",
    "Line",
    "LinearNonlinearSTRF",
    "ModulationSpectrum",
    "NormalizedReverseCorrelation",
    "OutputNonlinearity",
    "PredictivePower",
    "RidgeSTRF",
    "STRFEstimator",
    "cross_val_predict",
    "extrapolate",
    "lags_from_ms",
    "modulation_spectrum",
    "predictive_power",
    "significance_mask",
    "smooth_psth",
    "spike_triggered_average",
    "stimulus_autocorrelation",
]
