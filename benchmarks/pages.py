"""A step over 100,000 frames with memory that the process keeps, against memory that the system hands out anew."""

from __future__ import annotations

from benchmarks.harness import Row, seconds
from benchmarks.zoo import NEURONS, prepared
from strflab.memory import keep_freed_memory

FRAMES = 100_000
MODELS = ("Linear", "NRF", "ConvNet1D", "ConvNet2D", "Transformer, window of 100", "StateNet GRU", "StateNet Mamba")


def run() -> list[Row]:
    steps = {name: prepared(name, "ours", 1, FRAMES, NEURONS, device="cpu") for name in MODELS}
    anew = {name: seconds(step, repeats=3) for name, step in steps.items()}
    if not keep_freed_memory():  # which cannot be taken back: no turns here
        return []
    what = f"1 x {FRAMES}, {NEURONS} neurons"
    return [
        Row(f"{name}, {what}", seconds(step, repeats=3), "pages anew", anew[name], sizes={"model": name})
        for name, step in steps.items()
    ]
