"""How a model is fitted, as one small frozen value that is printed, compared, stored and hashed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from strflab.fitting.losses import LOSSES
from strflab.validation import boolean, choice, integer, number

PENALTIES = {
    "l1": lambda w: w.abs().sum(),
    "l2": lambda w: w.square().sum(),
    "smooth_time": lambda w: w.diff(dim=-1).square().sum(),  # the last axis of a filter is time
    "smooth_frequency": lambda w: w.diff(dim=-2).square().sum(),  # the one before it frequency
}
MONITORS = ("normalized_corrcoef", "corrcoef", "loss")
MOMENTUM = 0.9  # of "sgd"
PRECISIONS = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Penalty:
    """A term ``strength * sum(...)`` over some of the model's parameters, added to the loss of each step.

    Parameters
    ----------
    kind : "l1", "l2", or "smooth_time" and "smooth_frequency", squared differences of neighbouring taps or bands
    strength : >= 0
    parameters : which ones, by a pattern on their names, as a shell matches files; ``"*weight"`` spares the biases

    Examples
    --------
    >>> Penalty("l1", 1e-4).of(nn.Linear(2, 1)).shape
    torch.Size([])
    """

    kind: str
    strength: float
    parameters: str = "*weight"

    def __post_init__(self) -> None:
        choice("kind", self.kind, tuple(PENALTIES))
        number("strength", self.strength, at_least=0)
        if not isinstance(self.parameters, str) or not self.parameters:
            raise ValueError(f"parameters={self.parameters!r}: must be a pattern, such as '*weight'")

    def of(self, model: nn.Module) -> Tensor:
        """The term's value for `model`, a scalar.

        Raises
        ------
        ValueError : no parameter has a name that matches
        """
        parameters = dict(model.named_parameters())
        terms = [PENALTIES[self.kind](parameters[name]) for name in self.names(model)]
        return self.strength * torch.stack(terms).sum()

    def names(self, model: nn.Module) -> list[str]:
        """Names of the parameters of `model` that the term is on.

        Raises
        ------
        ValueError : no parameter has a name that matches
        """
        least = 2 if self.kind == "smooth_frequency" else 1
        found = [
            name for name, p in model.named_parameters() if fnmatchcase(name, self.parameters) and p.dim() >= least
        ]
        if not found:
            names = ", ".join(name for name, _ in model.named_parameters())
            raise ValueError(f"parameters={self.parameters!r}: matches none of {names}")
        return found


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted.

    Parameters
    ----------
    loss : "mse", "nmse" (over each neuron's variance, so that all weigh alike), "poisson" (negative log-likelihood)
        or "poisson_log" (the same where the model's output is the log of the rate)
    optimizer : "adamw" (Kingma & Ba 2015, doi 10.48550/arXiv.1412.6980, with decoupled weight decay) or "sgd"
        (momentum 0.9)
    learning_rate : at its highest
    schedule : "constant", or "cosine" to zero over the epochs
    warmup : epochs over which the learning rate rises from zero, linearly
    weight_decay : decoupled, as in Loshchilov & Hutter 2019, doi 10.48550/arXiv.1711.05101
    penalties : terms added to the loss, each a `Penalty`
    epochs : at most so many passes over the training clips
    patience : stop after so many epochs without a better validation score
    batch_size : clips a step
    clip_frames : train on random pieces of this length, a new one of each clip each epoch; None: whole clips. What
        the model would need to have heard before a piece does not count in the loss, up to a quarter of it
    monitor : what decides which weights are best: "normalized_corrcoef" or "corrcoef" (mean over neurons, higher is
        better), or "loss" (lower is better)
    gradient_clip : largest norm of the gradient; None: no limit
    ema : average the weights over steps with this factor (0.99, say) and score, keep and return the average;
        None: off
    precision : "float32", "bfloat16" (automatic mixed precision) or "float64"
    initialize : start a model that was never fitted or loaded with its output at each neuron's mean and spread
    compile : run the model through `torch.compile`
    seed : of the order of clips and pieces and of whatever the model draws at random

    Raises
    ------
    ValueError : a setting is out of range; the message names it

    Examples
    --------
    >>> Recipe(epochs=50).epochs
    50
    >>> Recipe() == Recipe.from_dict(Recipe().to_dict())
    True
    """

    loss: str = "mse"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    penalties: tuple[Penalty, ...] = ()
    epochs: int = 200
    patience: int = 30
    batch_size: int = 4
    clip_frames: int | None = None
    monitor: str = "normalized_corrcoef"
    gradient_clip: float | None = None
    ema: float | None = None
    precision: str = "float32"
    initialize: bool = True
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        choice("loss", self.loss, tuple(LOSSES))
        choice("optimizer", self.optimizer, ("adamw", "sgd"))
        choice("schedule", self.schedule, ("constant", "cosine"))
        choice("monitor", self.monitor, MONITORS)
        choice("precision", self.precision, PRECISIONS)
        number("learning_rate", self.learning_rate, above=0)
        number("weight_decay", self.weight_decay, at_least=0)
        integer("warmup", self.warmup, minimum=0)
        for name in ("epochs", "patience", "batch_size"):
            integer(name, getattr(self, name))
        if self.clip_frames is not None:
            integer("clip_frames", self.clip_frames)
        if self.gradient_clip is not None:
            number("gradient_clip", self.gradient_clip, above=0)
        if self.ema is not None and not 0 < number("ema", self.ema) < 1:
            raise ValueError(f"ema={self.ema!r}: must lie between 0 and 1")
        boolean("initialize", self.initialize)
        boolean("compile", self.compile)
        integer("seed", self.seed, minimum=0, maximum=2**63 - 1)
        object.__setattr__(self, "penalties", tuple(self.penalties))
        if not all(isinstance(p, Penalty) for p in self.penalties):
            raise ValueError(f"penalties={self.penalties!r}: must be a sequence of Penalty")

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate `epoch` epochs into the fit; whole numbers are the epochs' beginnings."""
        rate = self.learning_rate
        if self.warmup:
            rate *= min(1.0, (epoch + 1) / self.warmup)
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / self.epochs)))
        return rate

    def is_better(self, score: float, best: float) -> bool:
        """Whether a monitored score beats the best so far; a NaN never does, and anything beats a NaN."""
        if math.isnan(score):
            return False
        return math.isnan(best) or (score < best if self.monitor == "loss" else score > best)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self) | {"penalties": [asdict(p) for p in self.penalties]}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Recipe:
        """The recipe that `to_dict` described.

        Parameters
        ----------
        settings : by name

        Raises
        ------
        ValueError : a setting that does not exist
        """
        known = {field.name for field in fields(cls)}
        for name in settings:
            if name not in known:
                raise ValueError(f"{name}={settings[name]!r}: a recipe has {', '.join(sorted(known))}")
        return cls(**settings | {"penalties": tuple(Penalty(**p) for p in settings.get("penalties", ()))})

    @property
    def digest(self) -> str:
        """A hash that two recipes share only if all their settings are the same."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
