"""The hidden units of a network receptive field: which matter for a neuron, and do they excite it or inhibit it?

    effective    |v_j| >= 5 % of sum_i |v_i|,        v the neuron's weights of the hidden units
    IE score     sign(v_j) sum W_j / sum |W_j|,      W_j the unit's receptive field

from 1, a unit that excites the neuron wherever it hears, to -1, one that inhibits it. Harper et al. 2016,
doi 10.1371/journal.pcbi.1005113; Rahman et al. 2019, doi 10.1371/journal.pcbi.1006618.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.layers.readouts import LinearReadout
from strflab.models.base import Model
from strflab.receptive_fields.tuning import excitation_inhibition
from strflab.validation import integer, number


def effective_units(model: Model | Tensor | ArrayLike, neuron: int = 0, threshold: float = 0.05) -> np.ndarray:
    """Return the hidden units that a neuron listens to, the strongest first: ``|v_j| >= threshold * sum_i |v_i|``.

    Parameters
    ----------
    model : with hidden units that are weighted and summed, or these weights (N, n_hidden)
    neuron : which
    threshold : share of the summed absolute weights that makes a unit effective

    Returns
    -------
    ndarray of the units' numbers, none where all weights are zero

    Raises
    ------
    ValueError : the model has no such weights, there is no such neuron, or `threshold` is not in [0, 1]

    Examples
    --------
    >>> effective_units([[0.5, -1.0, 0.01]])
    array([1, 0])
    """
    weights = output_weights(model)
    v = np.abs(weights[integer("neuron", neuron, -len(weights), len(weights) - 1)])
    share = v / (v.sum() or 1)
    order = np.argsort(-share, kind="stable")
    return order[(share[order] >= number("threshold", threshold, at_least=0, at_most=1)) & (share[order] > 0)]


def ie_scores(field: Tensor | ArrayLike, weights: Tensor | ArrayLike) -> np.ndarray:
    """Return the IE score of hidden units for neurons: ``sign(v) sum W / sum |W|``.

    Parameters
    ----------
    field : (n_hidden, F, T) the units' receptive fields
    weights : (n_hidden,) or (N, n_hidden) with which neurons weigh the units

    Returns
    -------
    ndarray of the shape of `weights`, NaN for a unit without a field and 0 for one without a weight

    Examples
    --------
    >>> ie_scores(np.ones((2, 3, 4)), [0.5, -0.1])
    array([ 1., -1.])
    """
    balance, v = excitation_inhibition(field), output_weights(weights)
    if balance.ndim != 1 or v.shape[-1:] != balance.shape:
        raise ValueError(f"weights of shape {v.shape}: must end in the number of fields, of shape {balance.shape}")
    return np.sign(v) * balance


def output_weights(model: Model | Tensor | ArrayLike) -> np.ndarray:
    """Return the weights (N, n_hidden) with which neurons sum hidden units; weights are returned as they are."""
    weights: Any = model
    if isinstance(model, Model):
        if not isinstance(model.readout, LinearReadout):
            raise ValueError(f"model={type(model).__name__}: has no hidden units that neurons weigh and sum")
        weights = model.readout.weight
    return np.asarray(weights.detach().cpu() if isinstance(weights, torch.Tensor) else weights, dtype=np.float64)
