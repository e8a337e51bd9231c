"""Forward and backward of every architecture, beside the same one of deepSTRF where that is installed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.harness import Row, in_turns, peak_mb
from strflab import models

BANDS, NEURONS = 34, 119
SIZES = ((8, 1000), (1, 5000))  # clips, frames
WINDOW = 100  # frames that the windowed Transformer looks back


@dataclass(frozen=True)
class Case:
    """An architecture of ours and the peer's of the same sizes."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    peer: dict[str, Any] | None = None  # options of the peer's model of the same name; None: it has none
    small: bool = True  # also at 8 clips of 1000 frames
    counted: bool = True  # in the geometric mean

    def ours(self, n_neurons: int = NEURONS) -> torch.nn.Module:
        torch.manual_seed(0)
        return models.build(self.model, n_frequency_bands=BANDS, out_neurons=n_neurons, **self.options)

    def theirs(self, n_neurons: int = NEURONS) -> torch.nn.Module:
        torch.manual_seed(0)
        return peers.deepstrf(self.model, BANDS, n_neurons, **(self.peer or {}))


BACKBONES = ("GRU", "LSTM", "RNN", "LMU", "Mamba", "S4")
CASES = (
    Case("Linear", "Linear", peer={}),
    Case("LN", "LinearNonlinear", peer={}),
    Case("NRF", "NetworkReceptiveField", peer={}),
    Case("DNet", "DNet", peer={}),
    Case("ConvNet2D", "ConvNet2D", peer={}),
    Case("ConvNet1D", "ConvNet1D"),
    Case("Transformer", "Transformer", peer={}),
    Case(
        f"Transformer, window of {WINDOW}",
        "Transformer",
        {"context_window": WINDOW},
        peer={"context_window": WINDOW},
        small=False,
    ),
    *(Case(f"StateNet {name}", "StateNet", {"rnn_type": name}, peer={"rnn_type": name}) for name in BACKBONES),
    Case("StateNet S4D", "StateNet", {"rnn_type": "S4D"}, peer={"rnn_type": "S4"}, counted=False),  # it has no S4D
    Case(
        "Linear behind AdapTrans",
        "Linear",
        {"prefiltering": {"type": "adaptrans", "dt_ms": 1.0}},
        peer={"adaptrans_dt_ms": 1.0},
    ),
)
# of which the geometric mean is quoted
THIRTEEN = tuple(c.name for c in CASES if c.peer is not None and c.small and c.counted)


def work(model: torch.nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward: the output, and the gradients of every parameter given that of the output."""
    with torch.no_grad():
        grad = torch.randn_like(model(x))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        x.grad = None
        model(x).backward(grad)

    return step


def run(device: str = "cpu", names: tuple[str, ...] = (), memory: bool = True) -> list[Row]:
    rows, ratios = [], []
    for n_clips, n_frames in SIZES:
        for case in CASES:
            if (names and case.name not in names) or not (case.small or n_frames > SIZES[0][1]):
                continue
            row = measure(case, n_clips, n_frames, device, memory)
            rows.append(row)
            if row.ratio and case.counted and (n_clips, n_frames) == SIZES[0]:
                ratios.append(row.ratio)
    if len(ratios) == len(THIRTEEN):
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"geometric mean of the ratios of the {len(ratios)} at {SIZES[0]}: {mean:.2f}")
    return rows


def measure(case: Case, n_clips: int, n_frames: int, device: str, memory: bool) -> Row:
    """One architecture on `n_clips` x `n_frames`."""
    compared = case.peer is not None and peers.has("deepSTRF")
    sides = ("ours", "theirs") if compared else ("ours",)
    times = in_turns(*(prepared(case.name, side, n_clips, n_frames, device=device) for side in sides))
    peaks: list[float | None] = [None, None]
    if memory and device == "cpu":
        peaks = [peak_mb(prepared, case.name, side, n_clips, n_frames) for side in sides] + [None]
    return Row(
        f"{case.name}, {n_clips} x {n_frames}",
        times[0],
        "" if not compared else "deepSTRF" if case.counted else f"deepSTRF, {' '.join(map(str, case.peer.values()))}",
        times[1] if compared else None,
        peaks[0],
        peaks[1] if compared else None,
        sizes={"model": case.name, "clips": n_clips, "frames": n_frames, "neurons": NEURONS},
    )


def prepared(
    name: str, side: str, n_clips: int, n_frames: int, n_neurons: int = NEURONS, device: str = "cpu"
) -> Callable[[], None]:
    """`work` of ours or theirs, which has run once on a short sound."""
    case = next(c for c in CASES if c.name == name)
    model = getattr(case, side)(n_neurons).to(device)
    torch.manual_seed(1)
    work(model, torch.randn(1, 1, BANDS, 50, device=device))()
    step = work(model, torch.randn(n_clips, 1, BANDS, n_frames, device=device))
    return step if device == "cpu" else _waited_for(step)


def _waited_for(step: Callable[[], None]) -> Callable[[], None]:
    def timed() -> None:
        step()
        torch.cuda.synchronize()

    return timed
