"""Mamba: against mambapy's block with the same weights, the scan against its recurrence, gradients, memory."""

import pytest
import torch
from mambapy.mamba import MambaBlock, MambaConfig
from torch.autograd import gradcheck

from strflab.layers import Mamba
from strflab.layers.mamba import BLOCK, selective_scan


def plain_scan(u, delta, A, B, C, h):
    """(T, B, E), (T, B, E), (E, N), (T, B, N), (T, B, N), (B, E, N) -> (T, B, E) and the last h."""
    frames = []
    for u_t, delta_t, B_t, C_t in zip(u, delta, B, C):
        h = torch.exp(delta_t[..., None] * A) * h + (delta_t * u_t)[..., None] * B_t[:, None]
        frames.append((h * C_t[:, None]).sum(-1))
    return torch.stack(frames), h


def scan_inputs(n_frames, n_clips=2, n_channels=3, n_states=2):
    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    inputs = (
        random(n_frames, n_clips, n_channels),
        random(n_frames, n_clips, n_channels).exp(),
        -random(n_channels, n_states).exp(),
        random(n_frames, n_clips, n_states),
        random(n_frames, n_clips, n_states),
        random(n_clips, n_channels, n_states),
    )
    return tuple(v.requires_grad_() for v in inputs)


@pytest.mark.parametrize("options", [{}, {"state_size": 4, "expand": 3, "kernel_size": 1}])
def test_it_is_the_block_of_mambapy(options):
    torch.manual_seed(0)
    ours = Mamba(20, **options)
    names = {"state_size": "d_state", "expand": "expand_factor", "kernel_size": "d_conv"}
    theirs = MambaBlock(MambaConfig(d_model=20, n_layers=1, **{names[k]: v for k, v in options.items()}))
    theirs.load_state_dict(ours.block.state_dict())
    x = torch.randn(3, 100, 20)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for a, b in zip(ours.block.parameters(), theirs.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_steps_are_those_of_mambapy():
    block = Mamba(8)
    state, cache = None, (None, torch.zeros(2, 16, 3))
    for frame in torch.randn(10, 2, 8):
        y, state = block.stream(frame[:, None], state)
        expected, cache = block.block.step(frame, cache)
        torch.testing.assert_close(y[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_frames", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_scan_is_the_recurrence(n_frames):
    inputs = scan_inputs(n_frames)
    torch.testing.assert_close(selective_scan(*inputs), plain_scan(*inputs))


def test_scan_gradients():
    assert gradcheck(selective_scan, scan_inputs(BLOCK + 3), fast_mode=True)
    inputs = scan_inputs(2 * BLOCK + 3)

    def gradients(scan):
        y, h = scan(*inputs)
        return torch.autograd.grad(y.square().sum() + h.square().sum(), inputs)

    torch.testing.assert_close(gradients(selective_scan), gradients(plain_scan))


def test_scan_operator_is_sound():
    h = scan_inputs(BLOCK + 3)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.strflab.selective_scan.default, h, test_utils=checks)


def test_states_are_kept_a_block_at_a_time():
    """What the backward pass needs grows with the frames, not with the frames times the states."""
    n_frames, kept = 20 * BLOCK, []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*scan_inputs(n_frames, n_channels=32, n_states=16))
    assert sum(kept) < n_frames * 2 * 32 * 16 / 4


@pytest.mark.parametrize(
    ("options", "named"),
    [({"state_size": 0}, "state_size=0"), ({"expand": 1.5}, "expand=1.5"), ({"kernel_size": -1}, "kernel_size=-1")],
)
def test_wrong_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        Mamba(4, **options)
