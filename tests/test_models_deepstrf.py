"""Checkpoints of deepSTRF: the ten with known outputs, and every other option against a twin written from its formulas.

A twin is a module of plain torch whose weights have the names and shapes of a deepSTRF 0.1 checkpoint.
"""

import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from strflab import models
from strflab.models import from_deepstrf

CHECKPOINTS = sorted(p for p in (Path(__file__).parent / "deepstrf_checkpoints").iterdir() if p.is_dir())
BANDS, LAGS, NEURONS = 12, 5, 3


def write(folder, config, weights):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: w.detach().clone().contiguous() for name, w in weights.items()}, folder / "model.safetensors")
    return folder


def sound(n_frames=60):
    return torch.randn(2, 1, BANDS, n_frames, generator=torch.Generator().manual_seed(1))


def assert_same(model, twin, tolerance=1e-5):
    x = sound()
    with torch.no_grad():
        ours, theirs = model(x), twin.eval()(x)
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


# ---- the ten


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda p: p.name)
def test_same_output(folder):
    model, known = from_deepstrf(folder), load_file(folder / "io.safetensors")
    with torch.no_grad():
        y = model(known["input"])
    tolerance = 1e-2 if folder.name == "dnet" else 1e-5  # the decay is cut there, exact here
    assert (y - known["output"]).abs().max() <= tolerance * known["output"].abs().max()
    assert not model.training


def test_all_ten_are_here():
    assert len(CHECKPOINTS) == 10


def test_what_is_read_can_be_saved(tmp_path):
    for folder in CHECKPOINTS:
        model, x = from_deepstrf(folder), torch.randn(1, 1, 20, 30)
        model.save_pretrained(tmp_path / folder.name)
        assert torch.equal(models.from_pretrained(tmp_path / folder.name)(x), model(x))


# ---- linear models: kernels, prefilters, nonlinearities


class LinearTwin(nn.Module):
    """Prefilter, filter, batch norm, nonlinearity, with the names of a `LinearNonlinear`."""

    def __init__(self, kernel, prefiltering=None, activation=None):
        super().__init__()
        self.prefiltering = prefiltering or nn.Identity()
        self.readout = nn.Module()
        self.readout.strf = nn.Module()
        self.readout.strf.kernel = kernel
        self.readout.bn = nn.BatchNorm1d(NEURONS)
        nn.init.uniform_(self.readout.bn.running_mean)
        nn.init.uniform_(self.readout.bn.running_var, 0.5, 2)
        nn.init.uniform_(self.readout.bn.weight)
        self.readout.activation = activation or Softplus()

    def forward(self, x):
        y = self.readout.strf.kernel(F.pad(self.prefiltering(x), (LAGS - 1, 0)))
        return self.readout.activation(self.readout.bn(y.squeeze(2)).mT).mT.unsqueeze(2)


class Softplus(nn.Module):
    def __init__(self, signed=False):
        super().__init__()
        self._raw_beta, self._raw_b = nn.Parameter(torch.rand(NEURONS)), nn.Parameter(torch.rand(NEURONS) - 2)
        self.signed = signed

    def forward(self, x):  # (B, T, N)
        beta = F.softplus(self._raw_beta)
        return F.softplus(beta * x) / beta + (self._raw_b if self.signed else F.softplus(self._raw_b))


class Sigmoid(nn.Module):
    def __init__(self, b, d, a=None, signed=False):
        super().__init__()
        self.c, self.d = nn.Parameter(torch.randn(NEURONS)), nn.Parameter(torch.tensor(d))
        self._raw_b, self.signed = nn.Parameter(torch.tensor(b)), signed
        self._raw_a = None if a is None else nn.Parameter(torch.tensor(a))

    def forward(self, x):
        positive = (lambda v: v) if self.signed else F.softplus
        y = positive(self._raw_b) * torch.sigmoid((x - self.c) / self.d)
        return y if self._raw_a is None else y + positive(self._raw_a)


class DoubleExponential(nn.Module):
    def __init__(self, k, version="0.1.0", bias=True, signed=False):
        super().__init__()
        self.k, self.s = nn.Parameter(torch.tensor(k)), nn.Parameter(torch.randn(NEURONS))
        self._raw_a = nn.Parameter(torch.rand(NEURONS))
        self._raw_b = nn.Parameter(torch.rand(NEURONS)) if bias else None
        self.version, self.signed = version, signed

    def forward(self, x):
        positive = (lambda v: v) if self.signed else F.softplus
        inner = self.k * x - self.s if self.version == "0.1.0" else -torch.exp(self.k) * (x - self.s)
        y = positive(self._raw_a) * torch.exp(-torch.exp(inner))
        return y if self._raw_b is None else y + positive(self._raw_b)


class Separable(nn.Module):
    def __init__(self, n_in=1, bias=True):
        super().__init__()
        self.weight_f = nn.Parameter(torch.randn(NEURONS, n_in, BANDS, 1))
        self.weight_t = nn.Parameter(torch.randn(NEURONS, n_in, 1, LAGS))
        self.bias = nn.Parameter(torch.randn(NEURONS)) if bias else None

    def forward(self, x):
        return F.conv2d(x, self.weight_f * self.weight_t, self.bias)


class Gaussians(nn.Module):
    """With some centres beyond the grid, where nothing keeps them from going."""

    def __init__(self, n_in=1, n=4):
        super().__init__()
        size = torch.tensor([BANDS, LAGS]).reshape(2, 1, 1, 1)
        self.P = nn.Parameter((1.4 * torch.rand(2, NEURONS, n_in, n) - 0.2) * size)
        self.SIG = nn.Parameter(2 * torch.randn(2, NEURONS, n_in, n))
        self.weight, self.bias = nn.Parameter(torch.randn(NEURONS, n_in, n)), nn.Parameter(torch.randn(NEURONS))

    def forward(self, x):
        sd = self.SIG.abs() + 0.27
        band, lag = torch.arange(BANDS)[:, None, None, None, None], torch.arange(LAGS)[:, None, None, None]
        g = torch.exp(-0.5 * (((band - self.P[0]) / sd[0]) ** 2 + ((lag - self.P[1]) / sd[1]) ** 2))
        kernel = (g / (g.sum((0, 1)) + 1e-7) * self.weight).sum(-1)
        return F.conv2d(x, kernel.permute(2, 3, 0, 1), self.bias)


class OnOff(nn.Module):
    def __init__(self, n_taps=400):
        super().__init__()
        self.d_on, self.d_off, self.p = (nn.Parameter(0.2 + 0.3 * torch.rand(BANDS)) for _ in range(3))
        self.n_taps = n_taps

    def mean_of_past(self, x, a):
        weights = a[:, None] ** torch.arange(self.n_taps).flip(0)
        x = F.pad(x, (self.n_taps, 0), mode="replicate")[..., :-1]
        return F.conv1d(x, (weights / weights.sum(1, keepdim=True))[:, None], groups=BANDS)

    def forward(self, x):
        x, w = x[:, 0], 1 / (1 + self.p[:, None] ** 2)
        on = x - w * self.mean_of_past(x, 1 / (1 + self.d_on**2))
        off = self.mean_of_past(x, 1 / (1 + self.d_off**2)) - w * x
        return torch.relu(torch.stack([on, off], 1))


class Adaptation(OnOff):
    def __init__(self):
        super().__init__()
        del self.d_on, self.d_off, self.p
        self.register_buffer("a", 0.8 + 0.15 * torch.rand(BANDS))

    def forward(self, x):
        return torch.relu(x[:, 0] - self.mean_of_past(x[:, 0], self.a)).unsqueeze(1)


class TwoConvolutions(nn.Sequential):
    """Over bands, then over frames, one a channel."""

    def __init__(self, n_in=1):
        super().__init__(nn.Conv2d(n_in, NEURONS, (BANDS, 1)), nn.Conv2d(NEURONS, NEURONS, (1, LAGS), groups=NEURONS))


def linear(tmp_path, twin, *modules, **options):
    """The twin as a checkpoint, read; `modules` are the arguments that were modules."""
    config = {"_model_class": "LinearNonlinear", "n_frequency_bands": BANDS, "temporal_window_size": LAGS}
    config |= {"out_neurons": NEURONS, "kernel": None, "output_activation": None, "prefiltering": None}
    config = {name: value for name, value in config.items() if name not in modules}
    return from_deepstrf(write(tmp_path / "checkpoint", config, twin.state_dict()), **options)


@pytest.mark.parametrize("n_in", [1, 2])
@pytest.mark.parametrize("kernel", [Separable, Gaussians, TwoConvolutions])
def test_kernels(kernel, n_in, tmp_path):
    torch.manual_seed(0)
    prefilter = OnOff() if n_in == 2 else None
    twin = LinearTwin(kernel(n_in), prefilter)
    model = linear(tmp_path, twin, "kernel", *(["prefiltering"] if prefilter else []))
    assert_same(model, twin)


@pytest.mark.parametrize(
    "kernel", [Separable(bias=False), nn.Conv2d(1, NEURONS, (BANDS, LAGS), bias=False)], ids=["separable", "full"]
)
def test_a_kernel_of_ones_own_without_bias(kernel, tmp_path):
    twin = LinearTwin(kernel)
    assert_same(linear(tmp_path, twin, "kernel"), twin)


@pytest.mark.parametrize("prefilter", [OnOff, Adaptation])
def test_prefilters(prefilter, tmp_path):
    twin = LinearTwin(nn.Conv2d(2 if prefilter is OnOff else 1, NEURONS, (BANDS, LAGS)), prefilter())
    assert_same(linear(tmp_path, twin, "prefiltering"), twin)


@pytest.mark.parametrize(
    ("activation", "options"),
    [
        (Softplus(), {"non_negative_output": True}),
        (Softplus(signed=True), {"non_negative_output": False}),
        (Sigmoid([-0.5, 1.0, 2.0], [0.1, 1.0, 3.0], [-3.0, 0.0, 1.0]), {"non_negative_output": True}),
        (Sigmoid([-0.5, 1.0, 2.0], [0.1, 1.0, 3.0]), {"non_negative_output": True}),
        (Sigmoid([-0.5, 1.0, 2.0], [-0.1, 1.0, 3.0], [-3.0, 0.0, 1.0], signed=True), {"non_negative_output": False}),
        (Sigmoid([-0.5, 1.0, 2.0], [-0.1, 1.0, 3.0], signed=True), {"non_negative_output": False}),
        (DoubleExponential([-0.5, -1.0, -0.1]), {"non_negative_output": True, "version": "0.1.0"}),
        (DoubleExponential([-0.5, 1.0, 0.1], "0.1.1"), {"non_negative_output": True, "version": "0.1.1"}),
        (
            DoubleExponential([-0.5, 1.0, 0.1], "0.1.1", signed=True),
            {"non_negative_output": False, "version": "0.1.1"},
        ),
        (
            DoubleExponential([-0.5, -1.0, -0.1], bias=False),
            {"non_negative_output": True, "version": "0.1.0"},
        ),
        (nn.Sigmoid(), {"output_activation": "sigmoid"}),
        (nn.ReLU(), {"output_activation": nn.ReLU()}),
    ],
)
def test_nonlinearities(activation, options, tmp_path):
    twin = LinearTwin(nn.Conv2d(1, NEURONS, (BANDS, LAGS)), activation=activation)
    assert_same(linear(tmp_path, twin, "output_activation", **options), twin)


@pytest.mark.parametrize(
    ("activation", "options", "message"),
    [
        (nn.Sigmoid(), {}, "output_activation: a module without weights"),
        (nn.PReLU(), {"non_negative_output": True}, "output_activation: an unknown module with the weights weight"),
        (Sigmoid([1.0] * 3, [1.0, -1.0, 1.0]), {"non_negative_output": True}, "output_activation: falls"),
        (DoubleExponential([-1.0] * 3), {"non_negative_output": True}, "version=None: must be one of '0.1.0'"),
        (
            DoubleExponential([0.1, -1.0, -1.0]),
            {"non_negative_output": True, "version": "0.1.0"},
            "output_activation: a ParametricDoubleExponential that falls",
        ),
    ],
)
def test_nonlinearities_without_an_equal(activation, options, message, tmp_path):
    twin = LinearTwin(nn.Conv2d(1, NEURONS, (BANDS, LAGS)), activation=activation)
    with pytest.raises(ValueError, match=message):
        linear(tmp_path, twin, "output_activation", **options)


def test_a_guess_is_told(tmp_path):
    twin = LinearTwin(nn.Conv2d(1, NEURONS, (BANDS, LAGS)))
    with pytest.warns(UserWarning, match="non_negative_output=True"):
        assert_same(linear(tmp_path, twin, "output_activation"), twin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear(tmp_path, twin)
    with pytest.raises(ValueError, match="the class's own"):
        linear(tmp_path, twin, output_activation="relu")


def test_hidden_filters_and_decay(tmp_path):
    """A `DNet` with a separable kernel; its decay, short beside the sound, is not cut in the twin."""
    torch.manual_seed(0)

    class Decay(nn.Module):
        def __init__(self):
            super().__init__()
            self.d = nn.Parameter(torch.rand(NEURONS))

        def forward(self, x):
            tau = 1 + self.d[:, None] ** 2
            state, frames = x[:, :, 0, :1] * tau, []  # without division by tau, the steady state is tau times as high
            for frame in x[:, :, 0].unbind(-1):
                state = (1 - 1 / tau) * state + frame.unsqueeze(-1)
                frames.append(state)
            return torch.cat(frames, -1).unsqueeze(2)

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln = nn.LayerNorm(NEURONS)

        def forward(self, x):
            return self.ln(x.movedim(1, -1)).movedim(-1, 1)

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            filters = nn.Module()
            filters.kernel = Separable()
            filters.forward = lambda x: filters.kernel(F.pad(x, (LAGS - 1, 0)))
            self.core = nn.Sequential(filters, Norm(), nn.Sigmoid(), Decay())
            self.readout = nn.Module()
            self.readout.fc = nn.Linear(NEURONS, 2)

        def forward(self, x):
            return self.readout.fc(self.core(x)[:, :, 0].mT).mT.unsqueeze(2)

    config = {"_model_class": "DNet", "n_frequency_bands": BANDS, "temporal_window_size": LAGS, "n_hidden": NEURONS}
    config |= {"out_neurons": 2, "init_tau": 3.0, "decay_input": False, "output_activation": None, "prefiltering": None}
    twin = Twin()
    assert_same(from_deepstrf(write(tmp_path, config, twin.state_dict())), twin)


# ---- StateNet


class StateSpace(nn.Module):
    """The S4 block, frame by frame with dense matrices; `C` is stored for sounds of `n` frames, as it is when n = 0."""

    def __init__(self, size, n, n_states=8):
        super().__init__()
        self.layer, self.output_linear = nn.Module(), nn.Sequential(nn.Linear(size, 2 * size))
        self.layer.kernel, kernel = nn.Module(), {}
        self.layer.D = nn.Parameter(torch.randn(1, size))
        kernel["inv_dt"] = torch.empty(size, 1).uniform_(-4, -1)
        kernel["A_real"], kernel["A_imag"] = torch.randn(size, n_states // 2), 5 * torch.rand(size, n_states // 2)
        for name in ("P", "B", "C"):
            kernel[name] = torch.randn(1, size, n_states // 2, 2)
        for name, value in kernel.items():
            setattr(self.layer.kernel, name, nn.Parameter(value))
        self.layer.kernel.register_buffer("l_kernel", torch.tensor(n))
        self.c = self.whole("C")
        if n:
            transition, _ = self.discrete()
            stored = self.c - torch.einsum("hn,hnm->hm", self.c, torch.linalg.matrix_power(transition, n))
            half = torch.view_as_real(stored[:, : n_states // 2]).to(torch.float32)
            self.layer.kernel.C = nn.Parameter(half.unsqueeze(0))

    def whole(self, name):
        half = torch.view_as_complex(getattr(self.layer.kernel, name)[0].detach().double().contiguous())
        return torch.cat([half, half.conj()], -1)

    def discrete(self):
        k = self.layer.kernel
        a = torch.complex(-k.A_real.double().exp(), -k.A_imag.double()).detach()
        p = self.whole("P")
        a = torch.diag_embed(torch.cat([a, a.conj()], -1)) - p.unsqueeze(-1) * p.conj().unsqueeze(-2)
        delta, eye = k.inv_dt.detach().double().exp()[..., None], torch.eye(a.shape[-1])
        inverse = torch.linalg.inv(eye - delta / 2 * a)
        return inverse @ (eye + delta / 2 * a), (inverse @ (delta * self.whole("B").unsqueeze(-1)))[..., 0]

    def forward(self, x):
        transition, b = self.discrete()
        state, frames = torch.zeros(len(x), *b.shape, dtype=b.dtype), []
        for frame in x.unbind(1):
            state = torch.einsum("hnm,bhm->bhn", transition, state) + b * frame.unsqueeze(-1)
            frames.append((self.c * state).sum(-1).real.float())
        y = torch.stack(frames, 1) + self.layer.D[0] * x
        return F.glu(self.output_linear(F.gelu(y)), -1)


class StateNetTwin(nn.Module):
    SIZE, STRIDE, FEATURES = 4, 3, 2
    PLACES = (BANDS - SIZE) // STRIDE + 1
    WIDTH = FEATURES * PLACES

    def __init__(self, connectivity, rnn, n_in=1):
        super().__init__()
        self.connectivity, self.rnn = connectivity, rnn
        self.prefiltering = OnOff() if n_in == 2 else nn.Identity()
        norm = nn.Module()
        norm.ln = nn.LayerNorm(self.FEATURES)
        if connectivity == "LC":
            local = nn.Module()
            local.weights = nn.Parameter(torch.randn(self.FEATURES, n_in * self.SIZE, self.PLACES))
            local.biases = nn.Parameter(torch.randn(self.FEATURES, self.PLACES))
            self.encoder_layers = nn.ModuleList([local, norm])
        elif connectivity == "CONV":
            self.encoder_layers = nn.ModuleList([nn.Conv1d(n_in, self.FEATURES, self.SIZE, self.STRIDE), norm])
        else:
            dense = nn.Linear(n_in * BANDS, self.WIDTH)
            self.encoder_layers = nn.ModuleList([nn.Identity(), dense, nn.Identity(), norm])
        self.readout = nn.Module()
        self.readout.fc, self.readout.activation = nn.Linear(self.WIDTH, NEURONS), Softplus()

    def forward(self, x):
        x = self.prefiltering(x)
        n_clips, _, _, n_frames = x.shape
        x = x.permute(0, 3, 1, 2).flatten(0, 1)  # (B T, C, F)
        if self.connectivity == "LC":
            patches = F.unfold(x.unsqueeze(-1), (self.SIZE, 1), stride=(self.STRIDE, 1))  # (B T, C K, P)
            local = self.encoder_layers[0]
            z = torch.einsum("bkp,okp->bop", patches, local.weights) + local.biases
        elif self.connectivity == "CONV":
            z = self.encoder_layers[0](x)
        else:
            z = self.encoder_layers[1](x.flatten(1)).unflatten(1, (self.FEATURES, self.PLACES))
        z = torch.sigmoid(self.encoder_layers[-1].ln(z.mT).mT).flatten(1).unflatten(0, (n_clips, n_frames))
        h = self.rnn(z)
        h = h[0] if isinstance(h, tuple) else h
        return self.readout.activation(self.readout.fc(h)).mT.unsqueeze(2)

    def config(self, rnn_type):
        return {
            "_model_class": "StateNet",
            "connectivity": self.connectivity,
            "hidden_channels": self.FEATURES,
            "kernel_size": self.SIZE,
            "n_frequency_bands": BANDS,
            "out_neurons": NEURONS,
            "output_activation": None,
            "rnn_type": rnn_type,
            "stride": self.STRIDE,
            "temporal_window_size": 1,
            "wav2spec": None,
        } | ({} if isinstance(self.prefiltering, OnOff) else {"prefiltering": None})


@pytest.mark.parametrize("n_in", [1, 2])
@pytest.mark.parametrize("connectivity", ["LC", "FC", "CONV"])
def test_connectivities(connectivity, n_in, tmp_path):
    twin = StateNetTwin(connectivity, nn.GRU(StateNetTwin.WIDTH, StateNetTwin.WIDTH, batch_first=True), n_in)
    assert_same(from_deepstrf(write(tmp_path, twin.config("GRU"), twin.state_dict())), twin)


@pytest.mark.parametrize("rnn_type", ["RNN", "vanilla"])
def test_plain_recurrence(rnn_type, tmp_path):
    twin = StateNetTwin("LC", nn.RNN(StateNetTwin.WIDTH, StateNetTwin.WIDTH, batch_first=True))
    assert_same(from_deepstrf(write(tmp_path, twin.config(rnn_type), twin.state_dict())), twin)


@pytest.mark.parametrize("n", [0, 40, 200])
def test_state_space(n, tmp_path):
    torch.manual_seed(0)
    twin = StateNetTwin("CONV", StateSpace(StateNetTwin.WIDTH, n))
    assert_same(from_deepstrf(write(tmp_path, twin.config("S4"), twin.state_dict())), twin)


def test_state_space_of_higher_rank_has_no_equal(tmp_path):
    twin = StateNetTwin("LC", StateSpace(StateNetTwin.WIDTH, 0))
    p = twin.rnn.layer.kernel.P
    twin.rnn.layer.kernel.P = nn.Parameter(torch.cat([p, p]))
    with pytest.raises(ValueError, match="only rank 1"):
        from_deepstrf(write(tmp_path, twin.config("S4"), twin.state_dict()))


# ---- what does not fit is told


def changed(tmp_path, name, config=(), drop=(), **weights):
    """The checkpoint `name` with other entries; None takes an argument out."""
    folder = Path(__file__).parent / "deepstrf_checkpoints" / name
    arguments = json.loads((folder / "config.json").read_text()) | dict(config)
    arguments = {k: v for k, v in arguments.items() if k not in drop}
    tensors = load_file(folder / "model.safetensors") | weights
    return write(tmp_path, arguments, {k: v for k, v in tensors.items() if k not in drop})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("linear", {"config": {"_model_class": "ICNet"}}, "_model_class='ICNet': must be one of 'Linear'"),
        ("linear", {"drop": ["_model_class"]}, "_model_class=None"),
        ("linear", {"config": {"token_size": [34, 1]}}, "token_size="),
        ("linear", {"config": {"prefiltering": {"prefiltering": "AdapTrans"}}}, "prefiltering="),
        ("linear", {"drop": ["prefiltering"]}, "prefiltering: an unknown module with the weights none"),
        ("linear", {"drop": ["kernel", "readout.strf.kernel.weight"]}, "kernel: an unknown module"),
        ("linear", {"drop": ["readout.strf.kernel.bias"]}, "has no 'readout.strf.kernel.bias'"),
        ("linear", {"drop": ["readout.bn.weight"]}, r"nothing for readout\.norm\.weight"),
        ("linear", {"config": {"out_neurons": 5}}, r"readout\.norm\.|of shape"),
        ("linear", {"config": {"temporal_window_size": 0}}, "temporal_window_size=0"),
        ("linear", {"extra": torch.zeros(2)}, "do not fit config.json: extra"),
        ("linear", {"wav2spec._window": torch.zeros(2)}, "wav2spec: front-ends"),
        ("statenet_gru", {"config": {"rnn_type": "LSTM"}}, "of shape"),
        ("statenet_gru", {"config": {"rnn_type": "xLSTM"}}, "rnn_type='xLSTM'"),
        ("statenet_gru", {"config": {"connectivity": "CONV"}}, "of shape"),
        ("statenet_gru", {"config": {"kernel_size": 7}}, "encoder_layers.0.weights of shape"),
        ("statenet_lmu", {"rnn.cell.A": torch.eye(128)}, "theta=99"),
        ("transformer", {"pos_encoding.div_term": torch.ones(8)}, "pos_encoding"),
        ("transformer", {"config": {"n_layers": 3}}, r"nothing for core\.layers\.3"),
        ("transformer", {"config": {"n_layers": 1}}, r"no core\.layers\.2"),
    ],
)
def test_says_which_part_it_cannot_read(name, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        from_deepstrf(changed(tmp_path, name, **changes))


def test_a_window_of_zero_is_none_there(tmp_path):
    assert from_deepstrf(changed(tmp_path, "transformer", {"context_window": 0})).memory == float("inf")


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        from_deepstrf(tmp_path)


def test_precision_is_kept(tmp_path):
    folder = CHECKPOINTS[0].parent / "linear"
    tensors = {
        k: v.double() if v.is_floating_point() else v for k, v in load_file(folder / "model.safetensors").items()
    }
    model = from_deepstrf(write(tmp_path, json.loads((folder / "config.json").read_text()), tensors))
    assert model(torch.randn(1, 1, 20, 30, dtype=torch.float64)).dtype == torch.float64
