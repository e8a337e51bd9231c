"""The transformer: parameter counts, torch's own encoder as its twin, and what holds for every model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from strflab import models
from strflab.models.transformer import Transformer

SETTINGS = [
    {},
    {"context_window": 20},
    {"position": "rope", "context_window": 8, "n_heads": 2, "n_layers": 2},
    {"freq_patch_size": 17, "time_patch_size": 3, "embedding_dim": 8, "n_heads": 4, "n_layers": 2},
    {"position": "rope", "freq_patch_size": 1, "embedding_dim": 1},
    {"prefiltering": "adaptrans", "context_window": 5},
]


def sound(n_frames=100, n_clips=2, seed=0):
    return torch.randn(n_clips, 1, 34, n_frames, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n_neurons", "n_parameters"), [(1, 30_001), (119, 35_783)])
def test_parameter_counts(n_neurons, n_parameters):
    assert sum(p.numel() for p in Transformer(out_neurons=n_neurons).parameters()) == n_parameters


def test_is_torchs_encoder_over_patches():
    torch.manual_seed(0)
    options = {"freq_patch_size": 17, "time_patch_size": 3, "embedding_dim": 8, "n_heads": 2, "n_layers": 2}
    model = Transformer(34, 5, context_window=11, **options)
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "relu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = {
        "attention.in_proj.": "self_attn.in_proj_",
        "attention.out_proj": "self_attn.out_proj",
        "expand": "linear1",
        "contract": "linear2",
        "attention_norm": "norm1",
        "dense_norm": "norm2",
    }
    weights = {}
    for i, encoder_layer in enumerate(list(model.core.layers)[1:]):
        for name, weight in encoder_layer.state_dict().items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            weights[f"layers.{i}.{name}"] = weight
    encoder.load_state_dict(weights)

    x = sound()
    patches = nn.functional.pad(x, (2, 0)).unfold(2, 17, 17).unfold(3, 3, 1)  # (B, 1, 2, T, 17, 3)
    tokens = torch.einsum("bcptfk,ecfk->btep", patches, model.core.patchify.weight).add(
        model.core.patchify.bias[:, None]
    )
    angle = torch.arange(100)[:, None] / 10_000 ** (torch.arange(0, 16, 2) / 16)
    tokens = tokens.flatten(2) + torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
    lag = torch.arange(100)[:, None] - torch.arange(100)
    hidden = encoder(tokens, mask=~((lag >= 0) & (lag < 11)))
    y = model.readout.fc(hidden).transpose(1, 2).unsqueeze(2)
    assert torch.allclose(model(x), y, atol=1e-5)


@pytest.mark.parametrize("options", SETTINGS)
def test_the_future_changes_no_bit_of_the_past(options):
    model, x = Transformer(out_neurons=3, **options), sound()
    other = torch.cat([x[..., :60], 100 * sound(40, seed=1)], -1)
    assert torch.equal(model(x)[..., :60], model(other)[..., :60])


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("chunk", [1, 7, 250])
def test_stream_is_the_whole(options, chunk):
    model, x = Transformer(out_neurons=3, **options).eval(), sound(260, 1)
    state, y = None, []
    for frames in x.split(chunk, -1):
        out, state = model.stream(frames, state)
        y.append(out)
    whole = model(x)
    assert (torch.cat(y, -1) - whole).abs().max() < 1e-5 * whole.abs().max()


def test_one_bad_frame_spoils_only_what_sees_it():
    """Attention in other libraries turns one NaN frame into NaN everywhere."""
    model, x = Transformer(context_window=10, n_layers=2, time_patch_size=2), sound()
    y = model(x)
    x[0, 0, 5, 40] = torch.nan
    spoilt = model(x)
    last = 40 + int(model.memory)
    assert spoilt[0, ..., 40:last].isnan().all()
    rest = torch.ones(100, dtype=torch.bool)
    rest[40:last] = False
    assert torch.equal(spoilt[0][..., rest], y[0][..., rest])
    assert torch.equal(spoilt[1], y[1])


def test_memory_is_what_the_gradient_reaches():
    model = Transformer(out_neurons=2, context_window=6, n_layers=2, time_patch_size=3)
    assert model.memory == 2 * 5 + 3
    field = model.STRF_gradmap(torch.randn(34, 80), n_lags=40).abs().sum((0, 1, 2))
    assert (field[:-13] == 0).all()
    assert (field[-13:] > 0).all()
    assert Transformer().memory == float("inf")


def test_double_precision_and_autocast():
    model, x = Transformer(out_neurons=3, context_window=20, position="rope"), sound()
    y = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x)
    assert (rough.float() - y).abs().max() < 0.05 * y.abs().max()
    assert torch.allclose(model.double()(x.double()).float(), y, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"context_window": 20, "position": "rope", "n_heads": 2}])
def test_compiles_whole(options):
    model, x = Transformer(out_neurons=3, **options).eval(), sound(60)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for n_frames in (60, 33):
        assert torch.allclose(compiled(x[..., :n_frames]), model(x[..., :n_frames]), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"context_window": 20, "position": "rope", "n_heads": 2}])
def test_exports_for_any_length(options):
    model = Transformer(out_neurons=3, **options).eval()
    frames = torch.export.Dim("frames", min=2, max=100_000)
    program = torch.export.export(model, (sound(50),), dynamic_shapes={"x": {3: frames}}).module()
    for n_frames in (2, 20, 31, 64, 100):
        x = sound(n_frames)
        assert torch.allclose(program(x), model(x), atol=1e-5)


@pytest.mark.parametrize("window", [None, 10])
def test_many_models_and_jacobians_at_once(window):
    torch.manual_seed(0)
    several = [Transformer(out_neurons=2, context_window=window) for _ in range(3)]
    parameters, _ = torch.func.stack_module_state(several)
    x = sound(40)
    y = torch.func.vmap(lambda p: torch.func.functional_call(several[0], p, (x,)))(parameters)
    assert torch.allclose(y, torch.stack([model(x) for model in several]), atol=1e-5)
    model = several[0]
    jacobian = torch.func.jacrev(lambda x: model(x)[0, :, 0, -1])(x[:1])  # (N, 1, 1, F, T)
    assert torch.allclose(jacobian[:, 0], model.STRF_gradmap(x[0], n_lags=40), atol=1e-6)


@pytest.mark.parametrize("options", SETTINGS)
def test_saved_and_loaded(options, tmp_path):
    model, x = Transformer(out_neurons=3, **options).eval(), sound()
    model.save_pretrained(tmp_path)
    assert torch.equal(models.from_pretrained(tmp_path)(x), model(x))


def test_a_short_training_run_learns():
    """The answer to a tone five frames ago is within reach of attention and not of a single frame."""
    torch.manual_seed(0)
    model = Transformer(4, 1, embedding_dim=16, context_window=8)
    x = torch.randn(8, 1, 4, 100, generator=torch.Generator().manual_seed(0))
    target = nn.functional.pad(x[:, :, :1], (5, 0))[..., :100]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (model(x) - target)[..., 5:].square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.5


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"freq_patch_size": 5}, "freq_patch_size=5"),
        ({"freq_patch_size": 0}, "freq_patch_size=0"),
        ({"freq_patch_size": 35}, "freq_patch_size=35"),
        ({"time_patch_size": 0}, "time_patch_size=0"),
        ({"context_window": -1}, "context_window=-1"),
        ({"embedding_dim": 7}, "embedding_dim=7"),
        ({"n_heads": 5}, "n_heads=5"),
        ({"n_heads": 16, "position": "rope"}, "n_heads=16"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"position": "learned"}, "position='learned'"),
    ],
)
def test_wrong_arguments(arguments, names):
    with pytest.raises(ValueError, match=names):
        Transformer(**arguments)


def test_an_odd_embedding_of_an_even_token():
    assert Transformer(34, freq_patch_size=17, embedding_dim=7)(sound()).shape == (2, 1, 1, 100)
