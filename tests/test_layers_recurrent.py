"""The backbones' contract, and the gated networks against torch's."""

import copy

import pytest
import torch

from strflab.layers import GRU, LMU, LSTM, RNN, S4, S4D, Backbone, Mamba, Recurrence, make_backbone
from strflab.layers.config import from_config
from strflab.layers.loops import loop

SMALL = [
    GRU(6),
    LSTM(6),
    RNN(6),
    LMU(6, memory_size=8, theta=12),
    Mamba(6, state_size=4),
    S4(6, state_size=8),
    S4D(6, state_size=8),
]
GATED = {GRU: torch.nn.GRU, LSTM: torch.nn.LSTM, RNN: torch.nn.RNN}
backbones = pytest.mark.parametrize("backbone", SMALL, ids=lambda b: type(b).__name__)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def streamed(backbone, x, n):
    state, parts = None, []
    for chunk in x.split(n, 1):
        y, state = backbone.stream(chunk, state)
        parts.append(y)
    return torch.cat(parts, 1)


@backbones
@pytest.mark.parametrize("n", [1, 7, 50])
def test_chunks_give_the_whole(backbone, n):
    x = torch.randn(3, 120, 6)
    torch.testing.assert_close(streamed(backbone, x, n), backbone(x), rtol=1e-5, atol=1e-5)


@backbones
def test_neither_the_future_nor_other_clips_come_in(backbone):
    x = torch.randn(3, 100, 6)
    changed = x.clone()
    changed[:, 60:] += 3
    changed[1] -= 2
    y, z = backbone(x)[::2], backbone(changed)[::2]
    # the transform of a whole clip carries round-off from the end to the start
    tolerance = 1e-5 if isinstance(backbone, (S4, S4D)) else 0
    torch.testing.assert_close(z[:, :60], y[:, :60], rtol=0, atol=tolerance)
    assert not torch.allclose(z[:, 60:], y[:, 60:], atol=1e-3)


@backbones
def test_no_state_is_kept_between_calls(backbone):
    x = torch.randn(2, 40, 6)
    first = backbone(x)
    backbone(torch.randn(2, 17, 6))
    backbone.stream(torch.randn(2, 3, 6))
    assert torch.equal(backbone(x), first)


@backbones
def test_vmap_over_models_and_grad(backbone):
    """Sweeps run many models at once: weights stacked, torch.func over them."""
    x = torch.randn(2, 9, 6)
    weights = [{k: v.detach() + 0.1 * i for k, v in backbone.state_dict().items()} for i in range(2)]

    def loss(w):
        return torch.func.functional_call(backbone, w, (x,)).square().sum()

    stacked = {k: torch.stack([w[k] for w in weights]) for k in weights[0]}
    many = torch.func.vmap(torch.func.grad(loss))(stacked)
    for i, w in enumerate(weights):
        w = {k: v.requires_grad_() for k, v in w.items()}
        one = torch.autograd.grad(loss(w), list(w.values()), allow_unused=True)
        for name, gradient in zip(w, one):
            if gradient is not None:
                torch.testing.assert_close(many[name][i], gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item())


@backbones
def test_bfloat16_autocast_keeps_the_recurrence_in_full_precision(backbone):
    x = torch.randn(2, 30, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = backbone(x)
        z = streamed(backbone, x, 10)
    torch.testing.assert_close(y.float(), backbone(x), rtol=0.05, atol=0.05)
    torch.testing.assert_close(z.float(), y.float(), rtol=0.05, atol=0.05)


@backbones
def test_exported_program_runs_at_any_length(backbone):
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(backbone, (torch.randn(2, 70, 6),), dynamic_shapes=({0: dynamic, 1: dynamic},))
    for n_frames in (1, 64, 150):
        x = torch.randn(3, n_frames, 6)
        torch.testing.assert_close(program.module()(x), backbone(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GATED, ids=lambda c: c.__name__)
def test_gated_networks_are_those_of_torch(kind):
    ours, theirs = kind(5).double(), GATED[kind](5, 5, batch_first=True).double()
    ours.load_state_dict({name.removesuffix("_l0"): w for name, w in theirs.state_dict().items()})
    x = torch.randn(3, 40, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x)[0])
    ours(x).square().sum().backward()
    theirs(x)[0].square().sum().backward()
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, getattr(theirs, f"{name}_l0").grad)


@pytest.mark.parametrize("kind", GATED, ids=lambda c: c.__name__)
def test_each_way_to_run_a_gated_network_gives_its_steps(kind):
    network = kind(5).double()
    x, state = random(3, 20, 5), tuple(random(3, 5) for _ in range(kind.n_states))
    expected, last = loop(network.step, state, (network.project(x),))
    y, end = network.run(network.project(x), state)
    torch.testing.assert_close((y, end), (expected, last))
    y, end = network.run_kernel(x, state)
    torch.testing.assert_close((y.transpose(0, 1), end), (expected, last))


@backbones
def test_traced_gradient_is_the_gradient(backbone):
    backbone = copy.deepcopy(backbone).double()
    x, weights = torch.randn(2, 70, 6, dtype=torch.float64), list(backbone.parameters())
    expected = torch.autograd.grad(backbone(x).square().sum(), weights)
    y = torch.compile(backbone, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), weights), expected, rtol=1e-6, atol=1e-8)


def test_recurrence_reads_channels_then_bands():
    layer = Recurrence(RNN(6))
    x = torch.randn(2, 3, 2, 10)
    expected = layer.backbone(x.reshape(2, 6, 10).transpose(1, 2)).transpose(1, 2)
    assert torch.equal(layer(x), expected[:, :, None])
    y, state = layer.stream(x[..., :4])
    z, _ = layer.stream(x[..., 4:], state)
    torch.testing.assert_close(torch.cat([y, z], -1), layer(x))
    assert layer.memory == float("inf")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("GRU", GRU), ("lstm", LSTM), ("RNN", RNN), ("vanilla", RNN), ("LMU", LMU), ("mamba", Mamba), ("S4", S4)],
)
def test_backbones_by_name(name, kind):
    assert type(make_backbone(name, 4)) is kind
    assert make_backbone({"type": name}, 4).size == 4


def test_backbones_with_options_and_instances():
    assert make_backbone({"type": "S4D", "state_size": 16}, 4).state_size == 16
    backbone = LMU(4, theta=20)
    assert make_backbone(backbone, 4) is backbone
    again = from_config(backbone.config)
    assert type(again) is LMU
    assert (again.size, again.theta, again.memory_size) == (4, 20, 128)


@pytest.mark.parametrize(
    ("rnn_type", "size", "named"),
    [
        ("gru2", 4, "rnn_type="),
        (None, 4, "rnn_type=None"),
        ({"type": "GRU", "layers": 2}, 4, "rnn_type="),
        ({"type": "LMU", "theta": 0}, 4, "theta=0"),
        ({"theta": 9}, 4, "rnn_type="),
        (torch.nn.GRU(4, 4), 4, "rnn_type="),
        ("GRU", 0, "size=0"),
    ],
)
def test_wrong_backbones(rnn_type, size, named):
    with pytest.raises(ValueError, match=named):
        make_backbone(rnn_type, size)


def test_backbone_of_another_width():
    with pytest.raises(ValueError, match="made for width 3, must be 4"):
        make_backbone(GRU(3), 4)
    with pytest.raises(NotImplementedError):
        Backbone(3)(torch.zeros(1, 1, 3))
