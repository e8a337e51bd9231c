"""Chapter 6: every model on every recording that is here, same clips, same frames, same score.

NS1 (Harper et al. 2016, doi 10.1371/journal.pcbi.1005113): the population models of `strflab.papers.population` and
the closed-form linear-nonlinear model, scored by CCnorm (Schoppe et al. 2016, doi 10.3389/fncom.2016.00010) on the four
test clips. The STRFlab demo recording: one neuron, so one network each, by 5-fold cross-validation over songs. Averages
of fits, over seeds and over architectures, show how much of the remaining error is the fit's own chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from strflab import metrics, results
from strflab.data import NeuralDataset, ns1
from strflab.papers import ns1_baseline, population
from strflab.results import Result
from strflab.sweeps import folds

VERSION = 2
MODELS = tuple(population.SPECS)
LABELS = tuple(spec.label for spec in population.SPECS.values())
ENSEMBLE_OF = "gru_wide"  # whose seeds are averaged
MIXED = ("gru_wide", "gru", "transformer", "s4", "cnn2d")  # the five best on held-out training clips
ENSEMBLE_SEEDS = tuple(range(10))
SONG_MODELS = ("ln", "nrf", "cnn2d", "transformer", "gru")
SONG_FOLDS = 5
SONG_HISTORY_MS = 100.0  # of the closed-form model, and what is left out of each song's start
SONG_STOPS = 3  # songs of each training set that say when to stop
SONG_RECIPE = {"epochs": 30, "patience": 10}
SHOWN = 4  # units whose predictions are kept


def analyse(
    ds: NeuralDataset,
    songs: NeuralDataset | None = None,
    *,
    device: str | torch.device = "cpu",
    n_jobs: int | None = None,
    seeds: Sequence[int] = population.SEEDS,
    ensemble_seeds: Sequence[int] = ENSEMBLE_SEEDS,
    names: Sequence[str] = MODELS,
    song_names: Sequence[str] = SONG_MODELS,
    settings: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter.

    Parameters
    ----------
    ds : NS1 with all its units, or a set of 20 equal clips
    songs : the STRFlab demo recording; None: left out
    device, n_jobs : see `strflab.results.fit_all`
    seeds : of each model
    ensemble_seeds : of the model whose fits are averaged
    names, song_names : models for each recording; `ENSEMBLE_OF` must be among the first
    settings : of the recipe, for all fits

    Raises
    ------
    ValueError : `ds` is a recording and `songs` is not
    """
    if songs is not None and (songs.name == "simulated") != (ds.name == "simulated"):
        raise ValueError(f"songs={songs.name!r}: must be the STRFlab demo recording where ds is {ds.name!r}")
    fits = population.fit(names, ds, seeds=seeds, device=device, n_jobs=n_jobs, settings=settings)
    more = population.fit([ENSEMBLE_OF], ds, seeds=ensemble_seeds, device=device, n_jobs=n_jobs, settings=settings)
    train, test = ns1.paper_split(ds)
    units = population.in_paper(ds)
    test = test.select(neurons=units.tolist())
    rates = {name: population.predict_fits(kept, test, units) for name, kept in fits.items()}
    average = {name: p.mean(0) for name, p in rates.items()}
    many = population.predict_fits(more[ENSEMBLE_OF], test, units)
    so_far = many.cumsum(0) / np.arange(1, len(many) + 1)[:, None, None, None]
    mixed = np.mean([average[name] for name in MIXED if name in average], 0)
    closed = np.stack(ns1_baseline.fit(train.select(neurons=units.tolist()), 200.0).predict(test))
    best = np.argsort(-np.nan_to_num(population.score(average[ENSEMBLE_OF], test)))[:SHOWN]
    return {
        "scores": np.stack([[population.score(p, test) for p in rates[name]] for name in names]),  # (M, S, N)
        "scores_every_frame": np.stack([[population.score(p, test, 0.0) for p in rates[name]] for name in names]),
        "scores_average": np.stack([population.score(average[name], test) for name in names]),  # (M, N) over seeds
        "closed_form": population.score(closed, test),
        "many": np.stack([population.score(p, test) for p in many]),
        "ensemble": np.stack([population.score(p, test) for p in so_far]),  # (K, N): of the first 1 .. K
        "ensemble_every_frame": population.score(so_far[-1], test, 0.0),
        "mixed": population.score(mixed, test),
        "mixed_every_frame": population.score(mixed, test, 0.0),
        "parameters": np.array([fits[name][0].record["parameters"] for name in names]),
        "seconds": np.array([[kept.record["seconds"] for kept in fits[name]] for name in names]),
        "megabytes": np.array([memory(fits[name][0].model, train.stimuli[0]) for name in names]),
        "ccmax": test.ccmax,
        "signal_to_noise": test.signal_power / test.noise_power,
        "shown": best,
        "shown_psth": np.stack([psth[best].numpy() for psth in test.psth]),  # (clips, SHOWN, T)
        "shown_rates": np.stack([so_far[-1][:, best], average["ln"][:, best] if "ln" in average else closed[:, best]]),
        "shown_scores": population.score(so_far[-1], test)[best],
        "seeds": np.array(seeds),
    } | ({} if songs is None else _on_songs(songs, song_names, seeds, device, n_jobs, settings))


def verify(result: Result, ds: NeuralDataset) -> None:
    """Raise ValueError unless the stored rates of the shown units give their stored scores on the recording.

    Parameters
    ----------
    result : of `analyse`, stored
    ds : the recording
    """
    units = population.in_paper(ds)[result["shown"]]
    population.check_scores(ENSEMBLE_OF, result["shown_rates"][0], result["shown_scores"], ds, units)


def memory(model: torch.nn.Module, stimulus: torch.Tensor) -> float:
    """Return how much a training step keeps for its gradient, MB, for one clip (F, T): the same on every machine.

    Parameters
    ----------
    model : of the population
    stimulus : (F, T)
    """
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    alive = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        like = next(model.parameters())
        alive.append(model.train()(stimulus[None, None].to(like)))  # alive, or storages would be used again
    model.eval()
    return sum(kept.values()) / 1e6


# ---- one neuron, songs of different lengths


def _on_songs(
    songs: NeuralDataset,
    names: Sequence[str],
    seeds: Sequence[int],
    device: str | torch.device,
    n_jobs: int | None,
    settings: dict[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Held-out scores of each model and seed, the closed form's, and those of bootstrap resamples of the songs."""
    songs = _standardized(songs)
    splits = folds(songs, SONG_FOLDS)
    wanted = []
    for name in names:
        for seed in seeds:
            for train, test in splits:
                stops = train[:: len(train) // SONG_STOPS][:SONG_STOPS]
                wanted.append(
                    {
                        "build": partial(population.build, name, songs.n_bands, songs.n_neurons),
                        "train": songs.select(clips=[k for k in train if k not in stops]),
                        "validation": songs.select(clips=list(stops)),
                        "recipe": population.recipe(name, seed, **{**SONG_RECIPE, **(settings or {})}),
                        "test": songs.select(clips=list(test)),
                        "keep": False,
                    }
                )
    done = iter(results.fit_all(wanted, n_jobs=n_jobs, device=device))
    rates = {
        name: [_held_out(songs, [(next(done).model, test) for _, test in splits]) for _ in seeds] for name in names
    }
    closed = _closed_form(songs, splits)
    scores = np.array([[_song_score(p, songs) for p in rates[name]] for name in names])
    averages = [[np.mean(p, 0) for p in zip(*rates[name])] for name in names]
    rng = np.random.default_rng(0)
    draws = [rng.integers(songs.n_clips, size=songs.n_clips).tolist() for _ in range(200)]
    resampled = [[_song_score(p, songs, draw) for draw in draws] for p in [*averages, closed]]
    return {
        "song_scores": scores,  # (M, S)
        "song_average": np.array([_song_score(p, songs) for p in averages]),
        "song_closed_form": np.array(_song_score(closed, songs)),
        "song_resampled": np.array(resampled),  # (M + 1, draws), the closed form last
        "song_ccmax": songs.ccmax,
    }


def _standardized(songs: NeuralDataset) -> NeuralDataset:
    """The songs on the scale of NS1's cochleagrams, for which the recipes were chosen."""
    return songs.with_stimuli(population.standardized(songs.stimuli))


@torch.no_grad()
def _held_out(songs: NeuralDataset, fitted: list[tuple[torch.nn.Module, tuple[int, ...]]]) -> list[np.ndarray]:
    """Rates (1, T_k) of each song, by the model that did not learn from it."""
    found: dict[int, np.ndarray] = {}
    for model, test in fitted:
        like = next(model.parameters())
        for k in test:
            found[k] = model(songs.stimuli[k][None, None].to(like))[0, :, 0].float().cpu().numpy()
    return [found[k] for k in range(songs.n_clips)]


def _closed_form(songs: NeuralDataset, splits: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for train, test in splits:
        fitted = ns1_baseline.fit(songs.select(clips=list(train)), SONG_HISTORY_MS)
        held_out = fitted.predict(songs.select(clips=list(test)))
        found |= dict(zip(test, held_out))
    return [found[k] for k in range(songs.n_clips)]


def _song_score(rates: Sequence[np.ndarray], songs: NeuralDataset, draw: Sequence[int] | None = None) -> float:
    """CCnorm over songs, all or those drawn, without what the closed form cannot have heard."""
    skip = round(SONG_HISTORY_MS / songs.dt_ms)
    which = range(songs.n_clips) if draw is None else draw
    return float(
        metrics.normalized_corrcoef(
            [rates[k][:, skip:] for k in which], [songs.responses[k][..., skip:].numpy() for k in which]
        )[0]
    )
