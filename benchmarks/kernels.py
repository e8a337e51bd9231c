"""The compiled kernels, forward and backward, against torch's path for the same work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.harness import Row, in_turns
from benchmarks.zoo import work
from strflab import layers
from strflab.layers import native

CLIPS, FRAMES, WIDTH, NEURONS = 8, 1000, 70, 119
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        name: (lambda name=name: getattr(layers, name)(WIDTH), (FRAMES, WIDTH))
        for name in ("GRU", "LSTM", "RNN", "LMU", "Mamba")
    },
    "leaky integrators": (lambda: layers.LearnableExponentialDecay(WIDTH), (WIDTH, 1, FRAMES)),
    "LayerNorm over 10 channels": (lambda: layers.CausalLayerNorm(10), (10, 30, FRAMES)),
    "parametric softplus": (lambda: layers.ParametricSoftplus(NEURONS), (NEURONS, 1, FRAMES)),
    "three convolutions of 10 channels": (lambda: layers.CausalConv2dStack(34, 1, 10, (3, 9)), (1, 34, FRAMES)),
}


def run() -> list[Row]:
    if native.library() is None:
        return []
    rows = []
    for name, (make, shape) in CASES.items():
        torch.manual_seed(0)
        step = work(make(), torch.randn(CLIPS, *shape, requires_grad=True))
        ours, torchs = in_turns(_with(True, step), _with(False, step))
        rows.append(Row(f"{name}, {CLIPS} x {FRAMES}", ours, "operations of torch", torchs, sizes={"layer": name}))
    return rows


def _with(enabled: bool, step: Callable[[], None]) -> Callable[[], None]:
    def switched() -> None:
        native.enabled = enabled
        try:
            step()
        finally:
            native.enabled = True

    return switched
