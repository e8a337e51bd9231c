"""Many fits at once: `fit_many` takes members, `cross_validate` clips in folds, `refit_readout` a fitted core."""

from strflab.sweeps.folds import CrossValidation, cross_validate, folds
from strflab.sweeps.many import fit_many
from strflab.sweeps.members import Member, Sweep, vary
from strflab.sweeps.readouts import refit_readout, transfer

__all__ = [
    "CrossValidation",
    "Member",
    "Sweep",
    "cross_validate",
    "fit_many",
    "folds",
    "refit_readout",
    "transfer",
    "vary",
]
