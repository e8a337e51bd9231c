"""The architectures: each maps a spectrogram (B, 1, F, T) to the rates of N neurons (B, N, 1, T)."""

from __future__ import annotations

from typing import Any

from strflab.layers.config import registered
from strflab.models.base import Model
from strflab.models.convnet import ConvNet1D, ConvNet2D
from strflab.models.deepstrf import from_deepstrf
from strflab.models.dnet import DNet
from strflab.models.linear import Linear, LinearNonlinear
from strflab.models.nrf import NetworkReceptiveField
from strflab.models.rules import check
from strflab.models.statenet import StateNet
from strflab.models.transformer import Transformer

ZOO: dict[str, type[Model]] = {
    c.__name__: c
    for c in (
        Linear,
        LinearNonlinear,
        NetworkReceptiveField,
        DNet,
        ConvNet2D,
        ConvNet1D,
        Transformer,
        StateNet,
    )
}

__all__ = [
    "ConvNet1D",
    "ConvNet2D",
    "DNet",
    "Linear",
    "LinearNonlinear",
    "Model",
    "NetworkReceptiveField",
    "StateNet",
    "Transformer",
    "available",
    "build",
    "check",
    "from_deepstrf",
    "from_pretrained",
]


def available() -> list[str]:
    """Return the names of this library's models; `build` takes those of your own classes too."""
    return list(ZOO)


def build(name: str, **options: Any) -> Model:
    """Return a new model.

    Parameters
    ----------
    name : one of `available()`, or the name of a class of yours, derived from `Model`, that was defined or imported
    **options : arguments of its constructor

    Raises
    ------
    ValueError : no such model, or an option that it does not take or cannot do

    Examples
    --------
    >>> build("Linear", n_frequency_bands=18, out_neurons=5).out_neurons
    5
    """
    import inspect

    cls = ZOO.get(name) or registered(name, Model)
    if cls is None:
        raise ValueError(f"name={name!r}: must be one of {', '.join(ZOO)}, or a class of yours derived from Model")
    allowed = inspect.signature(cls).parameters
    for option in options:
        if option not in allowed:
            raise ValueError(f"{option}={options[option]!r}: {name} takes {', '.join(allowed)}")
    return cls(**options)


def from_pretrained(folder: Any) -> Model:
    """Return the model, of whatever class, that `Model.save_pretrained` wrote to `folder`."""
    return Model.from_pretrained(folder)
