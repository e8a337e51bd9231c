"""The analysis of chapter 5: StateNet with every backbone, its memory, its dreams, and AdapTrans before other models.

Rancon, Masquelier & Cottereau 2025, "Temporal recurrence as a general mechanism to explain neural responses in the
auditory system" (preprint), and 2024, doi 10.1371/journal.pcbi.1012288, for AdapTrans. `analyse` computes all that
the chapter draws and judges, as named arrays: the fits of `papers.population`, scored on the paper's units, then

    D[n, k] = d r[n, t] / d s[t - L + 1 .. t]      at a moment t of a real sound k, whose energy against lag is a memory
    CCnorm(p)                                      of predictions by a network that has heard the last p ms only
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strflab import metrics, receptive_fields, results
from strflab.data import NeuralDataset, ns1
from strflab.layers.prefilters import AdapTrans
from strflab.models import Model
from strflab.papers import population

VERSION = 1
BACKBONES = ("rnn", "lstm", "gru", "lmu", "s4", "s4d", "mamba")
MODELS = ("ln", "cnn1d", "cnn2d", "transformer", *BACKBONES)
ADAPTED = ("ln", "cnn2d", "gru")  # fitted with AdapTrans too
REMEMBERING = ("rnn", "lstm", "gru", "lmu", "s4", "mamba", "transformer")  # whose memory is measured
KEPT = ("ln", "cnn2d", "gru")  # whose predictions of the shown units are kept
FRACTIONS = (0.5, 0.95, 0.99)  # of the gradient's energy
FIELD_MS = 200  # of the fields that are drawn
PAST_MS = (25, 50, 100, 200, 400, 800, 1600, 3200)
RISES_MS = (5, 25, 50, 100, 200, 400)  # of the ramps; the first is a step
TONES_MS = (25, 50, 100, 200, 400, 800)
QUIET, LOUD = -1.0, 1.0  # levels of the probes, standard deviations about the mean level of a clip
PROBE_MS = 500, 800, 400  # before a probe's onset, the longest probe, after it
PROBE_HZ = 4000.0  # where the filter's own answers are drawn
ROWS = 16 * 999  # frames of sound in a batch


def analyse(
    ds: NeuralDataset,
    *,
    device: str | torch.device = "cpu",
    seeds: Sequence[int] = population.SEEDS,
    n_jobs: int | None = None,
    settings: dict[str, Any] | None = None,
    progress: bool = True,
    n_shown: int = 6,
    reach_ms: float = 4000,
    past_ms: Sequence[float] = PAST_MS,
    stride: int = 2,
    n_dreams: int = 3,
    dream_ms: float = 500,
    dream_steps: int = 300,
) -> dict[str, np.ndarray]:
    """Return the arrays of the chapter, N being the paper's units.

    Parameters
    ----------
    ds : NS1, all units
    device, seeds, n_jobs, settings, progress : of the fits, see `population.fit`
    n_shown : units whose fields and predictions are kept, those that StateNet-GRU predicts best
    reach_ms : longest lag of the gradients; shorter than the clips
    past_ms : how much a network has heard, increasing; the last is shorter than the clips, and from there on is scored
    stride : only every so many of the frames are scored
    n_dreams, dream_ms, dream_steps : units that dream, the dreams' length, steps of the ascent
    """
    common: dict[str, Any] = {
        "seeds": seeds,
        "device": device,
        "n_jobs": n_jobs,
        "settings": settings,
        "progress": progress,
    }
    fits = population.fit(MODELS, ds, **common)
    prefilter = {"type": "adaptrans", "dt_ms": ds.dt_ms, "frequencies": [float(f) for f in ds.frequencies]}
    adapted = population.fit(ADAPTED, ds, options={"prefiltering": prefilter}, **common)
    for kept in [kept for group in (fits, adapted) for of_model in group.values() for kept in of_model]:
        kept.model.to(device).eval()

    units = population.in_paper(ds)
    test = ns1.paper_split(ds)[1].select(neurons=units.tolist())
    rates = {name: population.predict_fits(fits[name], test, units) for name in MODELS}  # (seeds, clips, N, T)
    scores = np.stack([[population.score(p, test) for p in rates[name]] for name in MODELS])
    adapted_rates = [population.predict_fits(adapted[name], test, units) for name in ADAPTED]
    best = np.argsort(-np.nan_to_num(scores[MODELS.index("gru")].mean(0), nan=-1))
    shown = best[:n_shown]
    first = {name: fits[name][0].model for name in MODELS}
    return (
        {
            "seeds": np.array(seeds),
            "units": units,
            "shown": shown,
            "scores": scores,  # (models, seeds, N)
            "ensemble": np.stack([population.score(rates[name].mean(0), test) for name in MODELS]),
            "adaptrans_scores": np.stack([[population.score(p, test) for p in of_seeds] for of_seeds in adapted_rates]),
            "noise_ratio": metrics.noise_ratio([r.numpy() for r in ds.select(neurons=units.tolist()).responses]),
            "mean_rate": np.mean([y.mean(-1).numpy() for y in ds.psth], 0)[units] * 1000 / ds.dt_ms,
            "depth": np.array([float(ds.neurons[n].get("depth", np.nan)) for n in units]),
            "frequencies": np.asarray(ds.frequencies),
            "shown_psth": np.stack([y.numpy() for y in test.psth])[:, shown].astype(np.float32),
            "shown_predictions": np.stack([rates[name][0][:, shown] for name in KEPT]),  # (models, clips, shown, T)
        }
        | _costs(fits, adapted)
        | _fields(first["ln"], first["gru"], test, units, shown)
        | _memory(fits, rates, test, units, reach_ms)
        | _past(first, test, units, past_ms, stride)
        | _dreams(first["gru"], rates["gru"][0], units[best[:n_dreams]], best[:n_dreams], test, dream_ms, dream_steps)
        | _adaptation((first["cnn2d"], first["gru"]), [kept.model for kept in adapted["cnn2d"]], units, ds)
    )


def verify(result: Any, ds: NeuralDataset) -> None:
    """Score the kept predictions again.

    Parameters
    ----------
    result : the stored arrays of `analyse`, by name
    ds : the recording that they were computed from

    Raises
    ------
    ValueError : they do not give the stored scores
    """
    shown = result["shown"]
    for name, predictions in zip(KEPT, result["shown_predictions"]):
        stored = result["scores"][MODELS.index(name), 0, shown]
        population.check_scores(name, predictions, stored, ds, result["units"][shown])


def _costs(*groups: dict[str, list[results.StoredFit]]) -> dict[str, np.ndarray]:
    """Parameters and seconds a fit, of the models and then of those with AdapTrans."""
    fits = [kept for group in groups for kept in group.values()]
    return {
        "parameters": np.array([seeds[0].record["parameters"] for seeds in fits]),
        "seconds": np.array([[kept.record["seconds"] for kept in seeds] for seeds in fits]),
    }


# ---- fields


@torch.no_grad()
def _fields(ln: Model, gru: Model, test: NeuralDataset, units: np.ndarray, shown: np.ndarray) -> dict[str, np.ndarray]:
    """STRFs of LN and gradients of the GRU about the mean level, and the GRU's along a clip."""
    lags = round(FIELD_MS / test.dt_ms)
    strfs = ln.STRF_weight()[units, 0].cpu().numpy()
    still = gru.STRF_gradmap(n_lags=lags)[units, 0].cpu().numpy()
    tuned = [receptive_fields.tuning(field, test.dt_ms, test.frequencies) for field in (strfs, still)]
    rate = population.predict(gru, test)[0, units[shown[0]]]
    frames = _peaks(rate, lags, 5, apart=round(300 / test.dt_ms))
    moving = receptive_fields.dynamic_strfs(gru, test.stimuli[0], lags, frames, [int(units[shown[0]])])
    return {
        "ln_fields": strfs[shown],
        "gru_fields": still[shown],
        "best_frequency": np.stack([t.best_frequency for t in tuned]),  # (LN and GRU, N)
        "latency": np.stack([t.latency for t in tuned]),
        "moving_fields": moving[:, 0].cpu().numpy(),  # (moments, F, lags)
        "moving_frames": np.array(frames),
        "moving_rate": rate,
    }


def _peaks(rate: np.ndarray, first: int, n: int, apart: int) -> list[int]:
    """Frames of the n highest rates from `first` on that lie so far apart, in the order of time."""
    found: list[int] = []
    for t in np.argsort(-rate[first:], kind="stable") + first:
        if all(abs(t - other) >= apart for other in found):
            found.append(int(t))
        if len(found) == n:
            break
    return sorted(found)


# ---- memory


def gradients(model: Model, sounds: Tensor, frames: np.ndarray, neurons: Sequence[int], n_lags: int) -> Tensor:
    """Return the derivative of each neuron's rate at a moment of each sound to the frames before it.

    Parameters
    ----------
    model : without a prefilter
    sounds : (K, F, T)
    frames : (n, K) the moments, of each neuron its own; at least `n_lags` - 1
    neurons : n of the model's
    n_lags : L, frames

    Returns
    -------
    Tensor (n, K, F, L), last tap at lag 0
    """
    like = next(model.parameters())
    pairs = [(i, k) for i in range(len(neurons)) for k in range(len(sounds))]
    fields = []
    for some in torch.tensor(pairs).split(max(1, ROWS // sounds.shape[-1])):  # a row a neuron and sound
        i, k = some.T
        at = torch.as_tensor(frames)[i, k]
        x = sounds[k, None].to(like).requires_grad_()
        # cuDNN has no backward pass of a recurrent network in evaluation mode
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            rates = model.readout(model.core(x))[torch.arange(len(some)), torch.tensor(neurons)[i], 0, at]
            (d,) = torch.autograd.grad(rates.sum(), x)
        lags = (at[:, None] + torch.arange(1 - n_lags, 1))[:, None, None].to(d.device)  # (B, 1, 1, L)
        fields.append(d.take_along_dim(lags, -1)[:, 0].cpu())
    return torch.cat(fields).unflatten(0, (len(neurons), len(sounds)))


def _memory(
    fits: dict[str, list[results.StoredFit]],
    rates: dict[str, np.ndarray],
    test: NeuralDataset,
    units: np.ndarray,
    reach_ms: float,
) -> dict[str, np.ndarray]:
    """Energy of gradients against lag, where a unit is driven most late in each clip; spans at the mean level too."""
    n_lags = round(reach_ms / test.dt_ms)
    sounds = torch.stack(list(test.stimuli))
    still = sounds.new_zeros(1, test.n_bands, n_lags + 1)
    edges = np.unique(np.geomspace(1, n_lags + 1, 41).round().astype(int)) - 1  # bins of lags, ever wider

    def energies(model: Model, x: Tensor, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fields = gradients(model, x, frames, units.tolist(), n_lags).flatten(1, 2)  # the clips' energies add up
        found = [receptive_fields.gradient_energy(fields, test.dt_ms, fraction) for fraction in FRACTIONS]
        shares = np.add.reduceat(found[0].energy, edges[:-1], axis=-1) / np.diff(edges)
        return shares, np.stack([of.memory for of in found])

    def driven(model: Model, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return energies(model, sounds, n_lags - 1 + predicted[..., n_lags - 1 :].argmax(-1).T)

    pairs = [driven(fits[name][0].model, rates[name][0]) for name in REMEMBERING]
    others = [driven(kept.model, p)[1] for kept, p in zip(fits["gru"][1:], rates["gru"][1:])]
    at_end = np.full((len(units), 1), n_lags)
    return {
        "energy": np.stack([shares for shares, _ in pairs]).astype(np.float32),  # (models, N, bins), a share a frame
        "energy_lags": (edges[:-1] + edges[1:] - 1) / 2 * test.dt_ms,
        "memory": np.stack([spans for _, spans in pairs]),  # (models, fractions, N), ms
        "still_memory": np.stack([energies(fits[name][0].model, still, at_end)[1] for name in REMEMBERING]),
        "gru_memory": np.stack([pairs[REMEMBERING.index("gru")][1], *others]),  # (seeds, fractions, N)
        "reach_ms": np.array(float(reach_ms)),
    }


@torch.no_grad()
def heard_for(model: Model, sounds: Tensor, past: int, frames: Sequence[int]) -> np.ndarray:
    """Return the rates (K, N, len(frames)) at some frames of sounds (K, F, T) of which only the last `past` frames
    were heard: the state of the network is that of a start before them.

    Parameters
    ----------
    model : of the population
    sounds : (K, F, T)
    frames : at which the rates are read
    past : frames that were heard
    """
    like = next(model.parameters())
    windows = sounds.unfold(-1, past, 1)[:, :, torch.as_tensor(frames) - past + 1]  # (K, F, frames, past)
    rows = windows.permute(0, 2, 1, 3).flatten(0, 1)[:, None]
    rates = [model(x.to(like))[:, :, 0, -1].cpu() for x in rows.split(max(1, ROWS // past))]
    return torch.cat(rates).unflatten(0, (len(sounds), len(frames))).transpose(1, 2).numpy()


def _past(
    models: dict[str, Model], test: NeuralDataset, units: np.ndarray, past_ms: Sequence[float], stride: int
) -> dict[str, np.ndarray]:
    """CCnorm against how much of the sound was heard, on the same late frames, then with all of it."""
    sounds = torch.stack(list(test.stimuli))
    pasts = [round(ms / test.dt_ms) for ms in past_ms]
    frames = range(pasts[-1], sounds.shape[-1], stride)
    responses = [r[..., list(frames)].numpy() for r in test.responses]

    def score(rates: np.ndarray) -> np.ndarray:
        return np.asarray(metrics.normalized_corrcoef(list(rates[:, units]), responses))

    scores = []
    for name in REMEMBERING:
        of_all = population.predict(models[name], test)[..., list(frames)]
        scores.append([*(score(heard_for(models[name], sounds, past, frames)) for past in pasts), score(of_all)])
    return {"past_ms": np.array(past_ms, float), "past_scores": np.array(scores)}  # (models, pasts and all, N)


# ---- dreams


def _dreams(
    model: Model, rates: np.ndarray, neurons: np.ndarray, rows: np.ndarray, test: NeuralDataset, ms: float, steps: int
) -> dict[str, np.ndarray]:
    """The sound of an rms of 1, as a clip's, that drives a unit most, and the highest rate that clips drive it to."""
    found = receptive_fields.dream(
        model,
        neurons.tolist(),
        round(ms / test.dt_ms),
        smoothness=(3, 4),
        steps=steps,
        n_starts=2,
    )
    return {
        "dream_units": rows,
        "dreams": found.stimulus.detach().cpu().numpy().astype(np.float32),  # (n, F, T)
        "dream_rates": found.response.detach().cpu().numpy(),
        "dream_history": found.history.cpu().numpy().max(-1),  # (steps, n)
        "natural_peaks": rates[:, rows].max((0, 2)),
    }


# ---- AdapTrans


def probes(dt_ms: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the level (n, T) of ramps of `RISES_MS`, which stay on, and of tones of `TONES_MS`, in time; the onset
    is `PROBE_MS[0]` after the start.

    Parameters
    ----------
    dt_ms : length of a frame, ms
    """
    time = (np.arange(round(sum(PROBE_MS) / dt_ms)) + 1) * dt_ms - PROBE_MS[0]
    ramps = np.clip(time / np.array(RISES_MS)[:, None], 0, 1)
    tones = (time > 0) & (time <= np.array(TONES_MS)[:, None])
    return QUIET + (LOUD - QUIET) * ramps, QUIET + (LOUD - QUIET) * tones


@torch.no_grad()
def _adaptation(
    plain: Sequence[Model], adapted: Sequence[Model], units: np.ndarray, ds: NeuralDataset
) -> dict[str, np.ndarray]:
    """What AdapTrans learned before a model, how it answers to probes, and how the units do, also of plain models."""
    learned: list[Any] = [model.prefiltering for model in adapted]
    start = AdapTrans(ds.n_bands, [float(f) for f in ds.frequencies], ds.dt_ms)
    band = int(np.argmin(np.abs(np.log(np.asarray(ds.frequencies) / PROBE_HZ))))
    out: dict[str, np.ndarray] = {
        "adaptrans_tau": np.stack([_tau(p.a, ds.dt_ms) for p in (start, *learned)]),  # (start and seeds, 2, F), ms
        "adaptrans_w": np.stack([p.w.cpu().numpy() for p in (start, *learned)]),
        "probe_band": np.array(band),
    }
    like = next(adapted[0].parameters())
    for name, levels in zip(("ramp", "tone"), probes(ds.dt_ms)):
        sound = torch.as_tensor(levels)[:, None, None].expand(-1, 1, ds.n_bands, -1).to(like)
        rates = [model(sound)[:, units, 0].mean(1).cpu().numpy() for model in (*plain, adapted[0])]
        out[f"{name}_levels"] = levels
        out[f"{name}_channels"] = learned[0](sound)[:, :, band].cpu().numpy()  # (n, ON and OFF, T)
        out[f"{name}_rates"] = np.stack(rates)  # (plain models and the adapted one, n, T), means over units
    return out


def _tau(a: Tensor, dt_ms: float) -> np.ndarray:
    """Time constants, ms, of forgetting factors."""
    return (-dt_ms / torch.log(a)).cpu().numpy()
