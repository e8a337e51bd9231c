"""One frame of a stream, of every architecture, against running the model on a window as long as it must remember."""

from __future__ import annotations

import torch

from benchmarks.harness import Row, in_turns
from benchmarks.zoo import BANDS, CASES

WINDOW = 100  # frames, half a second, where a model remembers without end


def run() -> list[Row]:
    rows = []
    for case in CASES:
        model = case.ours().eval()
        x = torch.randn(1, 1, BANDS, WINDOW)
        with torch.no_grad():
            _, state = model.stream(x)
            frame = x[..., -1:]
            window = x[..., -int(min(model.memory, WINDOW)) :]
            ours, again = in_turns(
                lambda model=model, frame=frame, state=state: [model.stream(frame, state) for _ in range(20)],
                lambda model=model, window=window: [model(window) for _ in range(20)],
            )
        seen = window.shape[-1]
        sizes = {"model": case.name, "window": seen}
        rows.append(Row(f"{case.name}, a frame", ours / 20, f"the last {seen} frames again", again / 20, sizes=sizes))
    return rows
