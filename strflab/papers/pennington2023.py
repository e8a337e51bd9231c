"""The analysis of chapter 4: convolutional models of a whole population that share their first stages.

    r[n, t] = dexp_n( sum_i v[n, i] u[i, t] + c[n] ),    u = rectified channels of the sound, the same for all neurons

Pennington & David 2023, doi 10.1371/journal.pcbi.1011110. The paper's recordings, NAT4, are for `data.load("nat4")`;
this analysis fits the paper's six models to NS1 (Harper et al. 2016, doi 10.1371/journal.pcbi.1005113) instead. What
the paper gives in frames of 10 ms keeps its milliseconds, but for the filters of the 2D-CNN, which keep their eight
frames: with sixteen it learned slowly, at three times the cost. Models that share their first stages are fitted to all
units; the units of Harper's paper are scored.

Learning rates, weight decay and the number of epochs were chosen on four of the training clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from strflab import metrics, models, results, sweeps
from strflab.data import NeuralDataset, ns1
from strflab.fitting import Recipe
from strflab.papers import forms, population
from strflab.sweeps import Member
from strflab.validation import choice

VERSION = 1
N_TRAIN = 16  # clips
SHARES = (2, 4, 8)  # of them
SINGLE = "single_cnn"
QUANTILES = (0.95, 0.75, 0.5, 0.25)  # of the 1Dx2-CNN's score, at which the shown units stand
N_FIELDS = 8  # channels shown
RECIPE = replace(population.RECIPE, learning_rate=2e-2, weight_decay=0.2, epochs=40, patience=40)
LINEAR = {"learning_rate": 3e-2, "weight_decay": 0.1}


@dataclass(frozen=True)
class Family:
    """A model of the paper: what figures call it, how it is built, and at what sizes it is fitted.

    label : in tables and figures
    form : of `strflab.papers.forms`
    filters_ms : length of its temporal filters, of one stage or of each
    sizes : options of `form`, small to large; the last is the paper's own
    alone : each neuron has a model of its own
    recipe : departures from `RECIPE`
    """

    label: str
    form: Callable[..., models.Model]
    filters_ms: int | tuple[int, int]
    sizes: tuple[dict[str, Any], ...] = ({},)
    alone: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "ln": Family("LN", forms.pennington2023_ln, 250, ({"rank": 1}, {"rank": 2}, {}), alone=True, recipe=LINEAR),
    "single_cnn": Family("single-CNN", forms.pennington2023_single_cnn, 250, alone=True),
    "pop_ln": Family(
        "pop-LN", forms.pennington2023_pop_ln, 250, ({"n_channels": 30}, {"n_channels": 60}, {}), recipe=LINEAR
    ),
    "cnn1d": Family(
        "1D-CNN",
        forms.pennington2023_cnn1d,
        250,
        ({"n_channels": 25, "n_hidden": 30}, {"n_channels": 50, "n_hidden": 60}, {}),
    ),
    "cnn1dx2": Family(
        "1Dx2-CNN",
        forms.pennington2023_cnn1dx2,
        (150, 100),
        ({"n_channels": (18, 20), "n_hidden": 25}, {"n_channels": (35, 40), "n_hidden": 50}, {}),
    ),
    "cnn2d": Family("2D-CNN", forms.pennington2023_cnn2d, 40, recipe={"learning_rate": 8e-3, "weight_decay": 0.3}),
}
NAMES = tuple(FAMILIES)
CORE = "cnn1dx2"  # whose first stages are given to other neurons
COMPARED = ("ln", "pop_ln", CORE)  # by share of the training clips


def build(
    name: str, n_bands: int, n_neurons: int, dt_ms: float = ns1.DT_MS, size: int = -1, **options: Any
) -> models.Model:
    """Return a new model of a family.

    Parameters
    ----------
    name : a key of `FAMILIES`
    n_bands, n_neurons : F, N
    dt_ms : frame length, ms
    size : which of the family's sizes; the last is the paper's
    **options : of the family's form, in place of those of its size
    """
    family = FAMILIES[choice("name", name, FAMILIES)]
    lags = family.filters_ms
    frames = tuple(round(ms / dt_ms) for ms in lags) if isinstance(lags, tuple) else round(lags / dt_ms)
    return family.form(n_neurons, n_bands, frames, **(family.sizes[size] | options))


def recipe(name: str, seed: int = 0, epochs: int | None = None, n_clips: int = N_TRAIN) -> Recipe:
    """Return a family's recipe, or the same for other epochs; fewer clips are heard more often, by the root of 16 over
    their number.

    Parameters
    ----------
    name : of a model of the chapter
    seed : of weights and clip order
    n_clips : that it learns from
    epochs : in place of the family's
    """
    chosen = replace(RECIPE, **FAMILIES[choice("name", name, FAMILIES)].recipe, seed=seed)
    n_epochs = round((epochs or chosen.epochs) * np.sqrt(N_TRAIN / n_clips))
    return replace(chosen, epochs=n_epochs, patience=n_epochs)


def halves(ds: NeuralDataset) -> np.ndarray:
    """Return the half of the population, 0 or 1, in which each neuron is, (N,).

    Neurons of one penetration, whose folder in NS1 is the same up to its first "-" or ".", are in the same half. The
    largest penetrations come first, each to the half that has fewer neurons.

    Parameters
    ----------
    ds : the population
    """
    folders = [str(neuron.get("path", f"{neuron['id']}/")).rpartition("/")[0] for neuron in ds.neurons]
    sites, where, counts = np.unique(
        [re.split("[-.]", folder)[0] for folder in folders], return_inverse=True, return_counts=True
    )
    side, sizes = np.zeros(len(sites), np.int64), [0, 0]
    for site in np.argsort(-counts, kind="stable"):
        side[site] = int(sizes[1] < sizes[0])
        sizes[side[site]] += counts[site]
    return side[where]


def analyse(
    ds: NeuralDataset,
    *,
    device: str | torch.device = "cpu",
    seeds: Sequence[int] = population.SEEDS,
    epochs: int | None = None,
    shares: Sequence[int] = SHARES,
    n_jobs: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter; N is the number of neurons of `ds`, and one that is not scored is NaN.

    Parameters
    ----------
    ds : NS1 with all its units, or a simulated set of 20 clips
    device : where to fit
    seeds : of weights and clip order, and of the clips drawn where only some are used
    epochs : None: those of each family's recipe
    shares : numbers of training clips fitted besides all 16
    n_jobs : processes on a CPU; None: one a thread that torch may use
    """
    lab = _Lab(ds, device, tuple(seeds), epochs, torch.get_num_threads() if n_jobs is None else n_jobs)
    half, shares = halves(ds), tuple(shares)
    full = lab.full_size()
    jobs: dict[tuple, Job] = {
        ("size", name, size, seed): lab.job(name, seed, size=size) for name, size, seed in lab.smaller()
    }
    jobs |= {
        ("half", side, seed): lab.job(CORE, seed, np.flatnonzero(half == side)) for side in (0, 1) for seed in seeds
    }
    jobs |= {
        ("share", name, share, seed): lab.job(name, seed, clips=lab.some(share, seed))
        for name in COMPARED
        for share in shares
        for seed in seeds
    }
    more = lab.fit(jobs)
    scores = {name: [lab.score(fitted) for fitted in full[name]] for name in NAMES}
    found = {key: lab.score(fitted) for key, fitted in more.items()}
    shares = (*shares, lab.n_train)
    moved = lab.fit(
        {
            (share, side, seed): lab.transferred(
                more["half", 1 - side, seed], half == side, seed, lab.some(share, seed)
            )
            for share in shares
            for side in (0, 1)
            for seed in seeds
        }
    )
    held_out = [[lab.score_halves(moved[share, 0, seed], moved[share, 1, seed]) for seed in seeds] for share in shares]
    matched = [lab.score_halves(more["half", 0, seed], more["half", 1, seed]) for seed in seeds]
    by_share = [
        [*([found["share", name, share, seed] for seed in seeds] for share in shares[:-1]), scores[name]]
        for name in COMPARED
    ]
    sizes = {(name, size): [found["size", name, size, seed] for seed in seeds] for name, size, _ in lab.smaller()}
    sizes |= {(name, len(FAMILIES[name].sizes) - 1): scores[name] for name in NAMES}
    return {
        "frequencies": ds.frequencies,
        "in_paper": lab.scored,
        "seeds": np.array(seeds),
        "scores": np.array([scores[name] for name in NAMES]),  # (families, seeds, N)
        "r_ceiling": np.array([[lab.r_ceiling(fitted) for fitted in full[name]] for name in NAMES]),
        "seconds": np.array([[fitted[2] for fitted in full[name]] for name in NAMES]),  # (families, seeds)
        "size_family": np.array([NAMES.index(name) for name, _ in sizes]),  # (sizes,) index into the families
        "size_parameters": np.array([lab.parameters(name, size) for name, size in sizes]),  # a neuron
        "size_scores": np.array(list(sizes.values())),  # (sizes, seeds, N)
        "half": half,
        "matched": np.array(matched),  # (seeds, N)
        "held_out": np.array(held_out[-1]),
        "shares": np.array(shares),
        "share_scores": np.array([*by_share, held_out]),  # (COMPARED and held-out, shares, seeds, N)
    } | lab.shown(full, np.nanmean(scores[CORE], 0))


def verify(result: Any, ds: NeuralDataset) -> None:
    """Check that the stored test predictions of the shown units have, on the recording, their stored scores.

    Parameters
    ----------
    result : arrays by name, as `analyse` returns them
    ds : the recording

    Raises
    ------
    ValueError : a score differs, or a response
    """
    shown = result["shown"]
    here = ns1.paper_split(ds)[1].select(neurons=shown)
    if not np.allclose(np.stack(here.psth), result["shown_psth"], atol=population.TOLERANCE, equal_nan=True):
        raise ValueError("shown_psth: is not what these units of the recording did")
    for name, prediction, kept in zip(NAMES, result["shown_predictions"], result["scores"][:, 0], strict=True):
        population.check_scores(name, prediction, kept[shown], ds, shown)


Fitted = tuple[np.ndarray, list[models.Model], float]  # neurons, one model of all or one of each, seconds if known
Job = tuple[models.Model, Member]


class _Lab:
    """The recording, split, and what its many fits have in common."""

    def __init__(self, ds: NeuralDataset, device: Any, seeds: tuple[int, ...], epochs: int | None, n_jobs: int):
        self.ds, self.device, self.seeds, self.epochs, self.n_jobs = ds, device, seeds, epochs, n_jobs
        self.train, self.test = ns1.paper_split(ds)
        self.clips = [k for k in range(ds.n_clips) if k not in ns1.TEST_CLIPS]
        self.n_train = len(self.clips)
        self.scored = population.in_paper(ds)

    def neurons(self, name: str) -> np.ndarray:
        """What a model of the family is fitted to: all neurons if they share, else those that are scored."""
        return self.scored if FAMILIES[name].alone else np.arange(self.ds.n_neurons)

    def some(self, share: int, seed: int) -> list[int]:
        """Some of the training clips, drawn from `seed`; a larger share holds the smaller ones."""
        return sorted(self.clips[k] for k in np.random.default_rng(seed).permutation(self.n_train)[:share])

    def smaller(self) -> list[tuple[str, int, int]]:
        """Family, size and seed of every fit at less than full size."""
        return [(n, i, seed) for n, f in FAMILIES.items() for i in range(len(f.sizes) - 1) for seed in self.seeds]

    def parameters(self, name: str, size: int) -> float:
        """Free parameters a neuron."""
        n_neurons = len(self.neurons(name)) if name != SINGLE else 1
        model = build(name, self.ds.n_bands, n_neurons, self.ds.dt_ms, size)
        return forms.count_parameters(model) / n_neurons

    # ---- fits

    def full_size(self) -> dict[str, list[Fitted]]:
        """Each family at the paper's size, one fit a seed; all but the single-CNNs are stored."""
        shared = [name for name in reversed(NAMES) if name != SINGLE]  # the slowest first
        wanted = [
            {
                "build": partial(build, name, self.ds.n_bands, len(self.neurons(name)), self.ds.dt_ms),
                "train": self.train.select(neurons=self.neurons(name)),
                "recipe": recipe(name, seed, self.epochs),
                "test": self.test.select(neurons=self.neurons(name)),
                "name": FAMILIES[name].label,
            }
            for name in shared
            for seed in self.seeds
        ]
        done = iter(results.fit_all(wanted, n_jobs=self.n_jobs, device=self.device))
        full = {name: [_stored(next(done), self.neurons(name)) for _ in self.seeds] for name in shared}
        return full | {SINGLE: [self.single(seed) for seed in self.seeds]}

    def single(self, seed: int) -> Fitted:
        """A single-CNN for each scored neuron."""
        members = [
            Member(n, self.clips, None, recipe(SINGLE, seed, self.epochs), seed=1000 * seed + n) for n in self.scored
        ]
        one = partial(build, SINGLE, self.ds.n_bands, 1, self.ds.dt_ms)
        sweep = sweeps.fit_many(one, self.ds, members, device=self.device)
        return self.scored, sweep.all_models(), sweep.seconds

    def job(
        self, name: str, seed: int, neurons: np.ndarray | None = None, clips: list[int] | None = None, size: int = -1
    ) -> Job:
        """A fit that is not stored: a new model, and what it is fitted to; None: all that the family hears."""
        neurons = self.neurons(name) if neurons is None else neurons
        clips = self.clips if clips is None else clips
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(name, self.ds.n_bands, len(neurons), self.ds.dt_ms, size)
        return model, Member(neurons, clips, None, recipe(name, seed, self.epochs, len(clips)))

    def fit(self, jobs: dict[tuple, Job]) -> dict[tuple, Fitted]:
        """Run fits over processes."""
        starts, members = zip(*jobs.values(), strict=True)
        options = {"batched": "never", "n_jobs": self.n_jobs, "device": self.device}
        sweep = sweeps.fit_many(list(starts), self.ds, members, **options)
        return {
            key: (np.array(member.neurons), [model], 0.0)
            for key, member, model in zip(jobs, members, sweep.all_models(), strict=True)
        }

    def transferred(self, core: Fitted, others: np.ndarray, seed: int, clips: list[int]) -> Job:
        """The fit of new readouts for other neurons, a mask (N,), on the core of a fitted model, which stays as it is.

        `strflab.sweeps.transfer` does this with each neuron stopped by itself; with a fixed number of epochs nothing
        is stopped, and one model of all their readouts is the same in less time.
        """
        model, member = self.job(CORE, seed, np.flatnonzero(others), clips)
        fitted: Any = core[1][0]
        model.core.load_state_dict(fitted.core.state_dict())
        model.core.requires_grad_(False)
        return model, member

    # ---- what is kept of them

    def predict(self, fitted: Fitted) -> np.ndarray:
        """Rates (clips, N, T) on the test clips, NaN for a neuron that was not fitted."""
        neurons, found, _ = fitted
        rates = np.full((self.test.n_clips, self.ds.n_neurons, self.test.n_frames[0]), np.nan, np.float32)
        rates[:, neurons] = np.concatenate([population.predict(model, self.test) for model in found], 1)
        return rates

    def score(self, fitted: Fitted) -> np.ndarray:
        """CCnorm (N,) on the test clips."""
        return population.score(self.predict(fitted), self.test)

    def score_halves(self, first: Fitted, second: Fitted) -> np.ndarray:
        """CCnorm (N,) of two models that have half of the neurons each."""
        one, other = self.score(first), self.score(second)
        return np.where(np.isnan(one), other, one)

    def r_ceiling(self, fitted: Fitted) -> np.ndarray:
        """The paper's own score (N,), of the same frames."""
        skip = round(population.SKIPPED_MS / self.ds.dt_ms)
        rates = [p[:, skip:] for p in self.predict(fitted)]
        return np.asarray(metrics.r_ceiling(rates, [r[..., skip:].numpy() for r in self.test.responses]))

    def shown(self, full: dict[str, list[Fitted]], score: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions of a few units by every family's first fit, and the filters of the core's strongest channels."""
        ranked = self.scored[np.argsort(-np.nan_to_num(score[self.scored]))]
        shown = ranked[np.round((1 - np.array(QUANTILES)) * (len(ranked) - 1)).astype(int)]
        core: Any = full[CORE][0][1][0].core
        with torch.no_grad():
            filters = core[0].STRF_weight()[:, 0].cpu().numpy()  # (channels, F, T)
        strongest = np.argsort(-np.linalg.norm(filters, axis=(1, 2)))[:N_FIELDS]
        return {
            "shown": shown,
            "shown_psth": np.stack([y[shown].numpy() for y in self.test.psth]),  # (clips, shown, T)
            "shown_predictions": np.stack([self.predict(full[name][0])[:, shown] for name in NAMES]),
            "channels": filters[strongest],
        }


def _stored(kept: results.StoredFit, neurons: np.ndarray) -> Fitted:
    return neurons, [kept.model], kept.record["seconds"]
