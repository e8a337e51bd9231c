"""A population whose receptive fields and nonlinearities are known, hearing synthetic sound: the ground truth.

With s the sound (F, T), * causal filtering (the past before the first frame is silence at the mean level, 0) and
phi the logistic function, the expected spikes a bin of a neuron are

    linear   r = b + w * s
    ln       r = a softplus(b + w * s)            (or the logistic in place of softplus)
    nrf      r = a softplus(b + sum_j v_j tanh(c_j + w_j * s))
    dnet     r = b + sum_j v_j D_j[phi(c_j + w_j * s)],
             D_j[u](t) = (1 - dt/tau_j) D_j[u](t-1) + dt/tau_j u(t), from the steady state D_j[u](0) = u(0)

and the spikes are Poisson. These are the models of Theunissen et al. 2000 (doi:10.1523/JNEUROSCI.20-06-02315.2000),
Harper et al. 2016 (doi:10.1371/journal.pcbi.1005113) and Rahman et al. 2019 (doi:10.1371/journal.pcbi.1006618), with
a softplus output. Receptive fields are Gabors on (log frequency, lag): best frequency, bandwidth, latency, duration,
temporal and spectral modulation and direction differ between neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from strflab.data.dataset import NeuralDataset
from strflab.data.sounds import KINDS, make_sounds
from strflab.data.spectrogram import log_centres
from strflab.validation import boolean, choice, integer, number

MODELS = ("linear", "ln", "nrf", "dnet")
MEMORY_MS = 100.0
N_HIDDEN = 3
LICENCE, CITATION = "BSD-3-Clause, as strflab", "strflab"


@dataclass(frozen=True)
class Truth:
    """What made the responses of a simulated set.

    For "nrf" and "dnet" `strfs` are the mean gradients of the drive, sum_j v_j <g'(.)> w_j (for "dnet" that of the
    summed inputs of the leaks); the filters themselves are `hidden_strfs`.
    """

    model: str
    nonlinearity: str  # "identity", "softplus" or "sigmoid"
    dt_ms: float
    strfs: Tensor  # (N, F, T), last tap at lag 0
    intercepts: Tensor  # (N,), b
    gains: Tensor  # (N,), a
    rates: list[Tensor]  # (N, T_k), expected spikes a bin
    hidden_strfs: Tensor | None = None  # (N, J, F, T), w_j
    hidden_intercepts: Tensor | None = None  # (N, J), c_j
    hidden_weights: Tensor | None = None  # (N, J), v_j
    taus_ms: Tensor | None = None  # (N, J), dnet only

    def rate(self, stimulus: Tensor) -> Tensor:
        """Return the expected spikes a bin (N, T) of every neuron to a sound (F, T), never negative."""
        drive = self.drive(torch.as_tensor(stimulus, dtype=torch.float32)) + self.intercepts[:, None]
        return (self.gains[:, None] * OUTPUTS[self.nonlinearity](drive)).clamp_min(0)

    def drive(self, stimulus: Tensor) -> Tensor:
        """Return the filtered sound (N, T) that the output nonlinearity sees, without the intercept."""
        if self.hidden_strfs is None or self.hidden_intercepts is None or self.hidden_weights is None:
            return apply_strfs(stimulus, self.strfs)
        z = apply_strfs(stimulus, self.hidden_strfs) + self.hidden_intercepts[..., None]  # (N, J, T)
        if self.taus_ms is None:
            hidden = z.tanh()
        else:
            hidden = leak(z.sigmoid(), self.dt_ms / self.taus_ms)
        return torch.einsum("nj,njt->nt", self.hidden_weights, hidden)

    def select(self, neurons: Sequence[int], clips: Sequence[int]) -> Truth:
        """Return the truth of these neurons and clips."""
        rows = torch.tensor(list(neurons), dtype=torch.int64)
        tensors: dict[str, Any] = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, rates=[self.rates[k][rows] for k in clips], **tensors)


OUTPUTS = {"identity": lambda x: x, "softplus": F.softplus, "sigmoid": torch.sigmoid}


def simulate(
    n_neurons: int = 20,
    n_clips: int = 20,
    seconds: float | tuple[float, float] = 5.0,
    dt_ms: float = 5.0,
    n_repeats: int = 10,
    n_bands: int = 34,
    frequencies: Sequence[float] | np.ndarray | None = None,
    stimulus: str = "natural",
    model: str = "ln",
    nonlinearity: str | None = None,
    rate_hz: tuple[float, float] | None = None,
    level_sd: float = 0.0,
    uneven: bool = False,
    truth: Truth | None = None,
    seed: int = 0,
) -> NeuralDataset:
    """Return a simulated recording; its attribute `truth` (`Truth`) says what made it.

    Parameters
    ----------
    n_neurons, n_clips, n_repeats : int
    seconds : float or (shortest, longest)
        Length of a clip, s.
    dt_ms : float
        Frame length, ms; fields last 100 ms.
    n_bands, frequencies : int, (F,)
        Bands: log-spaced from 500 to 22,627 Hz, or the given frequencies in Hz, increasing.
    stimulus : {"natural", "chords", "ripples", "noise"}
        The sound (`sounds.make_sounds`), z-scored a clip.
    model : {"linear", "ln", "nrf", "dnet"}
        The equations above.
    nonlinearity : {"softplus", "sigmoid"}, optional
        Output of "ln" and "nrf" (softplus by default) and, on request, of "dnet".
    rate_hz : (lowest, highest), optional
        Mean rates lie between these, log-uniform, Hz. By default 10 to 50; 50 to 150 where the output is linear,
        for there a sound modulates the rate by a fraction of its mean only.
    level_sd : float
        Standard deviation of a level added to each clip, in standard deviations of the sound: between-clip variance.
    uneven : bool
        True: each neuron has 2 to n_repeats repeats of each clip, and some repeats stop early (NaN).
    truth : Truth, optional
        Use these neurons rather than new ones, with another sound, say; n_neurons, model, nonlinearity and rate_hz
        are then theirs.
    seed : int

    Raises
    ------
    ValueError
        If an option is wrong.

    >>> ds = simulate(n_neurons=2, n_clips=3, seconds=1.0)
    >>> ds.responses[0].shape, ds.truth.strfs.shape
    (torch.Size([2, 10, 200]), torch.Size([2, 34, 20]))
    """
    dt_ms = number("dt_ms", dt_ms, above=0, at_most=MEMORY_MS / 2)
    bands = log_centres(500.0, 22627.0, n_bands) if frequencies is None else _check_bands(frequencies)
    choice("stimulus", stimulus, KINDS)
    integer("n_repeats", n_repeats, minimum=2 if boolean("uneven", uneven) else 1)
    streams = np.random.default_rng(integer("seed", seed, minimum=0)).spawn(3)
    sound_rng, neuron_rng, spike_rng = streams

    lengths = _lengths(seconds, integer("n_clips", n_clips), dt_ms, sound_rng)
    sounds = make_sounds(stimulus, lengths, bands, dt_ms, sound_rng)
    levels = number("level_sd", level_sd, at_least=0) * sound_rng.standard_normal(n_clips)
    stimuli = [torch.tensor(s + level, dtype=torch.float32) for s, level in zip(sounds, levels)]

    if truth is None:
        choice("model", model, MODELS)
        truth = _population(
            integer("n_neurons", n_neurons), model, nonlinearity, rate_hz, stimuli, bands, dt_ms, neuron_rng
        )
    elif truth.dt_ms != dt_ms or truth.strfs.shape[1] != len(bands):
        raise ValueError(
            f"truth has {truth.strfs.shape[1]} bands at {truth.dt_ms} ms, the sound {len(bands)} at {dt_ms} ms"
        )
    truth = replace(truth, rates=[truth.rate(s) for s in stimuli])
    return NeuralDataset(
        stimuli,
        [_spikes(rate, n_repeats, uneven, spike_rng) for rate in truth.rates],
        dt_ms,
        bands,
        neurons=_describe(truth, bands),
        clips=[{"id": k, "level": float(level)} for k, level in enumerate(levels)],
        name="simulated",
        licence=LICENCE,
        citation=CITATION,
        description=f"SIMULATED: {truth.model} neurons with known receptive fields, {stimulus} sound, Poisson spikes",
        truth=truth,
    )


def apply_strfs(stimulus: Tensor, strfs: Tensor) -> Tensor:
    """Return the causal filtering of a sound (F, S) by fields (..., F, T), as (..., S); zero before the sound."""
    kernels = strfs.reshape(-1, *strfs.shape[-2:])  # (M, F, T)
    padded = F.pad(stimulus, (strfs.shape[-1] - 1, 0))
    return F.conv1d(padded[None], kernels)[0].reshape(*strfs.shape[:-2], -1)


def leak(x: Tensor, alpha: Tensor) -> Tensor:
    """Return y(t) = (1 - alpha) y(t-1) + alpha x(t) along the last axis, from the steady state y = x(0).

    >>> leak(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([0.5]))
    tensor([[0.0000, 0.5000, 0.7500]])
    """
    y, out = x[..., 0], []
    for now in x.unbind(-1):
        y = y + alpha * (now - y)
        out.append(y)
    return torch.stack(out, -1)


def gabor_strfs(shape: tuple[int, ...], frequencies: np.ndarray, dt_ms: float, rng: np.random.Generator) -> Tensor:
    """Return random Gabor fields (*shape, F, T) of unit norm; the last tap is lag 0, and is near zero.

    With x octaves from the best frequency and t ms from the latency:
    exp(-x^2 / 2 sx^2 - t^2 / 2 st^2) cos(2 pi (W x + w t) + phase).
    """
    x = np.log2(frequencies / frequencies[0])
    n_lags = round(MEMORY_MS / dt_ms)
    lag = np.arange(n_lags - 1, -1, -1) * dt_ms  # ms

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (*shape, 1, 1))

    margin = min(0.5, x[-1] / 4)
    best = draw(x[0] + margin, x[-1] - margin)
    latency = np.exp(draw(np.log(12), np.log(40)))  # ms
    duration = latency * draw(0.3, 0.5)
    width = np.exp(draw(np.log(0.25), np.log(0.8)))  # octaves
    temporal = draw(-1, 1)
    temporal = np.sign(temporal) * (0.05 + 0.2 * np.abs(temporal)) / duration  # cycles/ms
    spectral = draw(0, 0.25) / width  # cycles/octave
    phase = rng.normal(0, 0.6, (*shape, 1, 1)) + np.pi * (draw(0, 1) < 0.1)  # mostly excitatory
    dx, dtau = x[:, None] - best, lag - latency  # (..., F, 1), (..., 1, T)
    envelope = np.exp(-0.5 * (dx / width) ** 2 - 0.5 * (dtau / duration) ** 2)
    fields = envelope * np.cos(2 * np.pi * (spectral * dx + temporal * dtau) + phase)
    return torch.tensor(fields / np.sqrt((fields**2).sum((-2, -1), keepdims=True)), dtype=torch.float32)


def _population(
    n_neurons: int,
    model: str,
    nonlinearity: str | None,
    rate_hz: tuple[float, float] | None,
    stimuli: list[Tensor],
    bands: np.ndarray,
    dt_ms: float,
    rng: np.random.Generator,
) -> Truth:
    """Return new neurons, scaled so that this sound drives each of them over its whole range."""
    if model == "linear" and nonlinearity is not None:
        raise ValueError(f'nonlinearity={nonlinearity!r}: model "linear" has none')
    output = "identity" if model in ("linear", "dnet") else "softplus"
    if nonlinearity is not None:
        output = choice("nonlinearity", nonlinearity, ("softplus", "sigmoid"))
    ranges = rate_hz or ((50.0, 150.0) if output == "identity" else (10.0, 50.0))
    low, high = (number("rate_hz", r, above=0) for r in ranges)
    if low > high:
        raise ValueError(f"rate_hz={rate_hz}: the lowest comes first")
    means = torch.tensor(np.exp(rng.uniform(np.log(low), np.log(high), n_neurons)) * dt_ms / 1000).float()

    truth = Truth(model, output, dt_ms, torch.empty(0), torch.zeros(n_neurons), torch.ones(n_neurons), [])
    if model in ("linear", "ln"):
        strfs = gabor_strfs((n_neurons,), bands, dt_ms, rng)
        drive = _over(stimuli, lambda s: apply_strfs(s, strfs))
        truth = replace(truth, strfs=strfs / drive.std(-1)[:, None, None])
    else:
        truth = _with_hidden(truth, stimuli, bands, rng)
    return _scaled(truth, means, stimuli, rng)


def _with_hidden(truth: Truth, stimuli: list[Tensor], bands: np.ndarray, rng: np.random.Generator) -> Truth:
    """Return the truth with J hidden units a neuron: fields, thresholds, signed weights and time constants."""
    shape = (len(truth.intercepts), N_HIDDEN)
    fields = gabor_strfs(shape, bands, truth.dt_ms, rng)
    sd = _over(stimuli, lambda s: apply_strfs(s, fields)).std(-1)  # (N, J)
    steepness = 1.5 if truth.model == "nrf" else 2.5
    fields = steepness * fields / sd[..., None, None]
    intercepts = torch.tensor(steepness * rng.uniform(-1.0, 0.2, shape)).float()
    weights = rng.uniform(0.6, 1.2, shape)
    weights[:, 1:] *= rng.choice([-1, 1], (shape[0], N_HIDDEN - 1))  # the first excites
    z = _over(stimuli, lambda s: apply_strfs(s, fields)) + intercepts[..., None]
    slope = 1 - z.tanh() ** 2 if truth.model == "nrf" else z.sigmoid() * (1 - z.sigmoid())
    taus = torch.tensor(np.exp(rng.uniform(np.log(max(10, 2 * truth.dt_ms)), np.log(200), shape))).float()
    v = torch.tensor(weights).float()
    return replace(
        truth,
        strfs=torch.einsum("nj,njft->nft", v * slope.mean(-1), fields),
        hidden_strfs=fields,
        hidden_intercepts=intercepts,
        hidden_weights=v,
        taus_ms=taus if truth.model == "dnet" else None,
    )


def _scaled(truth: Truth, means: Tensor, stimuli: list[Tensor], rng: np.random.Generator) -> Truth:
    """Return the truth with output scaled to the mean rates `means` (N,), spikes a bin, and no rate below zero."""
    drive = _over(stimuli, truth.drive)  # (N, all frames)
    if truth.nonlinearity == "identity":  # the deepest trough of this sound is a twentieth of the mean
        scale = 0.95 * means / (drive.mean(-1) - drive.amin(-1))
        intercepts = means - scale * drive.mean(-1)
    else:
        scale = torch.tensor(rng.uniform(1.0, 2.0, len(means))).float() / drive.std(-1)
        threshold = torch.tensor(rng.uniform(0.0, 0.6, len(means))).float() * drive.std(-1)
        intercepts = -scale * (drive.mean(-1) + threshold)
    if truth.hidden_weights is None:
        truth = replace(truth, strfs=truth.strfs * scale[:, None, None], intercepts=intercepts)
    else:
        truth = replace(
            truth,
            strfs=truth.strfs * scale[:, None, None],
            hidden_weights=truth.hidden_weights * scale[:, None],
            intercepts=intercepts,
        )
    if truth.nonlinearity == "identity":
        return truth
    return replace(truth, gains=means / _over(stimuli, truth.rate).mean(-1))


def _over(stimuli: list[Tensor], function: Any) -> Tensor:
    return torch.cat([function(s) for s in stimuli], -1)


def _spikes(rate: Tensor, n_repeats: int, uneven: bool, rng: np.random.Generator) -> Tensor:
    """Return Poisson counts (N, R, T) for rates (N, T), with NaN for what was not recorded if `uneven`."""
    n_neurons, n_frames = rate.shape
    counts = rng.poisson(rate.numpy()[:, None, :], (n_neurons, n_repeats, n_frames)).astype(np.float32)
    if uneven:
        recorded = rng.integers(2, n_repeats + 1, n_neurons)
        stops = np.where(rng.random(n_neurons) < 0.2, rng.integers(1, n_frames + 1, n_neurons), n_frames)
        for neuron, n, stop in zip(counts, recorded, stops):
            neuron[n:] = np.nan
            neuron[n - 1, stop:] = np.nan
    return torch.from_numpy(counts)


def _describe(truth: Truth, bands: np.ndarray) -> list[dict[str, Any]]:
    """Return the neuron table: where each field peaks."""
    n_lags = truth.strfs.shape[-1]
    peaks = truth.strfs.abs().flatten(1).argmax(1)
    return [
        {
            "id": i,
            "model": truth.model,
            "best_frequency_hz": float(bands[peak // n_lags]),
            "latency_ms": (n_lags - 1 - peak % n_lags) * truth.dt_ms,
        }
        for i, peak in enumerate(peaks.tolist())
    ]


def _lengths(seconds: Any, n_clips: int, dt_ms: float, rng: np.random.Generator) -> list[int]:
    shortest, longest = seconds if isinstance(seconds, tuple | list) and len(seconds) == 2 else (seconds, seconds)
    frames = [round(number("seconds", s, above=0) * 1000 / dt_ms) for s in (shortest, longest)]
    if not 2 * MEMORY_MS / dt_ms <= frames[0] <= frames[1]:
        raise ValueError(f"seconds={seconds!r}: clips must last at least {2 * MEMORY_MS / 1000} s, shortest first")
    return rng.integers(frames[0], frames[1] + 1, n_clips).tolist()


def _check_bands(frequencies: Any) -> np.ndarray:
    bands = np.asarray(frequencies, dtype=float)
    if bands.ndim != 1 or len(bands) < 2 or bands[0] <= 0 or not (np.diff(bands) > 0).all():
        raise ValueError(f"frequencies must be two or more positive, increasing values in Hz, got {frequencies}")
    return bands
