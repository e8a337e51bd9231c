"""Dynamic receptive fields of a population: of every neuron, at every frame."""

from __future__ import annotations

import torch

from benchmarks.harness import Row, seconds
from benchmarks.zoo import BANDS, NEURONS
from strflab import models
from strflab.receptive_fields import dynamic_strfs

FRAMES, LAGS = 1000, 45


def run() -> list[Row]:
    rows = []
    torch.manual_seed(0)
    x = torch.randn(BANDS, FRAMES)
    for name, options in (
        ("NetworkReceptiveField", {"temporal_window_size": LAGS}),
        ("ConvNet2D", {"kernel_size": (3, 16)}),  # which remembers 46 frames
        ("StateNet", {}),
    ):
        model = models.build(name, n_frequency_bands=BANDS, out_neurons=NEURONS, **options)
        what = f"{name}, {FRAMES} frames x {NEURONS} neurons x {BANDS} bands x {LAGS} lags"
        rows.append(Row(what, seconds(lambda model=model: dynamic_strfs(model, x, LAGS), repeats=3)))
    return rows
