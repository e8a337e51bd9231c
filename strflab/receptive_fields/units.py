"""The hidden units of a network receptive field: which matter for a neuron, and do they excite it or inhibit it?

    effective    |v_j| >= 5 % of sum_i |v_i|,        v the neuron's weights of the hidden units
    IE score     sign(v_j) sum W_j / sum |W_j|,      W_j the unit's receptive field

from 1, a unit that excites the neuron wherever it hears, to -1, one that inhibits it. Harper et al. 2016,
doi 10.1371/journal.pcbi.1005113; Rahman et al. 2019, doi 10.1371/journal.pcbi.1006618.

Units have no order, and an odd nonlinearity no sign either: v tanh(w * s + c) = (-v) tanh(-w * s - c). `match_units`
pairs those of two networks, one fitted twice, say, or a fitted one and the one that made its responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from strflab.layers.readouts import LinearReadout
from strflab.models.base import Model
from strflab.receptive_fields._arrays import as_fields
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


@dataclass(frozen=True)
class UnitMatch:
    """Pairs of hidden units of two networks, in the order of the first's; P is the smaller number of units.

    first, second : (P,) units of the one and of the other network
    sign : (P,) -1 where the fields of a pair are each other's negative
    similarity : (P,) absolute correlation of the fields of a pair over all taps
    """

    first: np.ndarray
    second: np.ndarray
    sign: np.ndarray
    similarity: np.ndarray


def match_units(first: Tensor | ArrayLike, second: Tensor | ArrayLike) -> UnitMatch:
    """Pair the hidden units of two networks so that their fields are as alike as they can be.

    Of all ways to give each unit a partner of its own, the one with the largest sum of absolute correlations is taken
    (Kuhn 1955, doi 10.1002/nav.3800020109). Multiply the first network's fields and weights by `sign` before they are
    compared with the second's. A unit without a counterpart is paired all the same: look at `similarity`.

    Parameters
    ----------
    first, second : (n_hidden, F, T) fields; the numbers of units may differ

    Raises
    ------
    ValueError : fields of another shape, or of different F and T

    Examples
    --------
    >>> fields = np.eye(8).reshape(8, 2, 4)
    >>> match = match_units(fields[:3], -fields[[2, 0]])
    >>> match.first, match.second, match.sign
    (array([0, 2]), array([1, 0]), array([-1, -1]))
    """
    from scipy.optimize import linear_sum_assignment

    a, b = (as_fields(field) for field in (first, second))
    for name, field in (("first", a), ("second", b)):
        if field.ndim != 3 or len(field) == 0:
            raise ValueError(f"{name} of shape {field.shape}: must be (n_hidden, F, T)")
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"second of shape {b.shape}: must have the F and T of first, of shape {a.shape}")
    correlation = _standardized(a) @ _standardized(b).T
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    paired = correlation[rows, columns]
    return UnitMatch(rows, columns, np.where(paired < 0, -1, 1), np.abs(paired))


def output_weights(model: Model | Tensor | ArrayLike) -> np.ndarray:
    """Return the weights (N, n_hidden) with which neurons sum hidden units; weights are returned as they are.

    Parameters
    ----------
    model : one with hidden units, or its weights
    """
    weights: Any = model
    if isinstance(model, Model):
        if not isinstance(model.readout, LinearReadout):
            raise ValueError(f"model={type(model).__name__}: has no hidden units that neurons weigh and sum")
        weights = model.readout.weight
    return np.asarray(weights.detach().cpu() if isinstance(weights, torch.Tensor) else weights, dtype=np.float64)


def _standardized(fields: np.ndarray) -> np.ndarray:
    """(n_hidden, F T), each of mean 0 and norm 1; a flat field stays zero."""
    flat = fields.reshape(len(fields), -1)
    flat = flat - flat.mean(1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(norm > 0, norm, 1)
