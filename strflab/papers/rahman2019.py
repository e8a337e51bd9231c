"""The analysis of chapter 3: the dynamic network, one network a neuron, against models that see further back.

    u_j[t] = (1 - a_j) u_j[t-1] + a_j s(w_j * x + b_j),    y[t] = (1 - a) y[t-1] + a s( sum_j v_j u_j[t] + c ),
    tau_j = dt (1/a_j + 1/a)

Rahman, Willmore, King & Harper 2019, doi 10.1371/journal.pcbi.1006618. The filters w_j see a span of sound, 25 ms say;
what came before it is in the leaky sums. LN and the network receptive field (Harper et al. 2016, doi
10.1371/journal.pcbi.1005113) are fitted with the same spans, and see nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from strflab import models, sweeps
from strflab import reverse_correlation as rc
from strflab.data import NeuralDataset, ns1
from strflab.fitting import Penalty, Recipe
from strflab.papers import forms, ns1_baseline, population
from strflab.receptive_fields import effective_units, ie_scores
from strflab.sweeps import Member

VERSION = 1
SPANS_MS = (25, 50, 100, 200)  # of the networks' filters; the first is the one whose networks are looked into
LN_SPANS_MS = (*SPANS_MS, 400)
REFERENCE_MS = 200  # of the LN model that the paper compares with
NRF_CHOSEN_MS = 100  # span at which the penalty of the network receptive fields is chosen; that of DNet at its first
STRENGTHS = (2e-4, 6e-4)  # of L1, to choose from, for DNet
NRF_STRENGTHS = (5e-4, 2e-3)
FOLDS = 4  # by clip, among the training clips, of which the first decides
SEEDS = (0, 1, 2)  # of the first weights
OUTPUT_TAU = 1.5  # frames, where the output's leak starts: drawn like the others, it now and then hid all that is fast
# the time constants have far to go, which takes large steps
RECIPE = Recipe(
    loss="nmse",
    learning_rate=6e-2,
    schedule="cosine",
    gradient_clip=1.0,
    batch_size=1,
    epochs=36,
    patience=36,
    monitor="corrcoef",
)
NRF_RECIPE = replace(RECIPE, learning_rate=3e-3, epochs=12, patience=12)
FORMS: dict[str, dict[str, Any]] = {
    "both": {},
    "one": {"output_decay": False},
    "before": {"leak": "before"},
}


def analyse(
    ds: NeuralDataset,
    *,
    device: str | torch.device = "cpu",
    spans_ms: Sequence[float] = SPANS_MS,
    ln_spans_ms: Sequence[float] = LN_SPANS_MS,
    strengths: Sequence[float] = STRENGTHS,
    nrf_strengths: Sequence[float] = NRF_STRENGTHS,
    seeds: Sequence[int] = SEEDS,
    epochs: int = RECIPE.epochs,
    nrf_epochs: int = NRF_RECIPE.epochs,
    n_shown: int = 3,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter.

    Parameters
    ----------
    ds : NS1, or a set with its 20 clips; every model is fitted to each of its N neurons
    device : where to fit the networks
    spans_ms : lengths of the networks' filters, shortest first
    ln_spans_ms : lengths of the LN models' filters, `REFERENCE_MS` among them
    strengths, nrf_strengths : of the L1 penalty of DNet and of the network receptive field, of which each neuron takes
        the one that does best on held-out training clips, at one span; the other spans take the same
    seeds : of the first weights of DNet at the shortest span; the other networks have the first
    epochs, nrf_epochs : of each fit of DNet and of the network receptive field
    n_shown : neurons whose fields and predictions are kept, those that DNet predicts best at the shortest span
    progress : show a bar

    Raises
    ------
    ValueError : `ds` does not have the 20 clips, or a size is out of range
    RuntimeError : a network could not be fitted
    """
    train, test = ns1.paper_split(ds)
    options: dict[str, Any] = {"device": device, "progress": progress}
    recipe = replace(RECIPE, epochs=epochs, patience=epochs, seed=seeds[0])
    nrf_recipe = replace(NRF_RECIPE, epochs=nrf_epochs, patience=nrf_epochs, seed=seeds[0])
    clock = _Clock()

    linear = {span: ns1_baseline.fit(train, span) for span in ln_spans_ms}
    ln = {span: np.stack(fitted.predict(test)) for span, fitted in linear.items()}  # (clips, N, T)
    clock.lap("ln")
    nrf_chosen, nrf_held_out = choose(nrf_builder(ds, NRF_CHOSEN_MS), train, nrf_recipe, nrf_strengths, **options)
    nrf = [predict(fit(nrf_builder(ds, s), train, nrf_recipe, nrf_chosen, **options), test) for s in spans_ms]
    clock.lap("nrf")
    chosen, held_out = choose(dnet_builder(ds, spans_ms[0]), train, recipe, strengths, **options)
    networks = {
        name: fit(dnet_builder(ds, spans_ms[0], **form), train, recipe, chosen, **options)
        for name, form in FORMS.items()
    }
    again = [fit(dnet_builder(ds, spans_ms[0]), train, recipe, chosen, seed=s, **options) for s in seeds[1:]]
    by_seed = [predict(nets, test) for nets in (networks["both"], *again)]
    clock.lap("dnet")
    dnet = [by_seed[0]]
    for span in spans_ms[1:]:
        dnet.append(predict(fit(dnet_builder(ds, span), train, recipe, chosen, **options), test))
    clock.lap("dnet_longer")

    scores = {
        "ln": np.stack([population.score(ln[span], test) for span in ln_spans_ms]),  # (LN spans, N)
        "nrf": np.stack([population.score(p, test) for p in nrf]),  # (spans, N)
        "dnet": np.stack([population.score(p, test) for p in dnet]),  # (spans, N)
        "dnet_seeds": np.stack([population.score(p, test) for p in by_seed]),  # (S, N), at the shortest span
        "dnet_average": population.score(np.mean(by_seed, 0), test),  # (N,), of the seeds' mean prediction
    }
    for name in ("one", "before"):
        scores[f"dnet_{name}"] = population.score(predict(networks[name], test), test)  # (N,)
    shown = np.argsort(-np.nan_to_num(scores["dnet"][0], nan=-np.inf))[:n_shown]
    field = linear[REFERENCE_MS].linear.strf_  # (N, F, T)
    psth = np.stack([p.numpy() for p in test.psth])  # (clips, N, T)
    return (
        scores
        | {
            "spans_ms": np.array(spans_ms, float),
            "ln_spans_ms": np.array(ln_spans_ms, float),
            "strengths": np.array(strengths, float),
            "nrf_strengths": np.array(nrf_strengths, float),
            "chosen": chosen,  # (N,) strengths
            "nrf_chosen": nrf_chosen,
            "held_out": held_out,  # (strengths, N)
            "nrf_held_out": nrf_held_out,
            "seeds": np.array(seeds),
            "epochs": np.array([epochs, nrf_epochs]),
            "ccmax": test.ccmax,
            "frequencies": ds.frequencies,
            "dt_ms": np.array(ds.dt_ms),
            "stages": np.array(list(clock.seconds.values())),  # of LN, NRF, DNet at the shortest span, at the others
        }
        | _parameters(ds, spans_ms, ln_spans_ms)
        | _units(networks["both"], ds.dt_ms, field)
        | {
            "shown": shown,
            "shown_fields": np.stack([_fields(networks["both"][n]) for n in shown]).astype(np.float32),  # (k, H, F, T)
            "shown_strfs": field[shown].astype(np.float32),  # (k, F, T), of LN
            "shown_decayed": np.stack([decayed_field(networks["both"][n], field.shape[-1]) for n in shown]).astype(
                np.float32
            ),
            "shown_psth": psth[:, shown].astype(np.float32),  # (clips, k, T)
            "shown_dnet": dnet[0][:, shown].astype(np.float32),
            "shown_nrf": nrf[0][:, shown].astype(np.float32),
            "shown_ln": ln[REFERENCE_MS][:, shown].astype(np.float32),
        }
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
    reference = int(np.flatnonzero(result["ln_spans_ms"] == REFERENCE_MS)[0])
    for name, row in (("dnet", 0), ("nrf", 0), ("ln", reference)):
        population.check_scores(name, result[f"shown_{name}"], result[name][row][shown], ds, shown)


# ---- fits of one network a neuron


def dnet_builder(ds: NeuralDataset, span_ms: float, **form: Any) -> Callable[[], models.Model]:
    """Return what makes a new dynamic network of one neuron; `form` as for `strflab.papers.rahman2019_dnet`.

    Parameters
    ----------
    ds : the recording, for its bands and frames
    span_ms : of the filters, ms
    **form : of the leaks
    """
    n_lags = rc.lags_from_ms(span_ms, ds.dt_ms)

    def build() -> models.Model:
        model = forms.rahman2019_dnet(ds.n_bands, n_lags, **form)
        with torch.no_grad():
            for decay in model.decays()[1:]:
                decay.d.fill_((OUTPUT_TAU - 1) ** 0.5)
        return model

    return build


def nrf_builder(ds: NeuralDataset, span_ms: float) -> Callable[[], models.Model]:
    """Return what makes a new network receptive field of one neuron.

    Parameters
    ----------
    ds : the recording, for its bands and frames
    span_ms : of the filters, ms
    """
    n_lags = rc.lags_from_ms(span_ms, ds.dt_ms)
    return lambda: forms.harper2016_nrf(ds.n_bands, n_lags)


def choose(
    build: Callable[[], models.Model], train: NeuralDataset, recipe: Recipe, strengths: Sequence[float], **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the strength of each neuron's L1 penalty on one fold of the training clips.

    Parameters
    ----------
    build : returns a new model of one neuron
    train : the training clips, at least `FOLDS`
    recipe : what all fits have in common
    strengths : to choose from
    **options : of `strflab.sweeps.fit_many`

    Returns
    -------
    chosen (N,), scores (strengths, N) : the strengths; the correlation on the clips held out, NaN where a fit failed
    """
    learnt, held_out = sweeps.folds(train, FOLDS)[0]
    units = range(train.n_neurons)
    members = [Member(n, learnt, held_out, _penalized(recipe, s)) for s in strengths for n in units]
    scores = sweeps.fit_many(build, train, members, **options).scores.reshape(len(strengths), -1)
    return np.array(strengths, float)[np.where(np.isnan(scores), -np.inf, scores).argmax(0)], scores


def fit(
    build: Callable[[], models.Model],
    train: NeuralDataset,
    recipe: Recipe,
    strengths: Sequence[float] | np.ndarray,
    seed: int | None = None,
    **options: Any,
) -> list[models.Model]:
    """Fit a network to each neuron and return them, N of them.

    Parameters
    ----------
    build : returns a new model of one neuron
    train : all training clips
    recipe : what all fits have in common
    strengths : (N,) of the L1 penalty
    seed : of the first weights; None: the recipe's
    **options : of `strflab.sweeps.fit_many`

    Raises
    ------
    RuntimeError : a network could not be fitted
    """
    # a quarter of the clips learnt from tells the epochs apart, in a quarter of the time
    clips, watched = range(train.n_clips), sweeps.folds(train, FOLDS)[0][1]
    members = [Member(n, clips, watched, _penalized(recipe, float(s)), seed) for n, s in enumerate(strengths)]
    return [model.cpu() for model in sweeps.fit_many(build, train, members, **options).all_models()]


def predict(networks: Sequence[models.Model], ds: NeuralDataset) -> np.ndarray:
    """Return the rates (clips, N, T) that one network a neuron predicts.

    Parameters
    ----------
    networks : one a neuron
    ds : clips of equal length
    """
    return np.concatenate([population.predict(model, ds) for model in networks], 1)


def _penalized(recipe: Recipe, strength: float) -> Recipe:
    return replace(recipe, penalties=(Penalty("l1", float(strength)),))


# ---- what is in a network


@torch.no_grad()
def decayed_field(model: models.Model, n_lags: int) -> np.ndarray:
    """Return a dynamic network's receptive field as a linear filter would have it, (F, n_lags), last tap at lag 0.

        sum_j v_j w_j * e_j * e,    e[k] = a (1 - a)^k,    over the effective hidden units

    Nonlinearities are left out: it is meant to be looked at, and has no unit.

    Parameters
    ----------
    model : a `strflab.models.DNet` of one neuron
    n_lags : length, frames

    Examples
    --------
    >>> decayed_field(forms.rahman2019_dnet(), 40).shape
    (34, 40)
    """
    total = np.zeros((model.n_frequency_bands, n_lags))
    tau, *output = [decay.tau.double().numpy() for decay in model.decays()]  # type: ignore[operator]
    weight = model.readout.weight[0].double().numpy()  # type: ignore[index]
    for j in effective_units(model):
        kernel = _decay(tau[j], n_lags)
        for own in output:
            kernel = np.convolve(kernel, _decay(own[0], n_lags))[:n_lags]
        field = weight[j] * _fields(model)[j][:, ::-1].astype(float)  # from lag 0 on
        total += np.stack([np.convolve(band, kernel)[:n_lags] for band in field])[:, ::-1]
    return total


def _decay(tau: float, n: int) -> np.ndarray:
    return (1 / tau) * (1 - 1 / tau) ** np.arange(n)


def _fields(model: models.Model) -> np.ndarray:
    """(H, F, T) filters of the hidden units."""
    return model.STRFs()[:, 0].detach().numpy()  # type: ignore[operator]


def _units(networks: Sequence[models.Model], dt_ms: float, ln_fields: np.ndarray) -> dict[str, np.ndarray]:
    """Of every network's hidden units what they weigh, how long they remember and whether they excite; and the
    correlation of the network's decayed field with the LN model's."""
    weights, ie, tau, own, effective, alike = [], [], [], [], [], []
    for model, ln_field in zip(networks, ln_fields, strict=True):
        v = model.readout.weight.detach()[0].numpy()  # type: ignore[operator]
        weights.append(v)
        ie.append(ie_scores(_fields(model), v))
        tau.append(model.total_tau_ms(dt_ms)[0].detach().numpy())  # type: ignore[operator]
        own.append(dt_ms * float(model.decays()[-1].tau[0].detach()))  # type: ignore[operator]
        effective.append(np.isin(np.arange(len(v)), effective_units(model)))
        alike.append(_correlation(decayed_field(model, ln_field.shape[-1]), ln_field))
    return {
        "output_weights": np.stack(weights),  # (N, H)
        "ie_scores": np.stack(ie),  # (N, H)
        "tau_ms": np.stack(tau),  # (N, H), a hidden unit's and the output's together
        "output_tau_ms": np.array(own),  # (N,)
        "effective": np.stack(effective),  # (N, H)
        "decayed_correlation": np.array(alike),  # (N,)
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else np.nan


def _parameters(ds: NeuralDataset, spans_ms: Sequence[float], ln_spans_ms: Sequence[float]) -> dict[str, np.ndarray]:
    """Learnable parameters a neuron, by span."""
    count = forms.count_parameters
    ln = [count(forms.rahman2019_ln(ds.n_bands, rc.lags_from_ms(s, ds.dt_ms))) for s in ln_spans_ms]
    return {
        "ln_parameters": np.array(ln),
        "nrf_parameters": np.array([count(nrf_builder(ds, s)()) for s in spans_ms]),
        "dnet_parameters": np.array([count(dnet_builder(ds, s)()) for s in spans_ms]),
    }


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now
