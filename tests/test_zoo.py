"""Every rule (`strflab.models.rules`) over the whole zoo (`zoo.py`); the rules; saving, nonsense, imports."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from zoo import (
    ACTIVATIONS,
    BACKBONES,
    CASES,
    EXCEPTIONS,
    FRONTENDS,
    KERNELS,
    MEMBERS,
    PREFILTERS,
    RATE,
    Case,
)

from strflab import layers, models
from strflab.layers.contract import Broken
from strflab.models.rules import RULES, refusal

OPTIONAL = ("matplotlib", "scipy", "pandas", "h5py", "pooch", "tqdm", "sklearn", "IPython")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("rule", RULES)
def test_rule(rule, case):
    RULES[rule](case.subject)


def test_the_zoo_is_whole():
    assert {case.model for case in MEMBERS} == set(models.available())
    assert len({case.name for case in CASES}) == len(CASES)
    assert EXCEPTIONS.keys() <= {(rule, case.name) for rule in RULES for case in CASES}


@pytest.mark.parametrize(
    ("model", "options", "one", "all_119"),
    [
        ("Linear", {"norm": "batch"}, 309, 36_771),
        ("LinearNonlinear", {"norm": "batch"}, 311, 37_009),
        ("NetworkReceptiveField", {}, 6_203, 8_917),
        ("DNet", {}, 6_221, 8_699),
        ("ConvNet2D", {}, 11_403, 14_117),
        ("Transformer", {}, 30_001, 35_783),
        ("StateNet", {"rnn_type": "GRU"}, 30_467, 39_081),
        ("StateNet", {"rnn_type": "LSTM"}, 40_407, 49_021),
        ("StateNet", {"rnn_type": "RNN"}, 10_587, 19_201),
        ("StateNet", {"rnn_type": "LMU"}, 19_675, 28_289),
        ("StateNet", {"rnn_type": "Mamba"}, 39_147, 47_761),
    ],
)
def test_parameter_counts(model, options, one, all_119):
    for n_neurons, expected in ((1, one), (119, all_119)):
        built = models.build(model, out_neurons=n_neurons, **options)
        assert sum(p.numel() for p in built.parameters()) == expected


# ---- new processes

LOADER = """
import sys
for name in {optional!r}:
    sys.modules[name] = None  # an import of it fails
from pathlib import Path
import torch
from torch import nn
from safetensors.torch import load_file
from strflab import layers, models
from strflab.layers.contract import Broken
from strflab.models.rules import RULES, refusal
torch.set_num_threads({threads})
folder, wrong = Path(sys.argv[1]), []
known = load_file(folder / "known.safetensors")
with torch.no_grad():
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        model = models.from_pretrained(path)
        x = known["waveform" if model.wav2spec is not None else "spectrogram"]
        if model.training or not torch.equal(model(x), known[path.name]):
            wrong.append(path.name)
print(len(known) - 2, *wrong)
"""


def variants():
    """Every model with every kernel, activation, prefilter and front-end that it takes."""
    for member in MEMBERS:
        yield member
        taken = inspect.signature(models.ZOO[member.model]).parameters
        for option, parts in (
            ("kernel", KERNELS),
            ("output_activation", ACTIVATIONS),
            ("prefiltering", PREFILTERS),
            ("wav2spec", FRONTENDS),
        ):
            if option in taken:
                for name, part in parts.items():
                    yield Case(f"{member.name}, {name}", member.model, member.options | {option: part})


def test_saved_models_are_the_same_in_a_new_process(tmp_path):
    """Bit for bit, and there without any package that is not needed."""
    generator = torch.Generator().manual_seed(0)
    known = {
        "spectrogram": torch.randn(1, 1, 20, 25, generator=generator),
        "waveform": torch.randn(1, 1, RATE // 8, generator=generator),
    }
    for i, case in enumerate(variants()):
        model = case.make(seed=i).eval()
        model.save_pretrained(tmp_path / str(i))
        with torch.no_grad():
            known[str(i)] = model(known["waveform" if case.hears_waveforms else "spectrogram"]).contiguous()
    save_file(known, tmp_path / "known.safetensors")
    script = LOADER.format(optional=OPTIONAL, threads=torch.get_num_threads())
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    n_models, *wrong = done.stdout.split()
    assert int(n_models) > 450
    assert wrong == []


# ---- nonsense

HUGE = 10_000_000  # in between are sizes for which there is no memory, which no check can tell
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.sampled_from([HUGE, -HUGE, 10**30]),
    st.floats(-3, 12),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), b"GRU", object(), {}, [], (), {1: 2}, [None], {3}]),
    st.lists(st.integers(-1, 9), max_size=3),
    st.tuples(st.integers(-1, 9), st.integers(-1, 9)),
    st.sampled_from(
        ["", "nonsense", "LC", "FC", "CONV", "rope", "sinusoidal", "batch", "layer", "before", "after", "same", "valid"]
    ),
    st.sampled_from([*BACKBONES, "vanilla", *KERNELS, *ACTIVATIONS, *PREFILTERS, *FRONTENDS]),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["nonsense", None, 3, "separable", "parametric", "adaptrans", "logmel", "lmu", "S4"])},
        optional={
            "rank": st.integers(-1, 30),
            "num_gaussians": st.sampled_from([0, 2, 2.5]),
            "init_w": st.floats(-1, 2),
            "dt_ms": st.sampled_from([-1, 0, 5.0, "5"]),
            "sample_rate": st.sampled_from([0, 8000, None]),
            "theta": st.floats(-1, 50),
            "state_size": st.integers(-1, 9),
            "n_bands": st.integers(0, 40),
        },
    ),
)


@st.composite
def nonsense(draw):
    """A model's name and some of its arguments, most of them wrong; sometimes one that it does not take."""
    name = draw(st.sampled_from(models.available()))
    taken = sorted(inspect.signature(models.ZOO[name]).parameters)
    names = draw(st.lists(st.sampled_from([*taken, "colour"]), min_size=1, max_size=4, unique=True))
    plausible = st.integers(1, 12) | st.none()  # so that some of them work
    return name, {option: draw(draw(st.sampled_from([plausible, VALUES]))) for option in names}


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(nonsense())
def test_nonsense_is_refused_by_name_or_works(arguments):
    name, options = arguments
    message = refusal(models.build, name, **options)
    if message is not None:
        named = {*options, *(str(k) for v in options.values() if isinstance(v, dict) for k in v)}
        assert any(word in message for word in named), f"{options} gives {message}"
        return
    model, n_frames = models.build(name, **options), 11
    if model.wav2spec is None:
        x = torch.randn(1, 1, model.n_frequency_bands, n_frames)
    else:
        x = torch.randn(1, 1, int(model.wav2spec.samples_per_frame * n_frames) + 1)
    with torch.no_grad():
        y = model.eval()(x)
    assert y.shape == (1, model.out_neurons, 1, n_frames)
    assert torch.isfinite(y).all()


def test_a_wrong_option_of_a_part_is_named():
    for option, part, named in [
        ("kernel", {"type": "separable", "rank": -1}, "rank=-1"),
        ("kernel", {"type": "parametric", "num_gaussians": 0}, "num_gaussians=0"),
        ("kernel", {"type": "separable", "colour": 1}, "colour"),
        ("prefiltering", {"type": "adaptrans", "rectify": "yes"}, "rectify='yes'"),
        ("wav2spec", {"type": "logmel", "sample_rate": -1}, "sample_rate=-1"),
        ("output_activation", {"type": "parametric_softplus", "slope": 0}, "slope=0"),
    ]:
        with pytest.raises(ValueError, match=named):
            models.build("Linear", **{option: part})


# ---- what importing needs


def test_importing_needs_nothing_optional():
    code = f"import sys\nfor name in {OPTIONAL!r}: sys.modules[name] = None\nimport json, strflab.models\n"
    code += "print(json.dumps([type(strflab.models.build(n)).__name__ for n in strflab.models.available()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == models.available()


# ---- what breaks a rule is found; classes of one's own


class Own(models.Model):
    """A model as the guide has it, with one fault at a time."""

    def __init__(self, n_frequency_bands: int = 34, out_neurons: int = 1, *, fault: str | None = None):
        super().__init__(n_frequency_bands, out_neurons)
        self.fault = fault
        self.core = layers.Chain(
            layers.CausalSTRFConv(n_frequency_bands, 5, 1, 4),
            *([layers.Recurrence(Ahead(4))] if fault == "future" else []),
            *([Forgetful()] if fault == "stream" else []),
        )
        activation = nn.Softsign() if fault == "unsaved" else self.make_output_activation()
        self.readout = layers.LinearReadout(4, out_neurons, activation=activation)

    @property
    def memory(self):
        return 4 if self.fault == "memory" else super().memory


class Ahead(layers.Backbone):
    """It hears the next frame."""

    def stream(self, x, state=None):
        return x + torch.roll(x, -1, 1), None


class Forgetful(layers.CausalLayer):
    """It starts anew with each chunk."""

    def forward(self, x):
        return x - x[..., :1]


@pytest.mark.parametrize(
    ("fault", "rules", "message"),
    [
        ("future", ["1 causal", "2 clips", "3 streaming"], "frame 36 changes when the sound does so from frame 37 on"),
        ("stream", ["3 streaming"], "in pieces of 1 it is not the whole"),
        ("memory", ["5 gradmap"], "the model remembers more"),
        (None, [], ""),
    ],
)
def test_a_fault_is_found_by_its_rule(fault, rules, message):
    found = models.rules
    held = {name: rule for name, rule in found.RULES.items() if name not in ("7 arguments", "8 compiling")}
    subject = found.Subject(Own, {"fault": fault}, {"4 weight": found.SEVERAL})
    broken = {}
    for name, rule in held.items():
        try:
            rule(subject)
        except Broken as error:
            broken[name] = str(error)
    assert [name for name in rules if name not in broken] == []
    assert not (broken and fault is None)
    assert any(message in text for text in broken.values()) or fault is None


def test_check_lists_every_rule_that_does_not_hold():
    with pytest.raises(Broken) as raised:
        models.check(Own)
    lines = str(raised.value).splitlines()
    assert lines[0] == "1 of 11 rules do not hold for Own"
    assert lines[1].startswith("7 arguments: fault=")  # it takes anything
    with pytest.raises(ValueError, match="'1 casual' is no rule"):
        models.check(Own, {"1 casual": "?"})


def test_a_class_of_ones_own_is_found_by_its_name():
    assert type(models.build("Own", out_neurons=2)) is Own
    assert models.build("StateNet", rnn_type="Ahead").core.recurrence.backbone.size == 70
    assert type(models.build("StateNet", rnn_type={"type": "Ahead"}).core.recurrence.backbone) is Ahead
    for name in ("Model", "_Gated", "Chain", "GRU"):
        assert "must be one of" in refusal(models.build, name)
    for name in ("Backbone", "_Gated", "Linear", "AdapTrans"):
        assert "rnn_type" in refusal(models.build, "StateNet", rnn_type=name)


# ---- the contract of layers


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_keep_the_contract(name):
    layer = layers.make_backbone(name, 6)
    assert layers.check(layer, exact=name not in ("S4", "S4D"))[0] == "causal"


@pytest.mark.parametrize("name", ["ic_adaptation", "adaptrans"])
def test_prefilters_keep_the_contract(name):
    layers.check(layers.make_prefiltering(name, 12))


def test_frontends_keep_the_contract():
    for name in ("logmel", "ns1"):
        layers.check(layers.make_frontend("wav2spec", FRONTENDS[name], 12))
    with pytest.raises(ValueError, match="samples, must be a whole number"):
        layers.check(layers.LogMel())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Ahead(6), "causal: frame 52 changes when the sound does so from frame 53 on"),
        (Forgetful(), "streaming: in pieces of 1 it is not the whole"),
        (nn.Conv2d(2, 3, (6, 2)), "causal: 120 frames come in, 119 come out"),
        (nn.BatchNorm2d(2).train(), None),  # in evaluation mode it is a constant
        (nn.Sequential(nn.Flatten(2, 2), nn.Softmax(0)), "clips: a clip changes with the others of its batch"),
        (nn.Dropout(1.0), None),
    ],
)
def test_a_layer_that_breaks_the_contract_is_found(layer, message):
    x = torch.randn(2, 2, 6, 120, generator=torch.Generator().manual_seed(0))
    x = None if isinstance(layer, layers.Backbone) else x
    if message is None:
        layers.check(layer, x)
        return
    with pytest.raises(Broken, match=message):
        layers.check(layer, x)


def test_a_layer_that_remembers_more_than_it_says_is_found():
    layer, x = layers.CausalSTRFConv(6, 4, 1, 2), torch.randn(2, 1, 6, 120)
    layers.check(layer, x)
    layer_of_three = type("Three", (layers.CausalSTRFConv,), {"memory": 3})
    with pytest.raises(Broken, match="memory: it says 3, and remembers more"):
        layers.check(layer_of_three(6, 4, 1, 2), x)
    for wrong in (None, x[:1], x[..., :50]):
        with pytest.raises(ValueError, match="x"):
            layers.check(layer, wrong)
