"""The compiled kernels: each against torch's path in float64, for odd sizes and numbers of threads; and without."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradgradcheck

from strflab.layers import (
    GRU,
    LMU,
    LSTM,
    RNN,
    S4D,
    AdapTrans,
    CausalConv2dStack,
    CausalLayerNorm,
    CausalSTRFConv,
    LearnableExponentialDecay,
    Mamba,
    ParametricSoftplus,
    native,
)
from strflab.layers.convolve import convolve
from strflab.layers.decay import blockwise_scan, exponential_scan, recursive_scan
from strflab.layers.s4 import fft_convolution
from strflab.models import DNet, LinearNonlinear

needs_kernels = pytest.mark.skipif(native.library() is None, reason="needs a C compiler")

LAYERS = {
    "GRU": (lambda: GRU(13), (37, 13)),
    "LSTM": (lambda: LSTM(13), (37, 13)),
    "RNN": (lambda: RNN(21), (37, 21)),
    "LMU": (lambda: LMU(9, memory_size=20, theta=15), (37, 9)),
    "Mamba": (lambda: Mamba(11), (75, 11)),
    "decay": (lambda: LearnableExponentialDecay(11, 6.0), (11, 1, 150)),
    "norm of channels": (lambda: CausalLayerNorm(10), (10, 3, 70)),
    "norm of bands": (lambda: CausalLayerNorm(7, dim=2), (2, 7, 133)),
    "softplus": (lambda: ParametricSoftplus(13, slope=2.0), (13, 1, 131)),
    "STRF": (lambda: CausalSTRFConv(5, 7, 2, 20), (2, 5, 40)),
    "conv2d": (lambda: CausalConv2dStack(12, 1, 10, (3, 5)), (1, 12, 61)),
    "AdapTrans": (lambda: AdapTrans(6), (1, 6, 90)),
}


def compare(layer, x, threads=1):
    """Output and all gradients of `layer` in float64, without the kernels, and in float32, with them."""
    torch.manual_seed(1)
    along = None
    found = []
    for dtype in (torch.float64, torch.float32):
        layer, sound = layer.to(dtype), x.to(dtype).requires_grad_()
        n = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            y = layer(sound)
            along = torch.randn(y.shape, dtype=torch.float64) if along is None else along
            inputs = [sound, *layer.parameters()]
            gradients = torch.autograd.grad(y, inputs, along.to(dtype), allow_unused=True)
        finally:
            torch.set_num_threads(n)
        found.append([y, *(g for g in gradients if g is not None)])
    return found


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n_clips", [1, 2, 3, 7])
@pytest.mark.parametrize("name", LAYERS)
def test_kernels_give_what_torch_gives(name, n_clips, threads, monkeypatch):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(n_clips, *shape)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ran = []
    run = native.run
    monkeypatch.setattr(native, "run", lambda kernel, *a, **k: (ran.append(kernel), run(kernel, *a, **k)))
    exact, ours = compare(layer, x, threads)
    assert len(ran) >= 2, "the kernels were not at work, forward and backward"
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=2e-5 * float(b.detach().abs().max()))


@needs_kernels
@pytest.mark.parametrize("n_frames", [1, 15, 16, 17, 64, 65])
def test_lengths_at_the_edges_of_blocks(n_frames):
    torch.manual_seed(0)
    for name, (make, shape) in LAYERS.items():
        layer = make()
        time = 0 if isinstance(layer, (GRU, LSTM, RNN, LMU, Mamba)) else len(shape) - 1
        x = torch.randn(2, *shape[:time], n_frames, *shape[time + 1 :])
        for a, b in zip(*compare(layer, x)):
            atol = 1e-4 * float(a.detach().abs().max()) + 1e-6
            torch.testing.assert_close(b.double(), a, rtol=1e-3, atol=atol, msg=name)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_frames", [1030, 1029, 1045, 2100])  # a convolution's frames in chunks of 1024
@pytest.mark.parametrize("name", ["STRF", "conv2d"])
def test_sounds_longer_than_a_chunk(name, n_frames, threads):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    for a, b in zip(*compare(make(), torch.randn(2, *shape[:-1], n_frames), threads)):
        torch.testing.assert_close(b.double(), a, rtol=1e-3, atol=1e-4 * float(a.detach().abs().max()) + 1e-6)


@needs_kernels
def test_elementary_functions_to_float32():
    """As accurate as torch's own over all inputs that matter, and NaN stays NaN."""
    x = torch.cat([torch.linspace(-100, 100, 20001), torch.logspace(-30, 0, 1000), -torch.logspace(-30, 0, 1000)])
    softplus = ParametricSoftplus(1, signed=True, baseline=0.0)
    exact = F.softplus(softplus.slope.double() * x.double()) / softplus.slope.double()
    found = softplus(x.view(1, 1, 1, -1)).flatten()
    torch.testing.assert_close(found.double(), exact, rtol=4e-7, atol=1e-30)
    rnn = RNN(1)
    with torch.no_grad():
        rnn.weight_ih.fill_(1.0), rnn.weight_hh.zero_(), rnn.bias_ih.zero_(), rnn.bias_hh.zero_()
    torch.testing.assert_close(rnn(x.view(1, -1, 1)).flatten().double(), x.double().tanh(), rtol=3e-7, atol=1e-37)
    for layer, shape in ((softplus, (1, 1, 1, 20)), (rnn, (1, 20, 1)), (GRU(1), (1, 20, 1)), (Mamba(2), (1, 20, 2))):
        assert layer(torch.full(shape, torch.nan)).isnan().all()


def test_second_derivatives_are_those_of_torch():
    """What is differentiated twice goes through torch, in float32 too."""
    torch.manual_seed(0)
    model = LinearNonlinear(5, 3, 2)
    x = torch.randn(2, 1, 5, 40)

    def penalty(model, x):
        gradient = torch.autograd.grad(model(x).square().sum(), list(model.parameters()), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradient), list(model.parameters()))

    for model in (LinearNonlinear(5, 3, 2), DNet(5, 3, 2, n_hidden=4)):
        found = penalty(model, x)
        for a, b in zip(found, penalty(model.double(), x.double())):
            torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * float(b.detach().abs().max()) + 1e-5)
    inputs = (torch.randn(2, 3, 12, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64))
    assert gradgradcheck(fft_convolution, tuple(v.requires_grad_() for v in inputs))
    backbone = S4D(3).double()
    assert gradgradcheck(backbone, (torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True),))


@needs_kernels
def test_transforms_of_torch_func_go_through_torch():
    model, x = DNet(5, 3, 2, n_hidden=4), torch.randn(3, 2, 1, 5, 40)
    torch.testing.assert_close(torch.func.vmap(model)(x), torch.stack([model(v) for v in x]))
    by_column = torch.func.jacfwd(lambda v: model(v).sum((0, 2)))(x[0])
    by_row = torch.func.jacrev(lambda v: model(v).sum((0, 2)))(x[0])
    torch.testing.assert_close(by_column, by_row)


def test_what_records_operations_sees_those_of_torch():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    model, x = DNet(5, 3, 2, n_hidden=4).eval(), torch.randn(2, 1, 5, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another tracer
        traced = torch.jit.trace(model, x)
    other = torch.randn(2, 1, 5, 40)
    torch.testing.assert_close(traced(other), model(other), rtol=1e-5, atol=1e-6)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() > 0
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert model(torch.empty(2, 1, 5, 40)).shape == (2, 2, 1, 40)


@pytest.mark.parametrize("n_frames", [16, 50, 53])
@pytest.mark.parametrize(
    ("n_in", "n_out", "kernel"), [(10, 10, (3, 9)), (1, 10, (3, 9)), (3, 7, (2, 5)), (20, 3, (2, 1)), (2, 31, (1, 2))]
)
def test_the_convolution_is_the_convolution(n_in, n_out, kernel, n_frames):
    torch.manual_seed(0)
    x = torch.randn(2, n_in, 6, n_frames + kernel[1] - 1)
    weight, bias = torch.randn(n_out, n_in, *kernel), torch.randn(n_out)
    for sound in (x, x.to(memory_format=torch.channels_last)):
        inputs = [v.clone().requires_grad_() for v in (sound, weight, bias)]
        exact = [v.detach().double().requires_grad_() for v in inputs]
        found, expected = convolve(*inputs), F.conv2d(*exact)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
        along = torch.randn_like(found)
        for a, b in zip(
            torch.autograd.grad(found, inputs, along), torch.autograd.grad(expected, exact, along.double())
        ):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.detach().abs().max()))
    assert convolve(x, weight).shape == F.conv2d(x, weight).shape


def test_three_scans_are_one():
    x, a, initial = torch.randn(2, 5, 200), torch.rand(5), torch.randn(2, 5)
    exact = recursive_scan(x.double(), a.double(), initial.double())
    for scan in (exponential_scan, blockwise_scan, recursive_scan):
        torch.testing.assert_close(scan(x, a, initial).double(), exact, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_they_can_be_switched_off(monkeypatch):
    layer, x = GRU(5), torch.randn(2, 20, 5)
    y = layer(x)
    monkeypatch.setattr(native, "enabled", False)
    assert not native.usable(x)
    torch.testing.assert_close(layer(x), y, rtol=1e-5, atol=1e-6)


SCRIPT = """
import torch
from strflab.layers import GRU, native
GRU(3)(torch.zeros(1, 20, 3))
print(native.library() is not None)
"""


def script(tmp_path, **environment):
    # warnings as errors would hide what a user sees
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"STRFLAB_CACHE": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
    )


def test_without_a_compiler_torch_does_the_work(tmp_path):
    done = script(tmp_path, CC="no-such-compiler")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
def test_a_compiler_that_fails_is_reported_once(tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'out of order' >&2\nexit 1\n")
    compiler.chmod(0o755)
    done = script(tmp_path, CC=str(compiler))
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert done.stderr.count("the compiled kernels are not used") == 1
    assert "out of order" in done.stderr
    assert not list(tmp_path.glob("native/*.so"))


@needs_kernels
def test_compiled_once_and_kept(tmp_path):
    assert script(tmp_path).stdout == "True\n"
    (library,) = tmp_path.glob("native/*.so")
    before = library.stat().st_mtime_ns
    assert script(tmp_path).stdout == "True\n"
    assert library.stat().st_mtime_ns == before


@needs_kernels
def test_a_forked_process_has_threads_of_its_own():
    torch.set_num_threads(2)
    GRU(3)(torch.zeros(4, 20, 3))
    child = os.fork()
    if child == 0:
        GRU(3)(torch.zeros(4, 20, 3))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
