"""Losses, elementwise, between predicted rates and mean counts, both in spikes per bin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LOWEST_RATE = 1e-4  # spikes per bin, at which the Poisson loss stops being logarithmic


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """``(p - y)^2``.

    Parameters
    ----------
    prediction, target : tensors of one shape
    """
    return nn.functional.mse_loss(prediction, target, reduction="none")


def poisson_loss(prediction: Tensor, target: Tensor, lowest: float = LOWEST_RATE) -> Tensor:
    """``p - y log p`` for predicted rates p and mean counts y.

    Below `lowest` it goes on as the parabola of the same value and slope, so that a rate of zero or less is finite,
    has a gradient that leads back, and is bounded from below: a logarithm that is only clamped would reward
    ever more negative rates where there are no spikes.

    Parameters
    ----------
    prediction, target : tensors of one shape, spikes per bin
    """
    safe = prediction.clamp(min=lowest)
    below = prediction - safe  # <= 0
    value = safe - target * torch.log(safe)
    slope, curvature = 1 - target / lowest, (1 + target / lowest) / lowest
    return value + slope * below + curvature * below**2 / 2


def poisson_log_loss(log_rate: Tensor, target: Tensor) -> Tensor:
    """``exp(z) - y z`` for predicted log rates z: the same likelihood, for models without an output nonlinearity.

    Parameters
    ----------
    log_rate, target : tensors of one shape
    """
    return torch.exp(log_rate) - target * log_rate


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "nmse": squared_error,  # the weights carry the variances
    "poisson": poisson_loss,
    "poisson_log": poisson_log_loss,
}
