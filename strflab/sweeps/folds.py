"""Cross-validation by clip, nested where something is chosen.

Neighbouring frames share sound and response, so whole clips are held out, never frames. What is chosen, such as the
strength of a penalty for each neuron, is chosen by inner folds over the training clips of an outer fold; its test
clips are heard once, by the model that was fitted again to all training clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from strflab import metrics
from strflab.data import NeuralDataset
from strflab.fitting import Recipe
from strflab.sweeps.many import fit_many
from strflab.sweeps.members import Member, Sweep
from strflab.validation import choice, integer

Fold = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class CrossValidation:
    """What cross-validation leaves behind; R recipes, K outer folds, U models a fold, N neurons.

    scores : (N,) normalised correlation over all test clips, each predicted by the fold that did not learn from it
    fold_scores : (K, N) the same over the test clips of each fold
    predictions : by test clip, (N, T_k) rates; NaN where a fit failed
    chosen : (K, U) index of the recipe that did best in the inner folds; -1 where none could be fitted
    inner_scores : (K, R, U) mean over the inner folds of the monitored validation score; NaN without inner folds
    recipes : what was chosen from
    folds : training and test clips of each outer fold
    units : the neurons of each of the U models
    inner, outer : the sweeps themselves; `outer` holds the models, those of the first fold first; `inner` is None
        where there was nothing to choose
    """

    scores: np.ndarray
    fold_scores: np.ndarray
    predictions: dict[int, Tensor]
    chosen: np.ndarray
    inner_scores: np.ndarray
    recipes: list[Recipe]
    folds: list[Fold]
    units: list[tuple[int, ...]]
    inner: Sweep | None
    outer: Sweep


def folds(clips: int | NeuralDataset | Sequence[int], k: Any) -> list[Fold]:
    """Return the training and test clips of each fold.

    Parameters
    ----------
    clips : a data set, its number of clips, or the indices of some of its clips
    k : number of folds, each every k-th clip; "loo" to leave out one clip at a time; or the test clips of each fold,
        of which there may be one: a published split

    Raises
    ------
    ValueError : fewer than two or more folds than clips; test clips that are none of the clips, or in two folds; a fold
        without test clips or without any to learn from

    Examples
    --------
    >>> folds(4, 2)
    [((1, 3), (0, 2)), ((0, 2), (1, 3))]
    """
    if isinstance(clips, NeuralDataset):
        clips = clips.n_clips
    every = list(range(clips)) if isinstance(clips, int) else [int(c) for c in clips]
    if isinstance(k, str):
        choice("k", k, ("loo",))
        k = len(every)
    if isinstance(k, (int, np.integer)):
        integer("k", k, 2, max(2, len(every)))
        if len(every) < k:
            raise ValueError(f"k={k!r}: more folds than the {len(every)} clips")
        tests = [every[i::k] for i in range(k)]
    else:
        tests = [[int(c) for c in test] for test in k]
    held_out = [clip for test in tests for clip in test]
    if not tests or not all(tests) or len(set(held_out)) != len(held_out) or not set(held_out) <= set(every):
        raise ValueError(f"k={k!r}: must list the test clips of each fold, of {every}, none of them twice")
    found = [(tuple(c for c in every if c not in test), tuple(test)) for test in tests]
    if any(not train for train, _ in found):
        raise ValueError(f"k={k!r}: leaves no clip to learn from")
    return found


def cross_validate(
    build: Callable[[], nn.Module],
    dataset: NeuralDataset,
    recipes: Recipe | Sequence[Recipe],
    *,
    cv: Any = "loo",
    inner: Any = None,
    neurons: str = "each",
    **options: Any,
) -> CrossValidation:
    """Score an architecture on clips that it was neither fitted nor chosen on.

    With `inner` folds, each model takes the recipe with the best mean score over them and is then fitted to all
    training clips of the outer fold, for as many epochs as were best in the inner folds (their median). Without, there
    is one recipe and it is fitted as it stands, its training clips deciding which weights are best.

    Harper et al. 2016, doi 10.1371/journal.pcbi.1005113, in one call, with ``cv=[test_clips]``, ``inner=8`` and
    ``recipes=vary(recipe, penalties=[(Penalty("l1", s),) for s in strengths])``.

    Parameters
    ----------
    build : returns a new model, of one output neuron for ``neurons="each"`` or of all of them
    dataset : a recording
    recipes : one, or several to choose from (`strflab.sweeps.vary`)
    cv : outer folds over all clips, see `folds`
    inner : inner folds over the training clips of each outer fold, see `folds`: a number or "loo"
    neurons : "each" for a model and a choice a neuron, "together" for one model of the population
    **options : of `strflab.sweeps.fit_many`

    Raises
    ------
    ValueError : several recipes and no inner folds; folds that cannot be made

    Examples
    --------
    >>> from strflab import data, models
    >>> ds = data.load("simulated", n_neurons=2, n_clips=4, seconds=2.0)
    >>> result = cross_validate(lambda: models.Linear(ds.n_bands), ds, Recipe(epochs=2), cv=2, progress=False)
    >>> result.fold_scores.shape
    (2, 2)
    """
    recipes = [recipes] if isinstance(recipes, Recipe) else list(recipes)
    if not recipes or (len(recipes) > 1 and inner is None):
        raise ValueError(f"inner={inner!r}: {len(recipes)} recipes, must be one, or inner folds must choose")
    choice("neurons", neurons, ("each", "together"))
    every = range(dataset.n_neurons)
    units: list[tuple[int, ...]] = [(n,) for n in every] if neurons == "each" else [tuple(every)]
    outer_folds = folds(dataset, cv)
    shape = len(outer_folds), len(recipes), len(units)

    searched, inner_scores, epochs = None, np.full(shape, np.nan), np.full(shape, np.nan)
    if inner is not None:
        searched, inner_scores, epochs = _search(build, dataset, recipes, units, outer_folds, inner, options)
        ranked = np.where(np.isnan(inner_scores), -np.inf, inner_scores)
        if recipes[0].monitor == "loss":
            ranked = np.where(np.isnan(inner_scores), -np.inf, -inner_scores)
        chosen = np.where(np.isnan(inner_scores).all(1), -1, ranked.argmax(1))  # (K, U)
    else:
        chosen = np.zeros((shape[0], shape[2]), int)

    members = []
    for k, (train, _) in enumerate(outer_folds):
        for u, unit in enumerate(units):
            recipe = recipes[chosen[k, u]]  # where nothing could be fitted, the last: it fails again, and is reported
            if np.isfinite(epochs[k, chosen[k, u], u]):
                n = max(1, round(float(epochs[k, chosen[k, u], u])))
                recipe = replace(recipe, epochs=n, patience=n)
            members.append(Member(unit, train, None, recipe))
    outer = fit_many(build, dataset, members, **options)
    predictions = _predictions(outer, dataset, outer_folds, units)
    by_fold = [_score(dataset, predictions, test) for _, test in outer_folds]
    return CrossValidation(
        scores=_score(dataset, predictions, list(predictions)),
        fold_scores=np.stack(by_fold),
        predictions=predictions,
        chosen=chosen,
        inner_scores=inner_scores,
        recipes=recipes,
        folds=outer_folds,
        units=units,
        inner=searched,
        outer=outer,
    )


def _search(
    build: Callable[[], nn.Module],
    dataset: NeuralDataset,
    recipes: list[Recipe],
    units: list[tuple[int, ...]],
    outer_folds: list[Fold],
    inner: Any,
    options: dict[str, Any],
) -> tuple[Sweep, np.ndarray, np.ndarray]:
    """Fit every recipe in every inner fold of every outer fold; mean scores and median best epochs (K, R, U)."""
    if len({recipe.monitor for recipe in recipes}) != 1:
        raise ValueError("recipes: must have one monitor, to be compared by it")
    members, places = [], []
    for k, (outer_train, _) in enumerate(outer_folds):
        for train, validation in folds(outer_train, inner):
            for r, recipe in enumerate(recipes):
                for u, unit in enumerate(units):
                    members.append(Member(unit, train, validation, recipe))
                    places.append((k, r, u))
    sweep = fit_many(build, dataset, members, **options)
    collected: dict[tuple[int, int, int], list[tuple[float, float]]] = {place: [] for place in places}
    for place, run, score in zip(places, sweep.runs, sweep.scores, strict=True):
        collected[place].append((score, np.nan if run is None else run.best_epoch))
    scores = np.full((len(outer_folds), len(recipes), len(units)), np.nan)
    epochs = scores.copy()
    for place, found in collected.items():
        # a recipe that failed in one inner fold is not comparable with those that did not
        scores[place], epochs[place] = np.mean([s for s, _ in found]), np.median([e for _, e in found])
    return sweep, scores, epochs


@torch.no_grad()
def _predictions(
    sweep: Sweep, dataset: NeuralDataset, outer_folds: list[Fold], units: list[tuple[int, ...]]
) -> dict[int, Tensor]:
    """By test clip, the rates (N, T_k) that the models of its fold predict."""
    found = {}
    models = sweep.models()
    for k, (_, test) in enumerate(outer_folds):
        for clip in test:
            found[clip] = torch.full((dataset.n_neurons, dataset.n_frames[clip]), torch.nan)
            for unit, model, member in zip(units, models[k * len(units) :], sweep.members[k * len(units) :]):
                if model is not None:
                    like = next(model.parameters())
                    rate = model(dataset.stimuli[clip][None, None].to(like))[0, :, 0].float().cpu()
                    found[clip][list(unit)] = rate.exp() if member.recipe.loss == "poisson_log" else rate
    return found


def _score(dataset: NeuralDataset, predictions: dict[int, Tensor], clips: Sequence[int]) -> np.ndarray:
    """Normalised correlation (N,) over these clips."""
    scores = np.full(dataset.n_neurons, np.nan)
    fitted = torch.isfinite(predictions[clips[0]][:, 0])
    for clip in clips:
        fitted &= torch.isfinite(predictions[clip]).all(1)
    if fitted.any():
        found = metrics.normalized_corrcoef(
            [predictions[clip][fitted] for clip in clips], [dataset.responses[clip][fitted] for clip in clips]
        )
        scores[fitted.numpy()] = np.asarray(found)
    return scores
