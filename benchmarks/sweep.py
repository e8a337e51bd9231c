"""64 networks of one neuron each, fitted together and one after the other, on data of the shape of NS1."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.harness import Row
from strflab.data import NeuralDataset
from strflab.fitting import Recipe
from strflab.papers import harper2016_nrf
from strflab.sweeps import Member, fit_many

BANDS, LAGS, FRAMES, REPEATS, EPOCHS = 34, 20, 999, 20, 3
TRAIN, VALIDATION = range(14), range(14, 16)


def recording(n_neurons: int) -> NeuralDataset:
    """Noise, and Poisson spikes of neurons that hear it linearly."""
    rng = np.random.default_rng(0)
    stimuli = [rng.normal(size=(BANDS, FRAMES)).astype(np.float32) for _ in range(16)]
    weight = rng.normal(size=(n_neurons, BANDS)) / BANDS**0.5
    responses = [rng.poisson(0.1 * np.exp(weight @ x)[:, None], (n_neurons, REPEATS, FRAMES)) for x in stimuli]
    return NeuralDataset(stimuli, responses, dt_ms=5.0, frequencies=np.geomspace(500, 22627, BANDS))


def run(device: str = "cpu") -> list[Row]:
    return [_row(64, batch_size, device) for batch_size in (1, 4)]


def _row(n: int, batch_size: int, device: str) -> Row:
    ds = recording(n)
    recipe = Recipe(epochs=EPOCHS, batch_size=batch_size)
    members = [Member(i, TRAIN, VALIDATION, recipe) for i in range(n)]
    fit_many(harper2016_nrf, ds, members[:2], device=device, progress=False)  # warms up
    times = {"always": np.inf, "never": np.inf}
    for _ in range(2):  # the better of two each, in turns, for other work on the machine comes and goes
        for batched in times:
            started = time.perf_counter()
            sweep = fit_many(harper2016_nrf, ds, members, device=device, batched=batched, progress=False)
            times[batched] = min(times[batched], time.perf_counter() - started)
            sweep.all_models()  # raises if one is missing
    return Row(
        f"{n} networks of 20 hidden units, one neuron each, {BANDS} bands x {LAGS} lags, {len(TRAIN)} clips x {FRAMES} "
        f"frames, {EPOCHS} epochs, {batch_size} clips a step",
        times["always"],
        "the same one after the other",
        times["never"],
    )
