"""What a sweep is asked for and what it gives: a `Member` is one fit of many, a `Sweep` holds their results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from torch import nn

from strflab.fitting import Recipe, Run
from strflab.fitting.clips import mean_score
from strflab.validation import integer


@dataclass(frozen=True)
class Member:
    """One fit: which neurons, which clips, how.

    Parameters
    ----------
    neurons : index of the neuron, or indices of those that one model predicts together
    train : indices of the clips to learn from
    validation : indices of the clips that say when to stop and which weights to keep; None: the training clips
    recipe : how; its seed is that of the order of the clips
    seed : of the first weights; None: the recipe's. Members that share the recipe's seed and the clips hear them in
        the same order and can share the work on them, however their weights start

    Raises
    ------
    ValueError : no neuron, no training clip, no validation clip; an index that is not an integer >= 0

    Examples
    --------
    >>> Member(3, train=[0, 1], validation=[2]).neurons
    (3,)
    """

    neurons: Any
    train: Sequence[int]
    validation: Sequence[int] | None = None
    recipe: Recipe = field(default_factory=Recipe)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("neurons", "train", "validation"):
            if name != "validation" or self.validation is not None:
                object.__setattr__(self, name, _indices(name, getattr(self, name)))
        if not isinstance(self.recipe, Recipe):
            raise ValueError(f"recipe={self.recipe!r}: must be a Recipe")
        if self.seed is not None:
            integer("seed", self.seed, minimum=0, maximum=2**63 - 1)

    @property
    def weights_seed(self) -> int:
        """The seed of the first weights."""
        return self.recipe.seed if self.seed is None else self.seed


@dataclass
class Sweep:
    """Results of many fits; lists are in the order of the members.

    members : what was asked for
    runs : a `strflab.fitting.Run` each; None where the fit failed
    errors : why it failed; "" where it did not
    how : "batched", "process", "cluster" or "in turn"
    attempts : how often each was tried
    seconds : for everything together
    """

    members: list[Member]
    runs: list[Run | None]
    errors: list[str]
    how: list[str]
    attempts: list[int]
    seconds: float

    def __len__(self) -> int:
        return len(self.members)

    @property
    def failed(self) -> list[int]:
        """Indices of the members that have no result."""
        return [i for i, run in enumerate(self.runs) if run is None]

    @property
    def scores(self) -> np.ndarray:
        """The monitored score of each member, mean over its neurons that have one; NaN where there is none."""
        return np.array([np.nan if run is None else mean_score(run.scores) for run in self.runs])

    def models(self) -> list[nn.Module | None]:
        """The fitted models, in evaluation mode; None where the fit failed."""
        return [None if run is None else run.model for run in self.runs]

    def all_models(self) -> list[Any]:
        """Like `models`, where no fit may be missing.

        Raises
        ------
        RuntimeError : a fit failed; names the members and their errors
        """
        if self.failed:
            reasons: dict[str, list[int]] = {}
            for i in self.failed:
                reasons.setdefault(self.errors[i], []).append(i)
            told = "; ".join(f"members {which}: {error}" for error, which in reasons.items())
            raise RuntimeError(f"{len(self.failed)} of {len(self)} fits failed: {told}")
        return self.models()

    def table(self) -> list[dict[str, Any]]:
        """A record a member: what it was, its score, its best epoch, how many epochs it took, why it failed."""
        return [
            {
                "neurons": member.neurons,
                "train": member.train,
                "validation": member.validation,
                "seed": member.weights_seed,
                "learning_rate": member.recipe.learning_rate,
                "weight_decay": member.recipe.weight_decay,
                "penalties": tuple(p.strength for p in member.recipe.penalties),
                "score": float(score),
                "best_epoch": 0 if run is None else run.best_epoch,
                "epochs": 0 if run is None else len(run.history),
                "how": how,
                "error": error,
            }
            for member, run, score, how, error in zip(
                self.members, self.runs, self.scores, self.how, self.errors, strict=True
            )
        ]


def vary(recipe: Recipe, **settings: Sequence[Any]) -> list[Recipe]:
    """Return a recipe for every combination of the settings, the last one varying fastest.

    Parameters
    ----------
    recipe : what they have in common
    **settings : the values of some of its fields

    Raises
    ------
    ValueError : a setting that a recipe does not have, or a value that it does not allow

    Examples
    --------
    >>> [r.learning_rate for r in vary(Recipe(), learning_rate=[1e-3, 1e-2], weight_decay=[0.0])]
    [0.001, 0.01]
    """
    known = {f.name for f in fields(Recipe)}
    for name in settings:
        if name not in known:
            raise ValueError(f"{name}={settings[name]!r}: a recipe has {', '.join(sorted(known))}")
    return [replace(recipe, **dict(zip(settings, values))) for values in itertools.product(*settings.values())]


def _indices(name: str, value: Any) -> tuple[int, ...]:
    values = np.atleast_1d(np.asarray(value))
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"{name}={value!r}: must be one or several integers from 0")
    return tuple(values.tolist())
