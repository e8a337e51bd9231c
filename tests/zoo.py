"""The zoo: every model, backbone and part that `strflab.models.rules` are tried on, and the exceptions to them.

Run as a script, it prints a table of the rules over the zoo.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from strflab import models
from strflab.layers.activations import FUNCTIONS, PARAMETRIC
from strflab.models.rules import BATCH, FFT, GROWS, LISTS, RULES, SEVERAL, Subject

RATE = 8000  # of waveforms, samples a second


@dataclass(frozen=True)
class Case:
    """A member of the zoo: a model, and the options that make it."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        exceptions = {rule: why for (rule, name), why in EXCEPTIONS.items() if name == self.name}
        return Subject(models.ZOO[self.model], self.options, exceptions)

    def make(self, seed: int = 0, **options: Any) -> models.Model:
        return self.subject.make(seed, **options)

    @property
    def hears_waveforms(self) -> bool:
        return "wav2spec" in self.options


KERNELS = {
    "full": "full",
    "separable": {"type": "separable", "rank": 2},
    "separable gaussian": {"type": "separable", "spectral": "gaussian"},
    "parametric": {"type": "parametric", "num_gaussians": 3},
}
ACTIVATIONS = {name: name for name in (*FUNCTIONS, *PARAMETRIC)} | {
    "signed softplus": {"type": "parametric_softplus", "signed": True, "baseline": -0.5},
    "module": nn.Tanh(),
}
PREFILTERS = {
    "ic_adaptation": {"type": "ic_adaptation", "dt_ms": 10.0},
    "adaptrans": "adaptrans",
    "adaptrans rectified": {"type": "adaptrans", "rectify": True},
}
FRONTENDS = {
    "logmel": {"type": "logmel", "sample_rate": RATE},
    "gammatone": {"type": "gammatone", "sample_rate": RATE},
    "ns1": {"type": "ns1", "sample_rate": RATE, "low_hz": 200.0, "high_hz": 3900.0},
    "rahman2020": {"type": "rahman2020", "sample_rate": RATE, "low_hz": 200.0, "high_hz": 3900.0},
    "sincnet": {"type": "sincnet", "sample_rate": RATE},
    "leaf": {"type": "leaf", "sample_rate": RATE},
}
BACKBONES = ("GRU", "LSTM", "RNN", "LMU", "Mamba", "S4", "S4D")

MEMBERS = [
    Case("Linear", "Linear"),
    Case("Linear, batch norm", "Linear", {"norm": "batch"}),
    Case("LinearNonlinear", "LinearNonlinear"),
    Case("NetworkReceptiveField", "NetworkReceptiveField"),
    Case("DNet", "DNet"),
    Case("DNet, both leaks", "DNet", {"output_decay": True, "output_activation": "sigmoid", "norm": False}),
    Case("ConvNet2D", "ConvNet2D"),
    Case("ConvNet1D", "ConvNet1D"),
    Case("ConvNet1D, two stages", "ConvNet1D", {"n_channels": (7, 8), "temporal_window_size": (6, 4)}),
    Case("ConvNet1D, pop-LN", "ConvNet1D", {"n_channels": 12, "n_hidden": None, "rectify": False}),
    Case("Transformer", "Transformer"),
    Case("Transformer, rotary", "Transformer", {"position": "rope"}),
    Case(
        "Transformer, window",
        "Transformer",
        {
            "context_window": 6,
            "n_layers": 2,
            "n_heads": 2,
            "freq_patch_size": 2,
            "embedding_dim": 8,
            "time_patch_size": 3,
        },
    ),
    *[Case(f"StateNet {rnn}", "StateNet", {"rnn_type": rnn}) for rnn in BACKBONES],
    Case("StateNet GRU, FC", "StateNet", {"connectivity": "FC"}),
    Case("StateNet GRU, CONV", "StateNet", {"connectivity": "CONV"}),
    Case("StateNet GRU, batch norm", "StateNet", {"norm": "batch"}),
]
PARTS = [
    *[
        Case(f"Linear, {name} kernel", "Linear", {"kernel": kernel})
        for name, kernel in KERNELS.items()
        if name != "full"
    ],
    *[
        Case(f"Linear, {name}", "Linear", {"output_activation": ACTIVATIONS[name]})
        for name in ("parametric_sigmoid", "double_exponential", "signed softplus")
    ],
    *[Case(f"Linear, {name}", "Linear", {"prefiltering": prefilter}) for name, prefilter in PREFILTERS.items()],
    *[Case(f"Linear, {name}", "Linear", {"wav2spec": frontend}) for name, frontend in FRONTENDS.items()],
]
CASES = MEMBERS + PARTS

TRANSFORMED = ("StateNet S4", "StateNet S4D", "Linear, gammatone", "Linear, sincnet", "Linear, leaf")
BATCHED = ("Linear, batch norm", "StateNet GRU, batch norm")
ONE_FILTER = {case.name for case in CASES if case.model in ("Linear", "LinearNonlinear")} | {"ConvNet1D, pop-LN"}
EXCEPTIONS = (  # (rule, case) -> why
    {("1 causal", name): FFT for name in TRANSFORMED}
    | {(rule, name): BATCH for rule in ("1 causal", "2 clips") for name in BATCHED}
    | {("3 streaming", name): GROWS for name in ("Transformer", "Transformer, rotary")}
    | {("4 weight", case.name): SEVERAL for case in CASES if case.name not in ONE_FILTER}
    | {("7 arguments", case.name): LISTS for case in CASES if case.model == "ConvNet1D"}
)


def table() -> str:
    """Rows the cases, columns the rules; a letter refers to the reason of an exception."""
    reasons = sorted(set(EXCEPTIONS.values()))
    letters = {reason: chr(ord("a") + i) for i, reason in enumerate(reasons)}
    width = max(len(case.name) for case in CASES)
    lines = [" " * width + "  " + "  ".join(RULES)]
    for case in CASES:
        cells = []
        for name, rule in RULES.items():
            try:
                rule(case.subject)
                cell = letters.get(EXCEPTIONS.get((name, case.name), ""), "ok")
            except Exception as error:
                cell = "FAILS"
                print(f"{case.name}, {name}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            cells.append(cell.ljust(len(name)))
        lines.append(case.name.ljust(width) + "  " + "  ".join(cells).rstrip())
    return "\n".join([*lines, "", *(f"{letters[reason]}  {reason}" for reason in reasons)])


def frame_ms(case: Case, n_frames: int = 400) -> tuple[float, float]:
    """Fastest and median time to stream one frame through a model of the default size, ms."""
    model = case.make(n_frequency_bands=34).eval()
    state, times = None, []
    for frame in torch.randn(n_frames, 1, 1, 34, 1):
        start = time.perf_counter()
        _, state = model.stream(frame, state)
        times.append(1000 * (time.perf_counter() - start))
    return min(times[10:]), statistics.median(times[10:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
    print("\none frame streamed, F=34, one thread, ms: fastest, median")
    for member in MEMBERS:
        print(f"{member.name:26}", *(f"{t:.2f}" for t in frame_ms(member)))
