"""Fitting by gradient descent: `fit` takes a model, clips and a `Recipe`, and returns the model at its best."""

from strflab.fitting.checkpoint import Checkpoint
from strflab.fitting.clips import Clips
from strflab.fitting.loop import Diverged, Run, fit, initialize_output
from strflab.fitting.losses import LOSSES, poisson_log_loss, poisson_loss, squared_error
from strflab.fitting.recipe import Penalty, Recipe

__all__ = [
    "LOSSES",
    "Checkpoint",
    "Clips",
    "Diverged",
    "Penalty",
    "Recipe",
    "Run",
    "fit",
    "initialize_output",
    "poisson_log_loss",
    "poisson_loss",
    "squared_error",
]
