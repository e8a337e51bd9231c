"""Receptive fields and time constants that are known are found again, in closed form and by gradient descent.

A network is fitted from several first weights, and the one that predicts the validation clips best is kept. Where a
field is nearly zero, the order of its taps is that of the noise, so ranks are compared where the true field has at
least 1 % of its peak; correlations are over all taps.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from strflab import data, metrics, models
from strflab.fitting import Recipe
from strflab.receptive_fields import match_units
from strflab.reverse_correlation import RidgeSTRF
from strflab.sweeps import Member, fit_many

TEST, VALIDATION, TRAIN = range(0, 4), range(4, 8), range(8, 24)  # clips
DT_MS, N_BANDS, N_NEURONS, N_HIDDEN = 10.0, 12, 3, 3


@pytest.mark.parametrize("model", ["linear", "ln"])
def test_strfs_are_recovered_from_twenty_minutes_of_sound(model):
    ds = data.load("simulated", n_neurons=8, n_clips=20, seconds=60.0, n_repeats=10, seed=0, model=model)
    fitted = RidgeSTRF(n_lags=ds.truth.strfs.shape[-1], smoothness=(1.5, 1.0)).fit(ds)
    truth = np.asarray(ds.truth.strfs, float)
    similarity = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(fitted.strf_, truth, strict=True)]
    assert np.mean(similarity) > 0.95
    assert np.sort(similarity)[1] > 0.95  # all but the noisiest neuron


def simulated(model):
    """Eight minutes of noise, a hundred times: what is left is what a fit cannot find, not what it cannot hear."""
    return data.load(
        "simulated",
        n_neurons=N_NEURONS,
        n_clips=24,
        seconds=20.0,
        n_repeats=100,
        dt_ms=DT_MS,
        n_bands=N_BANDS,
        stimulus="noise",
        model=model,
        seed=2,
    )


def best_of(build, ds, n_starts, epochs):
    """One model a neuron: of `n_starts` fits the one that scores best on the validation clips."""
    recipe = Recipe(learning_rate=0.03, schedule="cosine", warmup=2, epochs=epochs, patience=epochs, batch_size=1)
    members = [Member(n, TRAIN, VALIDATION, recipe, seed=s) for n in range(N_NEURONS) for s in range(n_starts)]
    sweep = fit_many(build, ds, members, batched="always", progress=False)
    assert not sweep.failed
    best = sweep.scores.reshape(N_NEURONS, n_starts).argmax(1)
    return [sweep.runs[n * n_starts + s].model for n, s in enumerate(best)]


@torch.no_grad()
def ccnorm(fitted, ds):
    """CCnorm (N,) of one model a neuron on the clips that no choice was made on."""
    held_out = ds.select(clips=TEST)
    predictions = [torch.cat([model(x[None, None])[0, :, 0] for model in fitted]) for x in held_out.stimuli]
    return metrics.normalized_corrcoef(predictions, held_out.responses)


def rank_correlation(field, true):
    """Spearman's, over the taps where the true field is not nearly zero."""
    heard = np.abs(true) >= 0.01 * np.abs(true).max()
    return spearmanr(field[heard], true[heard]).statistic


def compared_units(fitted, truth):
    """A row a hidden unit of any neuron: correlation, rank correlation, whether v agrees in sign, tau and true tau."""
    rows = []
    for n, model in enumerate(fitted):
        fields, true = model.STRFs(polarity="ON").detach().numpy(), truth.hidden_strfs[n].numpy()
        weights = model.readout.weight.detach().numpy().ravel()
        match = match_units(true, fields)
        for i, j, sign in zip(match.first, match.second, match.sign, strict=True):
            agrees = np.sign(sign * weights[j]) == np.sign(float(truth.hidden_weights[n, i]))
            correlation = sign * np.corrcoef(fields[j].ravel(), true[i].ravel())[0, 1]
            tau = math.nan if truth.taus_ms is None else float(model.tau_ms(DT_MS).detach()[j])
            true_tau = math.nan if truth.taus_ms is None else float(truth.taus_ms[n, i])
            rows.append((correlation, rank_correlation(sign * fields[j], true[i]), agrees, tau, true_tau))
    return np.array(rows, float).T


def test_ln_fits_reach_the_ceiling_and_recover_the_fields():
    ds = simulated("ln")
    n_lags = ds.truth.strfs.shape[-1]
    fitted = best_of(partial(models.LinearNonlinear, N_BANDS, n_lags), ds, n_starts=2, epochs=20)
    assert ccnorm(fitted, ds).min() > 0.97
    pairs = [(m.STRF_weight()[0, 0].detach().numpy(), w.numpy()) for m, w in zip(fitted, ds.truth.strfs, strict=True)]
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.95
    assert min(rank_correlation(a, b) for a, b in pairs) > 0.9


def test_nrf_fits_reach_the_ceiling_and_recover_the_hidden_fields():
    ds = simulated("nrf")
    n_lags = ds.truth.strfs.shape[-1]
    build = partial(models.NetworkReceptiveField, N_BANDS, n_lags, n_hidden=N_HIDDEN, norm=False)
    fitted = best_of(build, ds, n_starts=3, epochs=30)
    assert ccnorm(fitted, ds).min() > 0.97
    correlation, rank, agrees, _, _ = compared_units(fitted, ds.truth)
    assert correlation.min() > 0.9
    assert rank.min() > 0.9
    assert agrees.all()


def dnet(n_lags):
    """phi(z) = (1 + tanh(z/2))/2, so a DNet of tanh units is the same; their means do not drag the baseline along."""
    model = models.DNet(N_BANDS, n_lags, n_hidden=N_HIDDEN, norm=False, hidden_activation="tanh")
    with torch.no_grad():
        tau = torch.empty(N_HIDDEN).uniform_(math.log(2), math.log(30)).exp()  # frames
        model.decays()[0].d.copy_((tau - 1).sqrt())
    return model


def test_dnet_fits_reach_the_ceiling_and_recover_hidden_fields_and_time_constants():
    """A slow unit (tau > 150 ms) is found from some starts and missed from others: behind a long leak the lags of its
    field are almost alike. Of this population (seed=2) eight starts find all nine units; of those of seeds 0 and 1
    they miss one slow unit each, though CCnorm and the rank correlation of the time constants pass there too."""
    ds = simulated("dnet")
    fitted = best_of(partial(dnet, ds.truth.strfs.shape[-1]), ds, n_starts=8, epochs=60)
    assert ccnorm(fitted, ds).min() > 0.97
    correlation, rank, agrees, tau, true_tau = compared_units(fitted, ds.truth)
    assert correlation.mean() > 0.9
    assert rank.mean() > 0.9
    assert agrees.mean() > 0.85  # the sign of a unit that was missed is chance
    assert spearmanr(tau, true_tau).statistic > 0.9
    assert np.median(np.abs(np.log(tau / true_tau))) < 0.1
