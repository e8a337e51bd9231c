"""An epoch of `strflab.fitting.fit` against a bare loop with the same steps, on data of the shape of NS1."""

from __future__ import annotations

import time

import torch
from torch import nn

from benchmarks import peers
from benchmarks.harness import Row
from benchmarks.sweep import BANDS, FRAMES, TRAIN, VALIDATION, recording
from strflab.data import NeuralDataset
from strflab.fitting import Recipe, fit
from strflab.models import Linear

NEURONS, LAGS, EPOCHS, BATCH = 73, 9, 20, 4


def run() -> list[Row]:
    ds = recording(NEURONS)
    train, validation = ds.select(clips=list(TRAIN)), ds.select(clips=list(VALIDATION))
    recipe = Recipe(epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH, initialize=False)

    def ours() -> float:
        history = fit(Linear(BANDS, LAGS, NEURONS), train, validation, recipe, progress=False).history
        return (history[-1]["seconds"] - history[0]["seconds"]) / (EPOCHS - 1)  # an epoch, without what comes before

    x, y = (torch.stack([s.unsqueeze(0) for s in clips]) for clips in (ds.stimuli, ds.psth))
    y = y.transpose(1, 2)
    bare, epoch = [], []
    ours()
    for _ in range(7):  # in turns, for other work on the machine comes and goes
        epoch.append(ours())
        bare.append(_bare(x, y))
    what = (
        f"an epoch of a linear model, {len(TRAIN)} clips x {FRAMES} frames, {BANDS} bands x {LAGS} lags, {NEURONS} "
        f"neurons, {BATCH} clips a step"
    )
    rows = [Row(what, sorted(epoch)[3], "a bare loop: steps and a validation loss", sorted(bare)[3])]
    if peers.has("deepSTRF"):
        rows.append(Row(what, sorted(epoch)[3], "deepSTRF's Fitter", _peer(ds)))
    return rows


def _peer(ds: NeuralDataset, epochs: int = 3) -> float:
    """Seconds an epoch of deepSTRF's loop, from the difference of two runs."""
    clips = [{"stims": x[None], "responses": y} for x, y in zip(ds.stimuli, ds.responses)]
    train, validation = ([clips[k] for k in part] for part in (TRAIN, VALIDATION))

    def run(n: int) -> float:
        model = peers.deepstrf("Linear", BANDS, NEURONS, temporal_window_size=LAGS)
        started = time.perf_counter()
        peers.deepstrf_epochs(model, train, validation, BATCH, n)
        return time.perf_counter() - started

    run(1)
    return (run(1 + epochs) - run(1)) / epochs


def _bare(x: torch.Tensor, y: torch.Tensor) -> float:
    """Seconds an epoch of the plainest loop."""
    model = Linear(BANDS, LAGS, NEURONS)
    optimizer = torch.optim.AdamW(model.parameters())

    def epoch() -> None:
        model.train()
        for batch in torch.randperm(len(TRAIN)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            nn.functional.mse_loss(model(x[list(VALIDATION)]), y[list(VALIDATION)])

    epoch()
    started = time.perf_counter()
    for _ in range(EPOCHS):
        epoch()
    return (time.perf_counter() - started) / EPOCHS
