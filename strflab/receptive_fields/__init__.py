"""Reading a model: the receptive fields that it has at each moment, the sounds that it dreams of, and their measures.

Fields are (..., F, T), the last tap at lag 0, of torch or numpy. Fields and stimuli that a model yields are tensors of
torch, measures are arrays of numpy.
"""

from strflab.receptive_fields.dreams import Dream, dream
from strflab.receptive_fields.dynamic import dynamic_strfs
from strflab.receptive_fields.energy import GradientEnergy, gradient_energy
from strflab.receptive_fields.modulation import ModulationTransfer, modulation_transfer_function
from strflab.receptive_fields.tuning import (
    Tuning,
    bandwidth,
    best_frequency,
    excitation_inhibition,
    latency,
    separability,
    tuning,
)
from strflab.receptive_fields.units import UnitMatch, effective_units, ie_scores, match_units, output_weights

__all__ = [
    "Dream",
    "GradientEnergy",
    "ModulationTransfer",
    "Tuning",
    "UnitMatch",
    "bandwidth",
    "best_frequency",
    "dream",
    "dynamic_strfs",
    "effective_units",
    "excitation_inhibition",
    "gradient_energy",
    "ie_scores",
    "latency",
    "match_units",
    "modulation_transfer_function",
    "output_weights",
    "separability",
    "tuning",
]
