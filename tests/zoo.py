"""The zoo: every model, backbone and part that the rules of `zoo_rules.py` are tried on, and the exceptions to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from strflab import models
from strflab.layers.activations import FUNCTIONS, PARAMETRIC

BANDS, NEURONS, FRAMES, CUT = 20, 3, 60, 37
RATE, HOP = 8000, 40  # of waveforms: samples a second, and a frame


@dataclass(frozen=True)
class Case:
    """A member of the zoo: a model, and the options that make it."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, seed: int = 0, **options: Any) -> models.Model:
        torch.manual_seed(seed)
        sizes = {"n_frequency_bands": BANDS, "out_neurons": NEURONS}
        return models.build(self.model, **(sizes | self.options | options))

    def sound(self, n_frames: int = FRAMES, n_clips: int = 2, seed: int = 0) -> Tensor:
        shape = (n_clips, 1, n_frames * HOP) if self.hears_waveforms else (n_clips, 1, BANDS, n_frames)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    @property
    def hears_waveforms(self) -> bool:
        return "wav2spec" in self.options

    def step(self, x: Tensor) -> int:
        """Entries of the last axis a frame."""
        return HOP if self.hears_waveforms else 1


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

FFT = "float round-off of the Fourier transform"
BATCH = "in training, a BatchNorm hears the whole batch"
GROWS = "without a window, attention keeps all of its past; the docstring says so"
SEVERAL = "there is no one filter a neuron, and STRF_weight() says so"
TRANSFORMED = ("StateNet S4", "StateNet S4D", "Linear, gammatone", "Linear, sincnet", "Linear, leaf")
BATCHED = ("Linear, batch norm", "StateNet GRU, batch norm")
ONE_FILTER = {case.name for case in CASES if case.model in ("Linear", "LinearNonlinear")} | {"ConvNet1D, pop-LN"}
EXCEPTIONS = (  # (rule, case) -> why
    {("1 causal", name): FFT for name in TRANSFORMED}
    | {(rule, name): BATCH for rule in ("1 causal", "2 clips") for name in BATCHED}
    | {("3 streaming", name): GROWS for name in ("Transformer", "Transformer, rotary")}
    | {("4 weight", case.name): SEVERAL for case in CASES if case.name not in ONE_FILTER}
)
