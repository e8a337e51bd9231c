"""The analysis of chapter 2: the network receptive field, one network a neuron, against the linear-nonlinear model.

    y[t] = g( sum_j v_j h(z_j[t]) + c ),    z_j = w_j * s + b_j,    h(z) = 1.7159 tanh(2z/3), g logistic

Harper, Schoppe, Willmore, Cui, Schnupp & King 2016, doi 10.1371/journal.pcbi.1005113. As h is odd, a hidden unit stays
what it is when w, b and v change sign: signed by v, the drive d_j = sign(v_j) z_j of every sub-field raises the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from strflab import models, sweeps
from strflab import reverse_correlation as rc
from strflab.data import NeuralDataset, ns1
from strflab.fitting import Penalty, Recipe
from strflab.papers import ns1_baseline, population
from strflab.papers.forms import harper2016_nrf
from strflab.receptive_fields import effective_units, ie_scores
from strflab.sweeps import CrossValidation, Member, Sweep

VERSION = 1
HISTORY_MS = 100  # of the network
LN_HISTORIES_MS = (100, 200)
HIDDEN = 20  # units of a network
STRENGTHS = (1e-3, 2e-3, 4e-3, 8e-3)  # of L1, to choose from
FOLDS = 4  # by clip, among the training clips
SEEDS = (0, 1, 2)  # of the first weights
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)  # of two sub-fields' drives, where the networks' rates are kept
LONGER = {"learning_rate": 2e-2, "batch_size": 1, "epochs": 60, "patience": 60}  # until L1 has pruned what it can
GRID = 41  # points a side of a surface that is drawn
RECIPE = Recipe(
    loss="nmse",
    learning_rate=1e-2,
    schedule="cosine",
    ema=0.9,
    gradient_clip=1.0,
    batch_size=2,
    epochs=30,
    patience=30,
    monitor="corrcoef",
)


def analyse(
    ds: NeuralDataset,
    *,
    device: str | torch.device = "cpu",
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seeds: Sequence[int] = SEEDS,
    epochs: int = RECIPE.epochs,
    longer: Mapping[str, Any] = LONGER,
    n_hidden: int = HIDDEN,
    n_shown: int = 6,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter.

    Parameters
    ----------
    ds : NS1, or a set with its 20 clips; a network is fitted to each of its N neurons
    device : where to fit the networks
    strengths : of the L1 penalty, of which each neuron takes the one that does best on held-out training clips
    folds : number of inner folds, by clip
    seeds : of the first weights, S of them; the fields and surfaces are those of the first
    epochs : at most; each neuron takes as many as did best on held-out training clips
    longer : how the recipe of a further fit differs, which goes on until the penalty has pruned the network
    n_hidden : hidden units of a network
    n_shown : neurons whose fields, surfaces and predictions are kept, those that the network predicts best
    progress : show a bar

    Raises
    ------
    ValueError : `ds` does not have the 20 clips, or a size is out of range
    RuntimeError : a network could not be fitted
    """
    train, test = ns1.paper_split(ds)
    linear = [ns1_baseline.fit(train, history) for history in LN_HISTORIES_MS]
    ln = [np.stack(fitted.predict(test)).transpose(1, 0, 2) for fitted in linear]  # (N, clips, T) each
    out: dict[str, np.ndarray] = {
        "ln_histories_ms": np.array(LN_HISTORIES_MS, float),
        "ln": np.stack([_score(p, test) for p in ln]),  # (histories, N)
        "ccmax": test.ccmax,
        "frequencies": ds.frequencies,
        "dt_ms": np.array(ds.dt_ms),
        "strengths": np.array(strengths, float),
        "seeds": np.array(seeds),
    }
    recipe = replace(RECIPE, epochs=epochs, patience=epochs)
    options = {"device": device, "progress": progress}
    found, networks = fit(ds, recipe, strengths, folds, seeds, n_hidden, **options)
    members = [replace(m, recipe=replace(m.recipe, **longer)) for m in found.outer.members]
    pruned = _fit_members(members, ds, n_hidden, **options)
    each = _predictions(networks, test)  # (S, N, clips, T)
    nrf = each.mean(0)
    out |= {
        "nrf": np.stack([_score(p, test) for p in each]),  # (S, N)
        "nrf_average": _score(nrf, test),  # (N,) of the mean prediction of the S networks
        "nrf_chosen": found.chosen[0],  # (N,) which strength
        "nrf_inner": found.inner_scores[0],  # (strengths, N) correlation on held-out training clips
        "nrf_epochs": np.array([member.recipe.epochs for member in found.outer.members]),
        "pruned": _score(_predictions([pruned], test)[0], test),
        "pruned_effective": _units([pruned])["effective"][0],
    }
    shown = np.argsort(-np.nan_to_num(out["nrf_average"], nan=-np.inf))[:n_shown]
    psth = np.stack([p.numpy() for p in test.psth], 1)  # (N, clips, T)
    return (
        out
        | _units(networks)
        | _together(networks[0], train, test, np.stack([psth, nrf, ln[0]]))
        | {
            "shown": shown,
            "shown_psth": psth[shown].astype(np.float32),
            "shown_nrf": nrf[shown].astype(np.float32),
            "shown_ln": ln[0][shown].astype(np.float32),
            "shown_strfs": linear[0].linear.strf_[shown].astype(np.float32),
        }
        | _shown_networks([networks[0][n] for n in shown], train)
    )


def verify(result: Mapping[str, Any], ds: NeuralDataset) -> None:
    """Score the stored predictions of the shown neurons again.

    Parameters
    ----------
    result : what `analyse` returned
    ds : the recording that it was given

    Raises
    ------
    ValueError : they do not give the stored scores
    """
    shown = result["shown"]
    for name, stored in (("nrf", result["nrf_average"]), ("ln", result["ln"][0])):
        population.check_scores(name, result[f"shown_{name}"].transpose(1, 0, 2), stored[shown], ds, shown)


def fit(
    ds: NeuralDataset,
    recipe: Recipe = RECIPE,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seeds: Sequence[int] = SEEDS,
    n_hidden: int = HIDDEN,
    **options: Any,
) -> tuple[CrossValidation, list[list[models.NetworkReceptiveField]]]:
    """Choose the L1 penalty and the epochs of each neuron's network on training clips, then fit it from every seed.

    Parameters
    ----------
    ds : NS1, or a set with its 20 clips
    recipe : what all fits have in common
    strengths, folds, seeds, n_hidden : see `analyse`
    **options : of `strflab.sweeps.fit_many`

    Returns
    -------
    found, networks : the search; the networks, S lists of N
    """
    recipes = sweeps.vary(replace(recipe, seed=seeds[0]), penalties=[(Penalty("l1", s),) for s in strengths])
    build = _builder(ds, n_hidden)
    found = sweeps.cross_validate(build, ds, recipes, cv=[ns1.TEST_CLIPS], inner=folds, neurons="each", **options)
    networks = [_fitted(found.outer)]
    for seed in seeds[1:]:  # of the weights; the order of the clips stays
        networks.append(_fit_members([replace(m, seed=seed) for m in found.outer.members], ds, n_hidden, **options))
    return found, networks


def _fit_members(
    members: Sequence[Member], ds: NeuralDataset, n_hidden: int, **options: Any
) -> list[models.NetworkReceptiveField]:
    return _fitted(sweeps.fit_many(_builder(ds, n_hidden), ds, members, **options))


def _builder(ds: NeuralDataset, n_hidden: int) -> Callable[[], models.NetworkReceptiveField]:
    return partial(harper2016_nrf, ds.n_bands, rc.lags_from_ms(HISTORY_MS, ds.dt_ms), n_hidden=n_hidden)


def _fitted(sweep: Sweep) -> list[models.NetworkReceptiveField]:
    return [net.cpu() for net in sweep.all_models()]


# ---- sub-fields


def signed_fields(model: models.NetworkReceptiveField) -> tuple[np.ndarray, np.ndarray]:
    """Return the sub-fields sign(v_j) w_j, (H, F, T), and the weights |v_j|, (H,), with which the neuron hears them.

    Parameters
    ----------
    model : the paper's network of one neuron
    """
    v = model.readout.weight.detach()[0].double()
    fields = model.STRFs()[:, 0].detach().double()
    return (torch.sign(v)[:, None, None] * fields).numpy(), v.abs().numpy()


@torch.no_grad()
def drives(model: models.NetworkReceptiveField, ds: NeuralDataset) -> np.ndarray:
    """Return the signed drives d_j (H, frames) of the sub-fields by all clips, where their whole history was heard.

    Parameters
    ----------
    model : the paper's network of one neuron
    ds : clips to hear
    """
    sign = torch.sign(model.readout.weight[0])[:, None]
    bank = model.core[0]  # type: ignore[index]
    heard = [bank(x[None, None])[0].flatten(1)[:, _skipped(model) :] for x in ds.stimuli]  # (H, frames) each
    return (sign * torch.cat(heard, 1)).numpy()


def strongest_pair(model: models.NetworkReceptiveField, drive: np.ndarray) -> np.ndarray:
    """Return the two sub-fields that move the network most: those of the largest |v_j| sd(h(d_j)), (2,) indices.

    Parameters
    ----------
    model : the paper's network of one neuron
    drive : (H, frames), what `drives` gives
    """
    moved = signed_fields(model)[1] * hidden(drive).std(1)
    return np.argsort(-moved, kind="stable")[:2]


def surfaces(
    model: models.NetworkReceptiveField, drive: np.ndarray, pair: ArrayLike, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rate over the drives of two sub-fields, the others at their mean: of the network, and of an LN model.

    The LN model has the same sub-fields, but each acts through the straight line that comes closest to h over the
    drives that the sound evokes: g of a weighted sum of drives.

    Parameters
    ----------
    model : one neuron's network
    drive : (H, frames) of `drives`
    pair : (2,) which sub-fields
    points : (2, P) drives at which to ask

    Returns
    -------
    network, linear : (P, P) each, spikes per bin; the first axis is that of the first sub-field
    """
    pair = np.asarray(pair)
    weight = signed_fields(model)[1]
    u = hidden(drive)
    rest = float(model.state_dict()["readout.fc.bias"]) + weight @ u.mean(1) - weight[pair] @ u[pair].mean(1)
    lines = [np.polyfit(drive[j], u[j], 1) if drive[j].std() > 0 else np.zeros(2) for j in pair]
    own = hidden(points), np.stack([np.polyval(line, p) for line, p in zip(lines, points, strict=True)])
    found = []
    for first, second in own:
        total = rest + weight[pair[0]] * first[:, None] + weight[pair[1]] * second[None, :]
        found.append(1 / (1 + np.exp(-total)))
    return found[0], found[1]


def interaction(rates: ArrayLike) -> np.ndarray:
    """Return how far two drives act together: (y11 - y10 - y01 + y00) / (y11 - y00), from the corners of a surface.

    0: the rates add; 1: AND, neither drive alone does anything; -1: OR, either alone does all that both do.

    Parameters
    ----------
    rates : (..., P, P) over increasing drives

    Returns
    -------
    ndarray (...); NaN where both drives together do not raise the rate

    Examples
    --------
    >>> float(interaction([[0.0, 0.0], [0.0, 1.0]]))
    1.0
    """
    y = np.asarray(rates, float)
    if y.ndim < 2 or min(y.shape[-2:]) < 2:
        raise ValueError(f"rates of shape {y.shape}: must be (..., P, P), with at least two drives")
    low, first, second, both = y[..., 0, 0], y[..., -1, 0], y[..., 0, -1], y[..., -1, -1]
    rise = both - low
    return (both - first - second + low) / np.where(rise > 0, rise, np.nan)


def substitution(rates: ArrayLike) -> np.ndarray:
    """Return how far one drive at its 99th percentile, the other at its 5th, makes up for both at their 75th.

    The mean over the two drives of (z[99, 5] - z[5, 5]) / (z[75, 75] - z[5, 5]), z the input of g that gives a rate: g
    does not count here. Below 1 it takes both.

    Parameters
    ----------
    rates : (..., P, P) over `PERCENTILES`, between 0 and 1

    Returns
    -------
    ndarray (...); NaN where both drives together do not raise the rate

    Examples
    --------
    >>> z = 0.1 * np.add.outer(PERCENTILES, PERCENTILES)  # a sum
    >>> round(float(substitution(1 / (1 + np.exp(-z)))), 3)  # (99 - 5) / (75 - 5 + 75 - 5)
    0.671
    """
    y = np.asarray(rates, float)
    if y.shape[-2:] != (len(PERCENTILES), len(PERCENTILES)):
        raise ValueError(f"rates of shape {y.shape}: must be (..., {len(PERCENTILES)}, {len(PERCENTILES)})")
    low, both, most = (PERCENTILES.index(p) for p in (5, 75, 99))
    z = np.log(y) - np.log1p(-y)
    rest = z[..., low, low]
    alone = (z[..., most, low] + z[..., low, most]) / 2 - rest
    rise = z[..., both, both] - rest
    return alone / np.where(rise > 0, rise, np.nan)


def hidden(z: np.ndarray) -> np.ndarray:
    """The paper's hidden nonlinearity, h(z) = 1.7159 tanh(2z/3).

    Parameters
    ----------
    z : of any shape
    """
    return 1.7159 * np.tanh(2 / 3 * np.asarray(z, float))


def _skipped(model: models.Model) -> int:
    """Frames of a clip before the first that has its whole history."""
    return int(model.memory) - 1


# ---- the parts of `analyse`


def _score(prediction: np.ndarray, test: NeuralDataset) -> np.ndarray:
    """CCnorm (N,) of rates (N, clips, T)."""
    return population.score(prediction.transpose(1, 0, 2), test)


def _predictions(networks: list[list[models.NetworkReceptiveField]], test: NeuralDataset) -> np.ndarray:
    """Rates (S, N, clips, T) of networks of one neuron each."""
    return np.stack([[population.predict(net, test)[:, 0] for net in same] for same in networks])


def _units(networks: list[list[models.NetworkReceptiveField]]) -> dict[str, np.ndarray]:
    """Effective units of every network (S, N), and the IE scores of its units (S, N, H), NaN of one that is not."""
    counts, scores = [], []
    for net in (net for same in networks for net in same):
        kept = effective_units(net)
        score = np.full(net.n_hidden, np.nan)
        score[kept] = ie_scores(net.STRFs()[:, 0].detach(), net.readout.weight.detach()[0])[kept]
        counts.append(len(kept))
        scores.append(score)
    shape = len(networks), len(networks[0])
    return {"effective": np.reshape(counts, shape), "ie_scores": np.reshape(scores, (*shape, -1))}


def _together(
    networks: list[models.NetworkReceptiveField], train: NeuralDataset, test: NeuralDataset, rates: np.ndarray
) -> dict[str, np.ndarray]:
    """How the two strongest sub-fields act together, by the networks' surfaces and by the frames of the test clips.

    `surface_rates` (2, N, P, P): of the network and of the LN model with its sub-fields, at `PERCENTILES` of the drives
    `cell_rates` (3, N, 2, 2): mean rate recorded, by the network and by LN, in test frames in which the first drive
    lies below or above its median and the second below or above its own
    """
    corners = np.full((2, len(networks), len(PERCENTILES), len(PERCENTILES)), np.nan)
    cells = np.full((len(rates), len(networks), 2, 2), np.nan)
    for n, net in enumerate(networks):
        drive = drives(net, train)
        pair = strongest_pair(net, drive)
        corners[:, n] = surfaces(net, drive, pair, np.percentile(drive[pair], PERCENTILES, axis=1).T)
        heard = drives(net, test)[pair]
        high = heard > np.median(heard, axis=1, keepdims=True)
        y = rates[:, n, :, _skipped(net) :].reshape(len(rates), -1)
        for i, j in np.ndindex(2, 2):
            here = (high[0] == i) & (high[1] == j)
            if here.any():
                cells[:, n, i, j] = y[:, here].mean(1)
    return {"surface_rates": corners, "cell_rates": cells}


def _shown_networks(networks: list[models.NetworkReceptiveField], train: NeuralDataset) -> dict[str, np.ndarray]:
    """Sub-fields, surfaces over a grid of drives, and how often the sound visits each place of it."""
    fields, weights, pairs, grids, found, visits = [], [], [], [], [], []
    for net in networks:
        drive = drives(net, train)
        pair = strongest_pair(net, drive)
        low, high = np.percentile(drive[pair], [0.5, 99.5], axis=1)
        grid = np.linspace(low, high, GRID).T  # (2, GRID)
        step = (grid[:, 1:2] - grid[:, :1]) / 2
        edges = np.concatenate([grid - step, grid[:, -1:] + step], 1)
        fields.append(signed_fields(net)[0])
        weights.append(signed_fields(net)[1])
        pairs.append(pair)
        grids.append(grid)
        found.append(surfaces(net, drive, pair, grid))
        visits.append(np.histogram2d(drive[pair[0]], drive[pair[1]], bins=[edges[0], edges[1]])[0])
    return {
        "shown_fields": np.array(fields, np.float32),  # (k, H, F, T), signed
        "shown_weights": np.array(weights),  # (k, H), not negative
        "shown_pair": np.array(pairs),  # (k, 2)
        "shown_drives": np.array(grids),  # (k, 2, GRID)
        "shown_surfaces": np.array(found, np.float32),  # (k, 2, GRID, GRID): network, LN
        "shown_visits": np.array(visits, np.float32),  # (k, GRID, GRID) frames
    }
